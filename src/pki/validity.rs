//! From when until when a certificate is valid.

use std::time::Duration;

use rcgen::CertificateParams;

/// Certificates are valid from this long before they are made, for devices whose clock is a little behind.
pub(super) const BACKDATE: Duration = Duration::from_secs(3_600);

/// First and last moment of validity, since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First.
    pub from: Duration,
    /// Last.
    pub until: Duration,
}

impl Validity {
    /// From an hour before `now`, for so long after `now`.
    #[must_use]
    pub fn new(now: Duration, valid_for: Duration) -> Self {
        let second = |t: Duration| Duration::from_secs(t.as_secs());
        Self {
            from: second(now.saturating_sub(BACKDATE)),
            until: second(now.saturating_add(valid_for)),
        }
    }

    /// What of this lies within the issuer's: nothing that is signed may outlive what vouches for it. `None` if nothing does.
    #[must_use]
    pub fn within(self, issuer: Self) -> Option<Self> {
        let cut = Self {
            from: self.from.max(issuer.from),
            until: self.until.min(issuer.until),
        };
        (cut.from < cut.until).then_some(cut)
    }

    pub(super) fn put(self, params: &mut CertificateParams) {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + self.from;
        params.not_after = epoch + self.until;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outlives_its_issuer() {
        let s = Duration::from_secs;
        let issuer = Validity::new(s(100_000), s(1_000));
        assert_eq!((issuer.from, issuer.until), (s(96_400), s(101_000)));
        let long = Validity::new(s(100_500), s(9_000));
        assert_eq!(
            long.within(issuer),
            Some(Validity {
                from: s(96_900),
                until: s(101_000)
            })
        );
        let short = Validity::new(s(100_500), s(10));
        assert_eq!(short.within(issuer), Some(short));
        assert_eq!(Validity::new(s(200_000), s(10)).within(issuer), None);
    }
}
