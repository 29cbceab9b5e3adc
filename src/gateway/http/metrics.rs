//! `GET /metrics`: the counters for Prometheus, as OpenMetrics 1.0 text.
//!
//! Names follow Prometheus' conventions: a prefix, the base unit, `_total` for what only grows. Nothing a device sends becomes a label;
//! the only labels without a fixed set of values are groups, of which there are at most
//! [`GROUPS_MAX`](crate::gateway::status::ledger::GROUPS_MAX) and one for the rest. There is no label for a device: that is what
//! the page and the log are for.
//!
//! | name | type | labels |
//! |---|---|---|
//! | `onyx_gateway_build_info` | info | `version` |
//! | `onyx_gateway_subscribers` | gauge | |
//! | `onyx_gateway_connections`, `…_connections_limit` | gauge | `state`: `entering`, `relayed` |
//! | `onyx_gateway_connections_accepted_total`, `…_relayed_total` | counter | |
//! | `onyx_gateway_connections_refused_total` | counter | `reason`: [`KEYS`] |
//! | `onyx_gateway_connections_ended_total` | counter | `reason`: [`ENDS`] |
//! | `onyx_gateway_mqtt_packets_total`, `…_mqtt_bytes_total` | counter | `direction`: `up` (from devices), `down` |
//! | `onyx_gateway_group_…` | as above | `group` and the labels above |
//! | `onyx_gateway_upstream_handshakes_total` | counter | `tls`: `1.2`, `1.3`, `none`; `kind`: `full`, `resumed` |
//! | `onyx_gateway_upstream_handshake_seconds` | histogram | `kind` |
//! | `onyx_gateway_slow_addresses` | gauge | |
//! | `onyx_gateway_store_up`, `…_store_generation` | gauge | |
//! | `onyx_gateway_store_errors_total` | counter | |
//! | `onyx_gateway_credentials` | gauge | `days_left`: a class, or `unknown` |
//! | `onyx_gateway_credential_soonest_expiry_timestamp_seconds` | gauge | |
//! | `process_…` | as every Prometheus client names them | |

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::App;
use crate::gateway::refusal::KEYS;
use crate::gateway::status::expiry::Found;
use crate::gateway::status::handshake::{BUCKETS, Times};
use crate::gateway::status::health::StoreState;
use crate::gateway::status::ledger::{Counts, Tally};
use crate::gateway::status::process::Process;
use crate::gateway::status::{ENDS, Status, Tls};

/// What OpenMetrics 1.0 says its type is.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where the counters are.
pub(super) const PATH: &str = "/metrics";

/// The route; it needs the token unless `api.open_metrics` says otherwise, which is its caller's business.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route(PATH, get(answer))
}

async fn answer(State(app): State<Arc<App>>) -> Response {
    match render(&app.status) {
        Ok(text) => (
            [
                (header::CONTENT_TYPE, CONTENT_TYPE),
                (header::CACHE_CONTROL, "no-store"),
            ],
            text,
        )
            .into_response(),
        Err(fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// All metrics as they are now.
///
/// # Errors
/// None that is known: a `String` takes what is written to it.
pub fn render(status: &Status) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Now {
        counts: status.counts(),
        process: Process::now(),
        store: status.store(),
        found: status.expiries().last(),
        subscribers: status.subscribers(),
        places: status.places(),
        slow: status.slow_addresses(),
        now: status.clock().system(),
        uptime: status.uptime(),
    }));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// Everything at the moment of one scrape.
#[derive(Debug)]
struct Now {
    counts: Counts,
    process: Process,
    store: Option<StoreState>,
    found: Option<Arc<Found>>,
    subscribers: usize,
    places: Option<usize>,
    slow: Option<usize>,
    /// Unix time.
    now: std::time::Duration,
    uptime: std::time::Duration,
}

type Labels = Vec<(&'static str, String)>;

/// Writes metrics one after another.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn family<M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: impl IntoIterator<Item = (Labels, M)>,
    ) -> fmt::Result {
        let mut values = values.into_iter().peekable();
        let Some(kind) = values.peek().map(|(_, m)| m.metric_type()) else {
            return Ok(());
        };
        let mut encoder = self.0.encode_descriptor(name, help, unit, kind)?;
        for (labels, metric) in values {
            if labels.is_empty() {
                return metric.encode(encoder);
            }
            metric.encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let values = values.into_iter().map(|(l, n)| (l, ConstCounter::new(n)));
        self.family(name, help, unit, values)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counters(name, help, None, [(Labels::new(), value)])
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let values = values.into_iter().map(|(l, n)| (l, ConstGauge::new(n)));
        self.family(name, help, unit, values)
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: Option<u64>) -> fmt::Result {
        self.gauges(name, help, unit, value.map(|n| (Labels::new(), n)))
    }
}

fn label(key: &'static str, value: &str) -> Labels {
    vec![(key, value.to_owned())]
}

fn by_key<'a>(keys: &'a [&'static str], counts: &'a [u64]) -> impl Iterator<Item = (Labels, u64)> + 'a {
    keys.iter().zip(counts).map(|(key, n)| (label("reason", key), *n))
}

/// A histogram that was counted elsewhere; [`prometheus_client`]'s own can only be counted in.
struct Histogram(Times);

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let beyond = self.0.count - self.0.buckets.iter().sum::<u64>();
        let ends = BUCKETS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = ends.zip(self.0.buckets.into_iter().chain([beyond])).collect();
        encoder.encode_histogram::<NoLabelSet>(self.0.sum, self.0.count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl Collector for Now {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.connections(&mut page)?;
        self.groups(&mut page)?;
        self.handshakes(&mut page)?;
        self.knowledge(&mut page)?;
        self.process(&mut page)
    }
}

/// One figure of each group.
type OfGroup = (&'static str, &'static str, fn(&Tally) -> u64);

impl Now {
    fn connections(&self, page: &mut Page<'_>) -> fmt::Result {
        let c = &self.counts;
        let version = prometheus_client::metrics::info::Info::new(label("version", env!("CARGO_PKG_VERSION")));
        page.family(
            "onyx_gateway_build",
            "The version of the program",
            None,
            [(Labels::new(), version)],
        )?;
        let open = [("entering", c.open.saturating_sub(c.relaying)), ("relayed", c.relaying)];
        page.gauges(
            "onyx_gateway_connections",
            "Connections of devices that are open now, by whether they are through to upstream",
            None,
            open.map(|(state, n)| (label("state", state), n as u64)),
        )?;
        let places = self.places.map(|p| p as u64);
        page.gauge(
            "onyx_gateway_connections_limit",
            "Connections that may be open at once (listen.max_connections)",
            None,
            places,
        )?;
        page.counter(
            "onyx_gateway_connections_accepted",
            "Connections of devices that were accepted",
            c.accepted,
        )?;
        page.counter(
            "onyx_gateway_connections_relayed",
            "Connections that got through to upstream",
            c.relayed,
        )?;
        page.counters(
            "onyx_gateway_connections_refused",
            "Connections that did not get through",
            None,
            by_key(&KEYS, &c.refused),
        )?;
        page.counters(
            "onyx_gateway_connections_ended",
            "Relayed connections that ended",
            None,
            by_key(&ENDS, &c.ended),
        )?;
        let ways = [("up", c.up), ("down", c.down)];
        page.counters(
            "onyx_gateway_mqtt_packets",
            "Whole MQTT packets relayed; up is from devices",
            None,
            ways.map(|(d, w)| (label("direction", d), w.packets)),
        )?;
        page.counters(
            "onyx_gateway_mqtt",
            "Bytes of MQTT relayed, without TLS and TCP; up is from devices",
            Some(&Unit::Bytes),
            ways.map(|(d, w)| (label("direction", d), w.bytes)),
        )
    }

    fn groups(&self, page: &mut Page<'_>) -> fmt::Result {
        let groups = || self.counts.groups.iter();
        let of = |f: fn(&Tally) -> u64| groups().map(move |(name, t)| (label("group", name), f(t)));
        page.gauges(
            "onyx_gateway_group_connections",
            "Open connections of known devices",
            None,
            of(|t| t.open),
        )?;
        let counters: [OfGroup; 2] = [
            (
                "onyx_gateway_group_connections_relayed",
                "Connections that got through to upstream",
                |t| t.relayed,
            ),
            (
                "onyx_gateway_group_connections_refused",
                "Connections of known devices that did not get through",
                |t| t.refused,
            ),
        ];
        for (name, help, f) in counters {
            page.counters(name, help, None, of(f))?;
        }
        let ways = |f: fn(&Tally) -> [u64; 2]| {
            groups().flat_map(move |(name, t)| {
                let each = ["up", "down"].into_iter().zip(f(t));
                each.map(move |(d, n)| (vec![("group", name.clone()), ("direction", d.to_owned())], n))
            })
        };
        let packets = ways(|t| [t.up.packets, t.down.packets]);
        page.counters(
            "onyx_gateway_group_mqtt_packets",
            "Whole MQTT packets relayed; up is from devices",
            None,
            packets,
        )?;
        let bytes = ways(|t| [t.up.bytes, t.down.bytes]);
        page.counters(
            "onyx_gateway_group_mqtt",
            "Bytes of MQTT relayed; up is from devices",
            Some(&Unit::Bytes),
            bytes,
        )
    }

    fn handshakes(&self, page: &mut Page<'_>) -> fmt::Result {
        let all = &self.counts.handshakes;
        let kind = |resumed: bool| if resumed { "resumed" } else { "full" };
        let labels = |tls: &str, kind: &str| vec![("tls", tls.to_owned()), ("kind", kind.to_owned())];
        let encrypted = all
            .each()
            .map(|(version, resumed, t)| (labels(version.number(), kind(resumed)), t.count));
        page.counters(
            "onyx_gateway_upstream_handshakes",
            "Ways that were opened to upstream, by TLS version and whether a session was resumed",
            None,
            encrypted.chain([(labels("none", "full"), all.plain)]),
        )?;
        let of_kind = |resumed: bool| {
            let mut sum = Times::default();
            for (.., times) in all.each().filter(|(_, r, _)| *r == resumed) {
                sum.merge(times);
            }
            (label("kind", kind(resumed)), Histogram(sum))
        };
        debug_assert!(Tls::ALL.len() * 2 == all.each().count());
        page.family(
            "onyx_gateway_upstream_handshake",
            "How long TLS handshakes with upstream took, without TCP and MQTT",
            Some(&Unit::Seconds),
            [of_kind(false), of_kind(true)],
        )
    }

    fn knowledge(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge(
            "onyx_gateway_subscribers",
            "Subscribers that are known",
            None,
            Some(self.subscribers as u64),
        )?;
        let slow = self.slow.map(|n| n as u64);
        page.gauge(
            "onyx_gateway_slow_addresses",
            "Addresses that must wait because they guessed",
            None,
            slow,
        )?;
        if let Some(store) = &self.store {
            let up = u64::from(store.silent_since.is_none() && store.generation.is_some());
            page.gauge(
                "onyx_gateway_store_up",
                "Whether the store answered when it was last asked",
                None,
                Some(up),
            )?;
            page.gauge(
                "onyx_gateway_store_generation",
                "The number of the store's last change",
                None,
                store.generation,
            )?;
            page.counter(
                "onyx_gateway_store_errors",
                "Times that the store did not answer the watch",
                store.errors,
            )?;
        }
        if let Some(found) = &self.found {
            let classes = found
                .classes(self.now)
                .into_iter()
                .map(|(class, n)| (label("days_left", class), n));
            page.gauges(
                "onyx_gateway_credentials",
                "Credentials by the days their certificate has left",
                None,
                classes,
            )?;
            let soonest = found.soonest().map(|t| t.as_secs());
            let name = "onyx_gateway_credential_soonest_expiry_timestamp";
            page.gauge(
                name,
                "When the first certificate ends, Unix time",
                Some(&Unit::Seconds),
                soonest,
            )?;
        }
        Ok(())
    }

    fn process(&self, page: &mut Page<'_>) -> fmt::Result {
        let p = &self.process;
        let cpu = p.cpu.map(|c| (Labels::new(), ConstCounter::new(c.as_secs_f64())));
        page.family("process_cpu", "CPU time, user and system", Some(&Unit::Seconds), cpu)?;
        page.gauge("process_resident_memory", "Resident memory", Some(&Unit::Bytes), p.rss)?;
        page.gauge("process_open_fds", "Open file descriptors", None, p.fds)?;
        page.gauge("process_max_fds", "File descriptors that may be open", None, p.fds_max)?;
        page.gauge("process_threads", "Threads", None, p.threads)?;
        let start = self.now.saturating_sub(self.uptime);
        let start = ConstGauge::new(start.as_secs_f64());
        page.family(
            "process_start_time",
            "When the gateway started, Unix time",
            Some(&Unit::Seconds),
            [(Labels::new(), start)],
        )
    }
}

#[cfg(test)]
mod tests;
