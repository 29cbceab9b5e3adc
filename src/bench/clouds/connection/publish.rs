//! What becomes of a PUBLISH.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::End;
use super::serve::{Connection, fault_end, too_much};
use crate::bench::clouds::backend::{Handling, Received};
use crate::bench::clouds::broker::Message;
use crate::bench::clouds::codec::{Out, Publish, Version};
use crate::bench::clouds::fault::{MqttFault, Step};
use crate::bench::clouds::journal::What;
use crate::bench::clouds::policy::{Look, Look5, Publication, Refusal, mqtt, reason};
use crate::bench::clouds::rate::Verdict;
use crate::bench::clouds::wire::Wire;
use crate::bench::clouds::{topic, visit};

impl Connection<'_> {
    pub(super) async fn publish(&mut self, wire: &mut Wire, mut publish: Publish) -> Result<(), End> {
        visit::step(Step::Publish).await;
        self.publishes = self.publishes.saturating_add(1);
        let count = self.publishes;
        if let Some(fault) = self.endpoint.fault.take(|f| f == MqttFault::CutAfter(count)) {
            return Err(fault_end(fault));
        }
        self.resolve_alias(&mut publish)?;
        match self.meter.publish(self.endpoint.clock.monotonic()) {
            Verdict::Discard => {
                let detail = format!("a message for {:?} came too early", publish.topic);
                self.report(Refusal::new(&mqtt::RATE, Look::Silence, detail), Look5::Silence);
                return self.owe(publish.qos);
            }
            Verdict::Close => return Err(too_much(format!("a message for {:?}", publish.topic)).into()),
            Verdict::Take | Verdict::Wait(_) => {}
        }
        match self.take(&publish) {
            Ok(()) => self.acknowledge(wire, &publish, reason::SUCCESS).await,
            Err(refusal) => match (self.version, refusal.look, refusal.look_5) {
                (Version::V4, Look::Silence, _) | (Version::V5, _, Look5::Silence) => {
                    self.report(refusal, Look5::Silence);
                    self.owe(publish.qos)
                }
                (Version::V5, _, Look5::PubAck(code)) if publish.qos > 0 => {
                    self.report(refusal, Look5::PubAck(code));
                    self.acknowledge(wire, &publish, code).await
                }
                _ => Err(refusal.into()),
            },
        }
    }

    /// A message of QoS 1 is not acknowledged; the device may not have more of those than the receive maximum.
    fn owe(&mut self, qos: u8) -> Result<(), End> {
        self.owed += usize::from(qos > 0);
        match self.endpoint.policy.five() {
            Some(five) if self.version == Version::V5 && self.owed > usize::from(five.receive_maximum) => {
                let detail = format!("{} messages are under way, {} may be", self.owed, five.receive_maximum);
                let refusal = Refusal::new(&mqtt::RECEIVE_MAXIMUM, Look::Close, detail);
                Err(refusal.in_5(Look5::Disconnect(reason::RECEIVE_MAXIMUM)).into())
            }
            _ => Ok(()),
        }
    }

    async fn acknowledge(&mut self, wire: &mut Wire, publish: &Publish, code: u8) -> Result<(), End> {
        if publish.qos == 0 {
            return Ok(());
        }
        if self.swallowed(MqttFault::NoPuback).await {
            return self.owe(publish.qos);
        }
        wire.send(&Out::PubAck(publish.id, code)).await?;
        Ok(())
    }

    fn resolve_alias(&mut self, publish: &mut Publish) -> Result<(), Refusal> {
        let Some(alias) = publish.alias else { return Ok(()) };
        let most = self.endpoint.policy.five().map_or(0, |f| f.topic_alias_maximum);
        let refused = |detail: String| {
            Refusal::new(&mqtt::TOPIC_ALIAS, Look::Close, detail).in_5(Look5::Disconnect(reason::ALIAS_INVALID))
        };
        if alias == 0 || alias > most {
            return Err(refused(format!("the alias is {alias}, allowed are 1 to {most}")));
        }
        if !publish.topic.is_empty() {
            self.aliases.insert(alias, publish.topic.clone());
            return Ok(());
        }
        // MQTT 5 section 3.3.2.3.4 calls an unknown alias a protocol error.
        let known = self.aliases.get(&alias).ok_or_else(|| {
            refused(format!("alias {alias} is unknown")).in_5(Look5::Disconnect(reason::PROTOCOL_ERROR))
        })?;
        publish.topic.clone_from(known);
        Ok(())
    }

    /// Takes a message, or says why not.
    fn take(&mut self, publish: &Publish) -> Result<(), Refusal> {
        let endpoint = self.endpoint;
        if !topic::is_name(&publish.topic) {
            let detail = format!("{:?} is no topic name", publish.topic);
            let refusal = Refusal::new(&mqtt::TOPIC, Look::Close, detail);
            return Err(refusal.in_5(Look5::Disconnect(reason::TOPIC_INVALID)));
        }
        let publication = Publication {
            topic: &publish.topic,
            qos: publish.qos,
            payload: publish.payload.len(),
        };
        endpoint.policy.publish(&self.session, publication)?;
        let keep = publish.retain && endpoint.policy.retain(&self.session, publication)?;
        let now = endpoint.clock.monotonic();
        let message = Message {
            topic: publish.topic.as_str().into(),
            // A copy of its own size: the read buffer is not kept alive by what waits in queues.
            payload: Bytes::copy_from_slice(&publish.payload),
            qos: publish.qos,
            retain: publish.retain,
            from: Some(self.session.client_id.as_str().into()),
            expires: publish.expiry.map(|seconds| now + Duration::from_secs(seconds.into())),
            properties: (!publish.properties.is_empty()).then(|| Arc::new(publish.properties.clone())),
        };
        let received = Received {
            topic: &message.topic,
            payload: &message.payload,
            qos: message.qos,
            retain: publish.retain,
        };
        match endpoint.backend.received(&self.session, received, endpoint.now())? {
            Handling::Message => {
                if keep {
                    endpoint.retain(&message);
                }
                let properties = endpoint.backend.properties(&self.session, received, false);
                endpoint.publish(&self.session, &message, properties);
            }
            Handling::MessageAs(topic) => {
                let message = Message { topic, ..message };
                endpoint.publish(&self.session, &message, None);
            }
            Handling::Request(acts) => {
                endpoint.journal.record(
                    endpoint.cloud,
                    What::Request {
                        client_id: self.session.client_id.clone(),
                        topic: publish.topic.clone(),
                        bytes: message.payload.len(),
                    },
                );
                endpoint.perform(acts);
            }
        }
        Ok(())
    }
}
