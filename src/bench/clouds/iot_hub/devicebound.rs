//! The queue of cloud-to-device messages of one device. No I/O; `now` is monotonic.
//!
//! The hub keeps a message until the device has acknowledged it, it expires, or the device comes with CleanSession 1. A message is handed
//! to the broker when the device is there and subscribed; the broker sends it and, if the session goes on over another connection, sends
//! it again. No more than a window is handed over at a time, so what waits for longer expires here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::bag::{Bag, wire_name};
use super::error::HubError;

/// Messages queued for a device (IoT Hub documentation, quotas: cloud-to-device queue depth).
pub const QUEUE_MAX: usize = 50;
/// Largest message with its properties, in bytes (ibid.).
pub const SIZE_MAX: usize = 64 * 1024;
/// How long a message lives if its sender does not say (IoT Hub documentation, cloud-to-device: default TTL).
pub const LIFE: Duration = Duration::from_secs(3_600);
/// How long it may live at most (ibid.).
pub const LIFE_MAX: Duration = Duration::from_secs(2 * 86_400);
/// Messages handed to the broker without acknowledgement: its own window.
pub const HANDED_MAX: usize = 16;
/// Bytes handed to the broker without acknowledgement: half of what it queues for a session, the rest is for twins and methods.
pub const HANDED_BYTES_MAX: usize = crate::bench::clouds::broker::QUEUE_BYTES_MAX / 2;

/// A message to a device, as the service side gives it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToDevice {
    /// The content.
    pub payload: Bytes,
    /// Its properties; `$.to`, and `$.mid` if it is missing, are added by the hub.
    pub bag: Bag,
    /// How long it lives; [`LIFE`] without.
    pub life: Option<Duration>,
}

impl ToDevice {
    /// A message without properties.
    #[must_use]
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            payload: payload.into(),
            ..Self::default()
        }
    }

    /// Adds a system property, by its wire name or the service side's name for it; an unknown one is refused.
    ///
    /// # Errors
    /// There is no such system property.
    pub fn system(&mut self, name: &str, value: Option<&str>) -> Result<(), HubError> {
        let wire = wire_name(name).ok_or_else(|| HubError::argument(format!("{name:?} is no system property")))?;
        self.bag.system.push((wire.to_owned(), value.map(str::to_owned)));
        Ok(())
    }

    /// Adds a property of the sender's.
    pub fn application(&mut self, name: &str, value: Option<&str>) {
        self.bag.application.push((name.to_owned(), value.map(str::to_owned)));
    }
}

#[derive(Debug)]
struct Entry {
    topic: Arc<str>,
    payload: Bytes,
    expires: Duration,
    handed: bool,
}

impl Entry {
    fn size(&self) -> usize {
        self.topic.len() + self.payload.len()
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Devicebound {
    queue: VecDeque<Entry>,
}

/// The topic prefix of a device's messages.
pub(super) fn prefix(device: &str) -> String {
    format!("devices/{device}/messages/devicebound/")
}

impl Devicebound {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Takes a message; the answer is its id.
    pub(super) fn push(
        &mut self,
        device: &str,
        id: String,
        message: ToDevice,
        now: Duration,
    ) -> Result<String, HubError> {
        let size = message.payload.len() + message.bag.size();
        if size > SIZE_MAX {
            return Err(HubError::too_large(size, SIZE_MAX));
        }
        let life = message.life.unwrap_or(LIFE);
        if life.is_zero() || life > LIFE_MAX {
            let message = format!(
                "a message lives 1 s to {} s, not {} s",
                LIFE_MAX.as_secs(),
                life.as_secs()
            );
            return Err(HubError::argument(message));
        }
        self.expire(now);
        if self.queue.len() >= QUEUE_MAX {
            return Err(HubError::queue_full(QUEUE_MAX));
        }
        let mut bag = message.bag;
        let id = bag.system("$.mid").map_or(id, str::to_owned);
        bag.system.retain(|(k, _)| k != "$.mid" && k != "$.to");
        let to = format!("/devices/{device}/messages/devicebound");
        bag.system.splice(
            0..0,
            [("$.mid".to_owned(), Some(id.clone())), ("$.to".to_owned(), Some(to))],
        );
        let topic = prefix(device) + &bag.write();
        if topic.len() > super::bag::BAG_MAX {
            return Err(HubError::too_large(topic.len(), super::bag::BAG_MAX));
        }
        self.queue.push_back(Entry {
            topic: topic.into(),
            payload: message.payload,
            expires: now + life,
            handed: false,
        });
        Ok(id)
    }

    /// Forgets what nobody fetched in time; what is on its way stays.
    pub(super) fn expire(&mut self, now: Duration) {
        self.queue.retain(|e| e.handed || e.expires > now);
    }

    /// What the broker is to send now. With `acknowledged` false (a QoS 0 subscription) a message is done once it is handed over.
    pub(super) fn hand(&mut self, acknowledged: bool, now: Duration) -> Vec<(Arc<str>, Bytes)> {
        self.expire(now);
        if !acknowledged {
            return self.queue.drain(..).map(|e| (e.topic, e.payload)).collect();
        }
        let handed = self.queue.iter().filter(|e| e.handed);
        let (mut count, mut bytes) = handed.fold((0, 0), |(count, bytes), e| (count + 1, bytes + e.size()));
        let mut out = Vec::new();
        for entry in self.queue.iter_mut().filter(|e| !e.handed) {
            (count, bytes) = (count + 1, bytes + entry.size());
            if count > HANDED_MAX || bytes > HANDED_BYTES_MAX {
                break;
            }
            entry.handed = true;
            out.push((entry.topic.clone(), entry.payload.clone()));
        }
        out
    }

    /// The device has it.
    pub(super) fn acknowledged(&mut self, topic: &str) {
        if let Some(at) = self.queue.iter().position(|e| e.handed && *e.topic == *topic) {
            self.queue.remove(at);
        }
    }

    /// The broker has forgotten the session: what it had was not delivered.
    pub(super) fn take_back(&mut self) {
        for entry in &mut self.queue {
            entry.handed = false;
        }
    }

    /// Everything is dropped; the answer is how many.
    pub(super) fn clear(&mut self) -> usize {
        let count = self.queue.len();
        self.queue.clear();
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Duration = Duration::from_secs(50);

    fn filled(count: usize) -> Devicebound {
        let mut q = Devicebound::default();
        for n in 0..count {
            q.push("d", n.to_string(), ToDevice::new("x"), T0).unwrap();
        }
        q
    }

    #[test]
    fn the_topic_carries_the_properties() {
        let mut q = Devicebound::default();
        let mut m = ToDevice::new("hello");
        m.system("correlation_id", Some("c/1")).unwrap();
        m.system("$.ct", Some("text/plain")).unwrap();
        m.application("null", None);
        m.application("empty", Some(""));
        m.application("a key", Some("v&="));
        assert!(m.system("nonsense", None).is_err());
        assert_eq!(q.push("d:1", "7".into(), m, T0).unwrap(), "7");
        let handed = q.hand(true, T0);
        assert_eq!(
            &*handed[0].0,
            "devices/d:1/messages/devicebound/%24.mid=7&%24.to=%2Fdevices%2Fd%3A1%2Fmessages%2Fdevicebound\
             &%24.cid=c%2F1&%24.ct=text%2Fplain&null&empty=&a%20key=v%26%3D"
        );
    }

    #[test]
    fn the_queue_is_bounded_in_number_and_size() {
        let mut q = filled(QUEUE_MAX);
        let e = q.push("d", "x".into(), ToDevice::new("x"), T0).unwrap_err();
        assert_eq!((e.code, e.status()), (403_004, 403));
        let mut q = filled(0);
        q.push("d", "x".into(), ToDevice::new(vec![0; SIZE_MAX]), T0).unwrap();
        let e = q
            .push("d", "x".into(), ToDevice::new(vec![0; SIZE_MAX + 1]), T0)
            .unwrap_err();
        assert_eq!(e.status(), 413);
        let mut m = ToDevice::new("x");
        m.life = Some(LIFE_MAX + Duration::from_secs(1));
        assert_eq!(q.push("d", "x".into(), m, T0).unwrap_err().status(), 400);
    }

    #[test]
    fn messages_expire_unless_they_are_on_their_way() {
        let mut q = filled(HANDED_MAX + 1);
        assert_eq!(q.hand(true, T0).len(), HANDED_MAX);
        assert_eq!(q.hand(true, T0).len(), 0, "the window is full");
        q.expire(T0 + LIFE);
        assert_eq!(q.len(), HANDED_MAX);
        q.take_back();
        q.expire(T0 + LIFE);
        assert_eq!(q.len(), 0);
    }

    #[test]
    fn large_messages_go_a_few_at_a_time() {
        let mut q = Devicebound::default();
        for n in 0..20 {
            q.push("d", n.to_string(), ToDevice::new(vec![0; SIZE_MAX]), T0)
                .unwrap();
        }
        let handed = q.hand(true, T0);
        assert_eq!(handed.len(), 7, "{HANDED_BYTES_MAX} bytes with topics");
        q.acknowledged(&handed[0].0);
        assert_eq!(q.hand(true, T0).len(), 1);
    }

    #[test]
    fn what_is_acknowledged_makes_room_and_what_is_not_comes_again() {
        let mut q = filled(HANDED_MAX + 1);
        let first = q.hand(true, T0)[0].0.clone();
        q.acknowledged("devices/d/messages/devicebound/other");
        assert_eq!(q.len(), HANDED_MAX + 1);
        q.acknowledged(&first);
        assert_eq!(q.hand(true, T0).len(), 1);
        q.take_back();
        assert_eq!(q.hand(true, T0).len(), HANDED_MAX);
        let mut q = filled(3);
        assert_eq!(q.hand(false, T0).len(), 3);
        assert_eq!(q.len(), 0, "QoS 0 needs no acknowledgement");
        assert_eq!(filled(3).clear(), 3);
    }
}
