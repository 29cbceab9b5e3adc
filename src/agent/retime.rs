//! The time of samples that were measured before anybody confirmed what time it is.
//!
//! A Pi measures from its first second, but its clock says the time of its last shutdown, or 1970, until the network or NTP says better;
//! without a network that may be hours. Such a sample is stored at once, with the unconfirmed time or with none, and noted here by its
//! number and the monotonic moment of its measurement. When it is sent and the time is confirmed by then, its `ts` is computed from
//! that moment. A correction is kept as long as its note, because a sample that is sent twice must say the same twice; a sample that
//! has gone out uncorrected stays so for the same reason.
//!
//! Only in memory, so it ends with the run: what a run leaves uncorrected in the spool is sent as it was stored, and so is, for the
//! second time, what was sent but not acknowledged when the agent was killed. A receiver that drops duplicates by `(spool, seq)` keeps the first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::telemetry::sample::Sample;
use crate::telemetry::spool::{Seq, SpoolError, SpoolHandle};

/// Notes kept: a day of samples each ten seconds. Of more, the oldest samples go as they were stored.
const NOTES_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy)]
enum Note {
    /// Not sent yet; measured at this monotonic moment.
    Measured(Duration),
    /// Sent with this time.
    Corrected(Duration),
}

/// The notes; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Retime {
    clock: Clock,
    notes: Arc<Mutex<BTreeMap<Seq, Note>>>,
}

impl Retime {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            notes: Arc::default(),
        }
    }

    /// Stores samples whose time nobody confirmed.
    pub(super) async fn append(
        &self,
        spool: &SpoolHandle,
        payloads: Vec<Vec<u8>>,
        measured_at: Duration,
    ) -> Result<(), SpoolError> {
        // Held meanwhile: a sample must not be sent before its note is here.
        let mut notes = self.notes.lock().await;
        for seq in spool.append(payloads).await? {
            notes.insert(seq, Note::Measured(measured_at));
        }
        while notes.len() > NOTES_MAX {
            notes.pop_first();
        }
        Ok(())
    }

    /// A sample as it is to be sent.
    pub(super) async fn corrected(&self, seq: Seq, payload: Vec<u8>) -> Vec<u8> {
        let mut notes = self.notes.lock().await;
        let time = match notes.get(&seq) {
            None => return payload,
            Some(Note::Corrected(time)) => *time,
            Some(Note::Measured(at)) => {
                let ago = self.clock.monotonic().saturating_sub(*at);
                match self.clock.now().filter(|(_, source)| source.is_confirmed()) {
                    Some((now, _)) => now.saturating_sub(ago),
                    None => {
                        notes.remove(&seq);
                        return payload;
                    }
                }
            }
        };
        match serde_json::from_slice::<Sample>(&payload) {
            Ok(sample) => {
                notes.insert(seq, Note::Corrected(time));
                Sample {
                    time: Some(time),
                    ..sample
                }
                .encode()
            }
            Err(_) => payload, // not ours: nothing is known of its form
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FLOOR;
    use crate::telemetry::sample::HostReading;
    use crate::telemetry::spool::{Options, Spool, SyncPolicy};

    const DAY: Duration = Duration::from_secs(86_400);

    struct Stage {
        retime: Retime,
        clock: Clock,
        spool: SpoolHandle,
        _dir: tempfile::TempDir,
    }

    fn stage() -> Stage {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            sync: SyncPolicy::EachAppend,
            ..Options::default()
        };
        let clock = Clock::new();
        clock.trust_ntp(false);
        let spool = SpoolHandle::start(Spool::open(dir.path(), options).unwrap(), clock.clone()).unwrap();
        Stage {
            retime: Retime::new(clock.clone()),
            clock,
            spool,
            _dir: dir,
        }
    }

    fn sample(time: Option<Duration>) -> Sample {
        Sample {
            time,
            host: Some(HostReading {
                load1: Some(0.3),
                ..HostReading::default()
            }),
            modem: None,
        }
    }

    async fn sent(s: &Stage) -> Vec<Sample> {
        let mut all = Vec::new();
        for record in s.spool.peek(Seq::FIRST, 100, 1 << 20).await.unwrap() {
            let bytes = s.retime.corrected(record.seq, record.payload.to_vec()).await;
            all.push(serde_json::from_slice(&bytes).unwrap());
        }
        all
    }

    #[tokio::test]
    async fn what_was_measured_too_early_is_sent_with_the_true_time() {
        let s = stage();
        let measured_at = s.clock.monotonic();
        for time in [None, Some(FLOOR + DAY)] {
            let payload = vec![sample(time).encode()];
            s.retime.append(&s.spool, payload, measured_at).await.unwrap();
        }
        let sure = sample(Some(FLOOR + 2 * DAY));
        s.spool.append(vec![sure.encode()]).await.unwrap();
        let truth = FLOOR + 9_000 * DAY;
        assert!(s.clock.heard_network(truth));
        let first = sent(&s).await;
        assert_eq!(first[2], sure, "what was sure is left alone");
        for corrected in &first[..2] {
            let time = corrected.time.unwrap();
            assert!(time <= truth && time + Duration::from_secs(60) > truth, "{time:?}");
            assert_eq!(corrected.host, sure.host);
        }
        // A second time it says the same, whatever the network says by now.
        assert!(s.clock.heard_network(truth + DAY));
        assert_eq!(sent(&s).await, first);
    }

    #[tokio::test]
    async fn what_went_out_uncorrected_stays_so() {
        let s = stage();
        let unsure = sample(Some(FLOOR + DAY));
        let at = s.clock.monotonic();
        s.retime.append(&s.spool, vec![unsure.encode()], at).await.unwrap();
        assert_eq!(
            sent(&s).await,
            std::slice::from_ref(&unsure),
            "nobody confirms the time"
        );
        assert!(s.clock.heard_network(FLOOR + 9_000 * DAY));
        assert_eq!(sent(&s).await, [unsure]);
    }

    #[tokio::test]
    async fn the_notes_are_bounded() {
        let s = stage();
        let at = s.clock.monotonic();
        let payloads = (0..=NOTES_MAX).map(|_| b"{}".to_vec());
        s.retime.append(&s.spool, payloads.collect(), at).await.unwrap();
        assert!(s.clock.heard_network(FLOOR + 9_000 * DAY));
        let all = sent(&s).await;
        assert_eq!(all[0].time, None, "the oldest note went");
        assert!(all[1].time.is_some());
    }
}
