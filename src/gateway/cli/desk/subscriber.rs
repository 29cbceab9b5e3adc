//! `onyx-gateway subscriber`, `onyx-gateway token`.

use std::process::ExitCode;

use anyhow::bail;
use serde_json::{Value, json};

use super::{Common, all_of, reading, show, show_all, word, writing};
use crate::gateway::admin::{PAGE_MAX, subscribers};
use crate::gateway::group::GroupId;
use crate::gateway::store::{Filter, Fingerprint, Named, SEARCH_MAX, SubscriberRecord, TokenChange};
use crate::gateway::subscriber::{Prefix, fingerprint};
use crate::identity::{Iccid, Imei, Imsi};

/// What a subscriber is.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Facts {
    /// The modem; names may need it.
    #[arg(long)]
    imei: Option<Imei>,
    /// Only that modem may use the SIM: client ids must end in the IMEI.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    imei_lock: Option<bool>,
    /// The card, which SORACOM calls SIM id.
    #[arg(long, visible_alias = "sim-id")]
    iccid: Option<Iccid>,
    /// Its group; without one it cannot connect.
    #[arg(long, visible_alias = "group-id")]
    group: Option<GroupId>,
    /// The address or prefix it calls from.
    #[arg(long)]
    source: Option<Prefix>,
    /// SHA-256 of its certificate on the TLS listener.
    #[arg(long, value_name = "HEX")]
    certificate: Option<String>,
    /// For people.
    #[arg(long)]
    name: Option<String>,
    /// Whether it may connect.
    #[arg(long, value_name = "BOOL")]
    enabled: Option<bool>,
}

/// `onyx-gateway subscriber …`
#[derive(Debug, clap::Subcommand)]
pub(in super::super) enum Subscriber {
    /// Add one.
    Add {
        /// Its SIM.
        imsi: Imsi,
        #[command(flatten)]
        facts: Facts,
        #[command(flatten)]
        common: Common,
    },
    /// Change one: what is not named stays.
    Set {
        /// Its SIM.
        imsi: Imsi,
        #[command(flatten)]
        facts: Facts,
        /// Take these away: imei, iccid, group, source, certificate, token.
        #[arg(long, value_delimiter = ',', value_name = "WHAT")]
        without: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Show one.
    Show {
        /// Its SIM.
        imsi: Imsi,
        #[command(flatten)]
        common: Common,
    },
    /// List all, or those that are looked for.
    List {
        /// Of this group alone.
        #[arg(long)]
        group: Option<GroupId>,
        /// Those that may connect (true), or may not (false).
        #[arg(long, value_name = "BOOL")]
        enabled: Option<bool>,
        /// Those whose name begins so.
        #[arg(long, value_name = "PREFIX")]
        name: Option<String>,
        /// Those whose IMSI, name (whatever its case) or SIM id begins so; the first 1,000.
        #[arg(long, value_name = "PREFIX", conflicts_with_all = ["group", "enabled", "name"])]
        search: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Remove one.
    Remove {
        /// Its SIM.
        imsi: Imsi,
        #[command(flatten)]
        common: Common,
    },
}

/// `onyx-gateway token …`
#[derive(Debug, clap::Subcommand)]
pub(in super::super) enum Token {
    /// Make a new token for a subscriber; it is shown once, and the old one ends.
    New {
        /// Its SIM.
        imsi: Imsi,
        #[command(flatten)]
        common: Common,
    },
}

fn subscriber_line(s: &Value) -> String {
    let name = s.get("tags").map(|t| word(t, "name")).unwrap_or_default();
    let known = match (word(s, "source"), s["hasToken"] == true) {
        (source, true) if source == "-" => "by token".to_owned(),
        (source, true) => format!("from {source} with token"),
        (source, false) => format!("from {source}"),
    };
    format!(
        "{} {} group {} {known} {name}",
        word(s, "imsi"),
        word(s, "status"),
        word(s, "groupId")
    )
    .trim_end()
    .to_owned()
}

impl Facts {
    fn certificate(&self) -> anyhow::Result<Option<Fingerprint>> {
        let read = |hex: &String| fingerprint(hex).map_err(|why| anyhow::anyhow!("--certificate {why}"));
        self.certificate.as_ref().map(read).transpose()
    }

    /// What is not named stays.
    fn put_into(&self, record: &mut SubscriberRecord, certificate: Option<Fingerprint>) {
        fn put<T: Clone>(slot: &mut Option<T>, value: &Option<T>) {
            if value.is_some() {
                slot.clone_from(value);
            }
        }
        put(&mut record.imei, &self.imei);
        put(&mut record.iccid, &self.iccid);
        put(&mut record.group, &self.group);
        put(&mut record.source, &self.source);
        put(&mut record.certificate, &certificate);
        record.imei_lock = self.imei_lock.unwrap_or(record.imei_lock);
        record.enabled = self.enabled.unwrap_or(record.enabled);
        if let Some(name) = &self.name {
            record.name.clone_from(name);
        }
    }
}

/// What `--without` takes away.
fn take_away(record: &mut SubscriberRecord, what: &str) -> Option<TokenChange> {
    match what {
        "imei" => record.imei = None,
        "iccid" => record.iccid = None,
        "group" => record.group = None,
        "source" => record.source = None,
        "certificate" => record.certificate = None,
        "token" => return Some(TokenChange::Remove),
        _ => {}
    }
    None
}

const AWAY: [&str; 6] = ["imei", "iccid", "group", "source", "certificate", "token"];

pub(in super::super) fn subscriber(command: Subscriber) -> anyhow::Result<ExitCode> {
    match command {
        Subscriber::Add { imsi, facts, common } => {
            let mut record = subscribers::blank(imsi);
            facts.put_into(&mut record, facts.certificate()?);
            let record = writing(&common.config, async |store, _| {
                Ok(subscribers::add(store, record).await?)
            })?;
            let shown = subscribers::shown(&record);
            let mut line = format!("added {}", subscriber_line(&shown));
            if record.source.is_none() && record.certificate.is_none() {
                line += &format!(
                    "\nhow is it known? give it a --source, or 'onyx-gateway token new {}'",
                    record.imsi
                );
            }
            show(&common, &shown, &line)
        }
        Subscriber::Set {
            imsi,
            facts,
            without,
            common,
        } => {
            if let Some(what) = without.iter().find(|w| !AWAY.contains(&w.as_str())) {
                bail!("--without takes imei, iccid, group, source, certificate and token, not {what:?}");
            }
            let certificate = facts.certificate()?;
            let how = move |record: &mut SubscriberRecord| {
                let mut token = TokenChange::Keep;
                for what in &without {
                    token = take_away(record, what).unwrap_or(token);
                }
                facts.put_into(record, certificate);
                Ok(token)
            };
            let record = writing(&common.config, async |store, _| {
                Ok(subscribers::change(store, &imsi, how).await?)
            })?;
            let shown = subscribers::shown(&record);
            show(&common, &shown, &format!("set {}", subscriber_line(&shown)))
        }
        Subscriber::Show { imsi, common } => {
            let record = reading(&common.config, async |store, _| {
                Ok(subscribers::get(store, &imsi).await?)
            })?;
            let shown = subscribers::shown(&record);
            show(&common, &shown, &serde_json::to_string_pretty(&shown)?)
        }
        Subscriber::List {
            group,
            enabled,
            name,
            search,
            common,
        } => {
            let wanted = Filter {
                group,
                enabled,
                name: name.map(Named::Begins),
            };
            let list = reading(&common.config, async |store, _| match &search {
                Some(begins) => {
                    let (found, more) = store.search_subscribers(begins.trim(), SEARCH_MAX).await?;
                    if more {
                        eprintln!("onyx-gateway: there are more than {SEARCH_MAX}: type more of it");
                    }
                    Ok(found)
                }
                None => {
                    Ok(all_of(async |after| store.find_subscribers(&wanted, after.as_deref(), PAGE_MAX).await).await?)
                }
            })?;
            show_all(&common, list.map(|s| subscribers::shown(&s)), subscriber_line)
        }
        Subscriber::Remove { imsi, common } => {
            writing(&common.config, async |store, _| {
                Ok(store.delete_subscriber(&imsi).await?)
            })?;
            show(
                &common,
                &json!({"removed": imsi.as_str()}),
                &format!("removed subscriber {imsi}"),
            )
        }
    }
}

pub(in super::super) fn token(command: Token) -> anyhow::Result<ExitCode> {
    let Token::New { imsi, common } = command;
    let token = writing(&common.config, async |store, _| {
        Ok(subscribers::new_token(store, &imsi).await?)
    })?;
    let line = format!(
        "{}\n(the MQTT password of {imsi}, with any user name; it is not shown again)",
        token.as_str()
    );
    show(&common, &json!({"imsi": imsi.as_str(), "token": token.as_str()}), &line)
}
