//! What becomes of a SUBSCRIBE and an UNSUBSCRIBE.

use super::End;
use super::serve::Connection;
use crate::bench::clouds::broker::{FILTERS_MAX, Subscription};
use crate::bench::clouds::codec::{Out, Version, Wanted};
use crate::bench::clouds::fault::{MqttFault, Step};
use crate::bench::clouds::journal::What;
use crate::bench::clouds::policy::{Look, Look5, Refusal, mqtt, reason};
use crate::bench::clouds::wire::Wire;
use crate::bench::clouds::{topic, visit};
use crate::mqtt::PacketType;

/// How a filter of a shared subscription begins (MQTT 5 section 4.8.2).
const SHARED: &str = "$share/";
/// The one failure of SUBACK in 3.1.1 (table 3.9).
const FAILURE: u8 = 0x80;

/// What becomes of one filter.
enum Answer {
    /// SUBACK says so.
    Code(u8),
    /// The packet is not answered.
    Nothing,
}

impl Connection<'_> {
    pub(super) async fn subscribe(
        &mut self,
        wire: &mut Wire,
        id: u16,
        filters: &[Wanted],
        identifier: bool,
        user_properties: bool,
    ) -> Result<(), End> {
        visit::step(Step::Subscribe).await;
        if identifier {
            let refusal = Refusal::new(&mqtt::IDENTIFIERS, Look::Close, "a SUBSCRIBE with one");
            return Err(refusal.in_5(Look5::Disconnect(reason::IDENTIFIERS)).into());
        }
        if user_properties {
            if let Err(refusal) = self.endpoint.policy.user_properties(PacketType::Subscribe) {
                let Look5::SubAck(code) = refusal.look_5 else {
                    return Err(refusal.into());
                };
                self.report(refusal, Look5::SubAck(code));
                wire.send(&Out::SubAck(id, vec![code; filters.len()])).await?;
                return Ok(());
            }
        }
        self.endpoint.policy.subscribe_packet(filters.len())?;
        if filters.len() > FILTERS_MAX {
            let detail = format!("a SUBSCRIBE with {} filters", filters.len());
            let refusal = Refusal::new(&mqtt::FULL, Look::Close, detail);
            return Err(refusal.in_5(Look5::Disconnect(reason::QUOTA)).into());
        }
        let mut codes = Vec::new();
        let mut granted = Vec::new();
        for wanted in filters {
            match self.filter(wanted)? {
                Answer::Code(code) => codes.push(code),
                Answer::Nothing => return Ok(()),
            }
            if let Some(&code) = codes.last().filter(|&&code| code < FAILURE) {
                granted.push((wanted.filter.clone(), code));
            }
        }
        if !self.swallowed(MqttFault::NoSuback).await {
            wire.send(&Out::SubAck(id, codes)).await?;
        }
        for (filter, qos) in granted {
            let endpoint = self.endpoint;
            let acts = endpoint.backend.granted(&self.session, &filter, qos, endpoint.now());
            let client_id = self.session.client_id.clone();
            endpoint
                .journal
                .record(endpoint.cloud, What::Subscribed { client_id, filter, qos });
            endpoint.perform(acts);
        }
        Ok(())
    }

    fn filter(&mut self, wanted: &Wanted) -> Result<Answer, End> {
        let filter = wanted.filter.as_str();
        if !topic::is_filter(filter) {
            let detail = format!("{filter:?} is no topic filter");
            let refusal = Refusal::new(&mqtt::TOPIC, Look::Close, detail);
            return Err(refusal.in_5(Look5::Disconnect(reason::FILTER_INVALID)).into());
        }
        if self.version == Version::V5 && filter.starts_with(SHARED) {
            let refusal = Refusal::new(&mqtt::SHARED, Look::Close, format!("the filter is {filter:?}"));
            return Err(refusal.in_5(Look5::Disconnect(reason::SHARED)).into());
        }
        let endpoint = self.endpoint;
        let client_id = &self.session.client_id;
        let (held, known) = endpoint.broker().subscriptions(client_id, filter);
        let held = held - usize::from(known);
        let verdict = endpoint.policy.subscribe(&self.session, filter, wanted.qos, held);
        let refusal = match verdict {
            Ok(qos) => {
                let subscription = Subscription {
                    filter: filter.to_owned(),
                    qos,
                    no_local: wanted.no_local,
                    retain_as_published: wanted.retain_as_published,
                };
                let now = endpoint.clock.monotonic();
                let has_room =
                    endpoint
                        .broker()
                        .subscribe(client_id, self.connection, subscription, wanted.retained, now);
                if has_room {
                    return Ok(Answer::Code(qos));
                }
                Refusal::new(&mqtt::FULL, Look::SubAckFailure, format!("no room for {filter:?}"))
                    .in_5(Look5::SubAck(reason::QUOTA))
            }
            Err(refusal) => refusal,
        };
        match (self.version, refusal.look, refusal.look_5) {
            (Version::V4, Look::SubAckFailure, look_5) => {
                self.report(refusal, look_5);
                Ok(Answer::Code(FAILURE))
            }
            (Version::V5, _, look_5 @ Look5::SubAck(code)) => {
                self.report(refusal, look_5);
                Ok(Answer::Code(code))
            }
            (Version::V4, Look::Silence, look_5) | (Version::V5, _, look_5 @ Look5::Silence) => {
                self.report(refusal, look_5);
                Ok(Answer::Nothing)
            }
            _ => Err(refusal.into()),
        }
    }

    pub(super) async fn unsubscribe(&mut self, wire: &mut Wire, id: u16, filters: &[String]) -> Result<(), End> {
        let codes = filters
            .iter()
            .map(|filter| {
                let known = self
                    .endpoint
                    .broker()
                    .unsubscribe(&self.session.client_id, self.connection, filter);
                let endpoint = self.endpoint;
                endpoint.perform(endpoint.backend.unsubscribed(&self.session, filter, endpoint.now()));
                if known {
                    reason::SUCCESS
                } else {
                    reason::NO_SUBSCRIPTION
                }
            })
            .collect();
        wire.send(&Out::UnsubAck(id, codes)).await?;
        Ok(())
    }
}
