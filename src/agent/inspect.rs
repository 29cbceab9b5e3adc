//! `onyx-agent modem` and `onyx-agent provision`: climbing a part of the ladder once, by hand.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::card::{self, Card, Need};
use super::dongle::reading;
use super::fault::Fault;
use super::ground::Ground;
use super::keeper;
use super::ladder::Rung;
use super::watchdog::Pulses;
use crate::clock::{Clock, rfc3339};
use crate::config::agent::AgentConfig;
use crate::link::External;
use crate::modem::{Modem, ModemError, SimState};

/// Identity and signal of the modem at `port`. Keys are always there; what is not known is null.
///
/// # Errors
/// When the modem cannot be asked.
pub(super) async fn modem(port: &Path) -> Result<Value, ModemError> {
    let mut modem = Modem::open(port).await?;
    let equipment = modem.identify().await?;
    let sim = modem.sim().await?;
    let who = match sim {
        SimState::Ready => Some(modem.subscriber().await?),
        _ => None,
    };
    let registration = modem.registration().await?;
    let operator = modem.operator().await?;
    let signal = modem.signal().await?;
    let time = modem.network_time().await?;
    let r = reading(&signal, operator.as_ref().map(|o| o.name.as_str()), &registration);
    Ok(json!({
        "port": port,
        "manufacturer": equipment.manufacturer,
        "model": equipment.model,
        "firmware": equipment.firmware,
        "imei": equipment.imei.as_str(),
        "sim": sim.to_string(),
        "imsi": who.as_ref().map(|w| w.imsi.as_str()),
        "iccid": who.as_ref().and_then(|w| w.iccid.as_ref()).map(crate::identity::Iccid::as_str),
        "registration": registration.status.to_string(),
        "operator": r.operator,
        "technology": r.technology,
        "band": r.band,
        "rsrp_dbm": r.rsrp_dbm,
        "rsrq_db": r.rsrq_db,
        "rssi_dbm": r.rssi_dbm,
        "sinr_db": r.sinr_db,
        "network_time": time.filter(|t| crate::clock::is_plausible(*t)).map(rfc3339),
    }))
}

/// [`modem`]'s answer for people.
#[must_use]
pub(super) fn render_modem(v: &Value) -> String {
    let text = |key: &str| match &v[key] {
        Value::Null => "unknown".to_owned(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    };
    format!(
        "modem     {} {}, firmware {}, at {}\nIMEI      {}\nSIM       {}\nIMSI      {}\nICCID     {}\n\
         network   {}, {}, {}, band {}\nsignal    RSRP {} dBm, RSRQ {} dB, RSSI {} dBm, SINR {} dB\ntime      {}\n",
        text("manufacturer"),
        text("model"),
        text("firmware"),
        text("port"),
        text("imei"),
        text("sim"),
        text("imsi"),
        text("iccid"),
        text("registration"),
        text("operator"),
        text("technology"),
        text("band"),
        text("rsrp_dbm"),
        text("rsrq_db"),
        text("rssi_dbm"),
        text("sinr_db"),
        text("network_time"),
    )
}

/// Climbs as far as the credentials within a time, fetching them when they are missing or `force` is set.
///
/// # Errors
/// When the time is over; the message names the rung, the cause and the cure.
pub(super) async fn provision(config: AgentConfig, force: bool, within: Duration) -> anyhow::Result<Value> {
    let clock = Clock::new();
    super::timekeeper::prepare(&config, &clock);
    let config = Arc::new(config);
    let until = clock.monotonic().saturating_add(within);
    let need = Need::of(&config);
    let card = card::open(config.clone(), &clock, need, within).await?;
    let left = until.saturating_sub(clock.monotonic());
    let climbed = tokio::time::timeout(left, climb_to_credentials(config, force, &clock, &card)).await;
    let stuck = card::stuck(&card.ladder, need, Rung::Credentials);
    card.close().await;
    climbed.map_err(|_| anyhow::anyhow!("no credentials within {} s. {stuck}", within.as_secs()))
}

async fn climb_to_credentials(config: Arc<AgentConfig>, force: bool, clock: &Clock, card: &Card) -> Value {
    let (who, ladder) = (&card.who, &card.ladder);
    let mut ground = Ground::new(
        config.clone(),
        ladder.clone(),
        clock.clone(),
        Pulses::new(clock.clone()).add("ground"),
        Box::new(External::new(config.link.interface.clone())),
        card.sim.clone(),
        watch::channel(keeper::View::default()).0,
    );
    let (_, ready) = loop {
        // At every try: one that failed has used the wish up, and the old ones would pass for new. But what was fetched is not fetched
        // again because something else is wrong: each costs a certificate.
        if force && !ground.has_new() {
            ground.want_new();
        }
        match ground.climb(who).await {
            Ok(reached) => break reached,
            Err(Fault {
                rung,
                cause,
                cure,
                after,
                ..
            }) => {
                let wait = RETRY.max(after.unwrap_or_default());
                ladder.down(rung, &cause, &cure, wait);
                tokio::time::sleep(wait).await;
            }
        }
    };
    let leaf = ready.credentials.as_ref().map(|c| &c.identity.leaf);
    let names = &ready.endpoint.names;
    json!({
        "source": config.credentials.source(),
        "host": ready.endpoint.host,
        "client_id": names.client_id.as_str(),
        "username": names.username,
        "topic": names.topic.as_str(),
        "common_name": leaf.and_then(|l| l.common_name.clone()),
        "not_before": leaf.map(|l| rfc3339(l.not_before)),
        "not_after": leaf.map(|l| rfc3339(l.not_after)),
        "directory": ready.directory,
        "set": ready.which.word(),
    })
}

/// Pause between two tries of [`provision`].
const RETRY: Duration = Duration::from_secs(5);

/// [`provision`]'s answer for people.
#[must_use]
pub(super) fn render_provision(v: &Value) -> String {
    let text = |key: &str| v[key].as_str().unwrap_or("none").to_owned();
    format!(
        "source       {}\nhost         {}\nclient id    {}\nuser name    {}\ntopic        {}\ncertificate  {}, valid {} to {}\nfiles        {}{}\n",
        text("source"),
        text("host"),
        text("client_id"),
        text("username"),
        text("topic"),
        text("common_name"),
        text("not_before"),
        text("not_after"),
        text("directory"),
        if v["set"] == "candidate" {
            " (new: the next session proves them before they replace the current ones)"
        } else {
            ""
        },
    )
}
