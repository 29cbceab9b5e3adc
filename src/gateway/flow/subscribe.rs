//! SUBSCRIBE and UNSUBSCRIBE: filters rewritten, lowered, refused each in its place, and cut into as many packets as upstream takes.
//!
//! The parts go up one after the other, each when upstream has answered the one before, under the device's own packet identifier, which
//! is free again after each SUBACK. The device gets one SUBACK with a code for each of its filters, in its order. A SUBSCRIBE that needs
//! nothing is not touched, and one that is merely rewritten is not remembered: its SUBACK fits as it comes.

use std::collections::VecDeque;

use bytes::Bytes;

use super::deal::{Deal, Offence};
use crate::gateway::group::policy::{Answer, Matter};
use crate::mqtt::frame::put_length;
use crate::mqtt::properties::{Properties, id};
use crate::mqtt::reader::Reader;
use crate::mqtt::reason;

/// Most SUBSCRIBEs whose answers are being put together, with what stands in line behind them (see [`super::waiting`]).
pub(super) const PENDING_MAX: usize = 16;
/// What a filter of a shared subscription begins with (MQTT 5 section 4.8.2).
const SHARE: &[u8] = b"$share/";

/// What becomes of a SUBSCRIBE or UNSUBSCRIBE.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It goes up as it is.
    AsIs,
    /// This goes up in its place, and what upstream answers fits.
    Instead(Vec<u8>),
    /// This goes up first; the rest waits.
    Parts(Vec<u8>, Pending),
    /// Upstream is not asked.
    Answered(Vec<u8>),
}

/// A SUBSCRIBE whose answer is being put together.
#[derive(Debug)]
pub(super) struct Pending {
    id: u16,
    five: bool,
    /// A code for each of the device's filters; `None` is still to come from upstream.
    codes: Vec<Option<u8>>,
    /// How many of them the part that is upstream asks for.
    asked: usize,
    /// The parts that have not gone up yet, with the number of their filters.
    parts: VecDeque<(Bytes, usize)>,
}

/// What a SUBACK of upstream leads to.
#[derive(Debug)]
pub(super) enum Next {
    /// The next part goes up.
    Ask(Bytes),
    /// The device gets this SUBACK.
    Answer(Vec<u8>),
}

impl Pending {
    pub(super) fn id(&self) -> u16 {
        self.id
    }

    /// Whether there are parts that have not gone up.
    pub(super) fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Bytes that wait here.
    pub(super) fn bytes(&self) -> usize {
        self.codes.len() + self.parts.iter().map(|(b, _)| b.len()).sum::<usize>()
    }

    /// Upstream's codes for the part it was asked for; those it left out count as failures.
    pub(super) fn answered(&mut self, codes: &[u8]) -> Next {
        let mut theirs = codes.iter().copied().chain(std::iter::repeat(reason::UNSPECIFIED));
        let open = self.codes.iter_mut().filter(|c| c.is_none());
        for (slot, code) in open.take(self.asked).zip(&mut theirs) {
            *slot = Some(code);
        }
        if let Some((part, filters)) = self.parts.pop_front() {
            self.asked = filters;
            return Next::Ask(part);
        }
        let codes: Vec<u8> = self.codes.iter().map(|c| c.unwrap_or(reason::UNSPECIFIED)).collect();
        Next::Answer(suback(self.id, self.five, &codes))
    }
}

fn suback(id: u16, five: bool, codes: &[u8]) -> Vec<u8> {
    let properties: &[u8] = if five { &[0] } else { &[] };
    packet(0x90, id, properties, codes)
}

fn packet(first: u8, id: u16, properties: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(7 + properties.len() + rest.len());
    out.push(first);
    put_length(&mut out, 2 + properties.len() + rest.len());
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(properties);
    out.extend_from_slice(rest);
    out
}

/// The packet, taken apart. Its format was checked before.
struct Parts<'a> {
    id: u16,
    /// With their length in front; empty in MQTT 3.1.1.
    properties: &'a [u8],
    filters: &'a [u8],
}

fn apart(body: &[u8], five: bool) -> Option<Parts<'_>> {
    let (id, rest) = body.split_first_chunk::<2>()?;
    let at = if five {
        let mut r = Reader(rest);
        let length = usize::try_from(r.variable().ok()?).ok()?;
        rest.len() - r.0.len() + length
    } else {
        0
    };
    let (properties, filters) = rest.split_at_checked(at)?;
    Some(Parts {
        id: u16::from_be_bytes(*id),
        properties,
        filters,
    })
}

/// Whether the properties of a SUBSCRIBE (with their length in front) have a Subscription Identifier.
fn has_subscription_id(properties: &[u8]) -> bool {
    let mut r = Reader(properties);
    r.variable().is_ok() && Properties::checked(r.0).find(id::SUBSCRIPTION_IDENTIFIER).is_some()
}

/// Filters, each with its options byte if there is one.
struct Each<'a>(&'a [u8], bool);

impl<'a> Iterator for Each<'a> {
    type Item = (&'a [u8], Option<u8>);
    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.0.split_first_chunk::<2>()?;
        let (filter, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        if self.1 {
            let (options, rest) = rest.split_first()?;
            self.0 = rest;
            Some((filter, Some(*options)))
        } else {
            self.0 = rest;
            Some((filter, None))
        }
    }
}

fn put_filter(out: &mut Vec<u8>, filter: &[u8], options: Option<u8>) {
    let length = u16::try_from(filter.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(filter);
    out.extend(options);
}

/// What a filter is refused for: its SUBACK code in MQTT 5, and why.
fn refusal(deal: &Deal, filter: &[u8], five: bool) -> Result<Option<(u8, String)>, Offence> {
    let (shared, inner) = match filter.strip_prefix(SHARE) {
        Some(rest) => {
            let at = rest.iter().position(|b| *b == b'/').map_or(rest.len(), |at| at + 1);
            (true, rest.get(at..).unwrap_or(&[]))
        }
        None => (false, filter),
    };
    let found = if shared && deal.answer(Matter::SharedSubscription) != Answer::Pass {
        Some((
            Matter::SharedSubscription,
            reason::SHARED_NOT_SUPPORTED,
            "upstream has no shared subscriptions".to_owned(),
        ))
    } else if let Some(why) = deal.shape(Matter::FilterShape, inner) {
        Some((Matter::FilterShape, reason::TOPIC_FILTER_INVALID, why))
    } else {
        let foreign = deal.foreign(inner);
        foreign.map(|why| (Matter::DollarTopic, reason::TOPIC_FILTER_INVALID, why))
    };
    let Some((matter, code, why)) = found else {
        return Ok(None);
    };
    let offence = Offence::new(
        matter,
        code,
        format!("the filter {}: {why}", super::deal::shown(filter)),
    );
    if deal.answer(matter) == Answer::Close {
        return Err(offence);
    }
    Ok(Some((if five { code } else { reason::UNSPECIFIED }, offence.why)))
}

/// Longest remark on one SUBSCRIBE, in bytes.
const NOTE_MAX: usize = 1_024;

/// Says this too, if it is not said yet.
fn remark(note: &mut Option<String>, what: &str) {
    match note {
        None => *note = Some(what.to_owned()),
        Some(said) if said.len() + what.len() < NOTE_MAX && !said.contains(what) => {
            said.push_str("; ");
            said.push_str(what);
        }
        Some(_) => {}
    }
}

/// Judges a SUBSCRIBE. `note` gets what the operator should know.
pub(super) fn subscribe(deal: &Deal, body: &[u8], note: &mut Option<String>) -> Result<Verdict, Offence> {
    let five = deal.is_five();
    let Some(p) = apart(body, five) else {
        return Ok(Verdict::AsIs);
    };
    let no_ids = five && deal.answer(Matter::SubscriptionId) != Answer::Pass && has_subscription_id(p.properties);
    if no_ids && deal.answer(Matter::SubscriptionId) == Answer::Close {
        let why = "upstream has no subscription identifiers".to_owned();
        return Err(Offence::new(
            Matter::SubscriptionId,
            reason::IDENTIFIERS_NOT_SUPPORTED,
            why,
        ));
    }
    let too_many = deal.answer(Matter::ManyFilters);
    let most = if too_many == Answer::Pass {
        usize::MAX
    } else {
        deal.bounds().filters
    };
    let (mut codes, mut kept, mut changed) = (Vec::new(), Vec::new(), false);
    for (filter, options) in Each(p.filters, true) {
        let mut options = options.unwrap_or(0);
        let rewritten = match deal.rewrite().map_or(Ok(None), |r| r.filter(filter)) {
            Ok(rewritten) => rewritten,
            Err(missing) => {
                remark(note, &format!("a filter was refused: {missing}"));
                codes.push(Some(if five {
                    reason::TOPIC_FILTER_INVALID
                } else {
                    reason::UNSPECIFIED
                }));
                continue;
            }
        };
        let shown = rewritten.as_deref().unwrap_or(filter);
        let mut refused = refusal(deal, shown, five)?;
        if no_ids {
            refused = Some((
                reason::IDENTIFIERS_NOT_SUPPORTED,
                "upstream has no subscription identifiers".to_owned(),
            ));
        }
        if options & 3 > deal.subscribe_qos() {
            if deal.answer(Matter::SubscribeQos2) == Answer::Refuse && options & 3 == 2 {
                let code = if five {
                    reason::IMPLEMENTATION
                } else {
                    reason::UNSPECIFIED
                };
                refused = refused.or_else(|| Some((code, "upstream has no QoS 2".to_owned())));
            }
            options = options & !3 | deal.subscribe_qos();
            changed = true;
        }
        if kept.len() >= most && too_many == Answer::Refuse {
            let code = if five {
                reason::QUOTA_EXCEEDED
            } else {
                reason::UNSPECIFIED
            };
            refused = refused.or_else(|| Some((code, format!("upstream takes {most} filters in a SUBSCRIBE"))));
        }
        changed |= rewritten.is_some();
        match refused {
            Some((code, why)) => {
                remark(note, &format!("a filter was refused: {why}"));
                codes.push(Some(code));
            }
            None => {
                codes.push(None);
                kept.push((rewritten, filter, options));
            }
        }
    }
    let refused = codes.len() - kept.len();
    if kept.is_empty() {
        let codes: Vec<u8> = codes.into_iter().flatten().collect();
        return Ok(Verdict::Answered(suback(p.id, five, &codes)));
    }
    if !changed && refused == 0 && kept.len() <= most {
        return Ok(Verdict::AsIs);
    }
    let mut parts: VecDeque<(Bytes, usize)> = VecDeque::new();
    for part in kept.chunks(most.max(1)) {
        let mut filters = Vec::new();
        for (rewritten, filter, options) in part {
            put_filter(&mut filters, rewritten.as_deref().unwrap_or(filter), Some(*options));
        }
        parts.push_back((packet(0x82, p.id, p.properties, &filters).into(), part.len()));
    }
    let Some((first, asked)) = parts.pop_front() else {
        return Ok(Verdict::AsIs);
    };
    if refused == 0 && parts.is_empty() {
        return Ok(Verdict::Instead(first.into()));
    }
    let pending = Pending {
        id: p.id,
        five,
        codes,
        asked,
        parts,
    };
    Ok(Verdict::Parts(first.into(), pending))
}

/// Rewrites an UNSUBSCRIBE.
pub(super) fn unsubscribe(deal: &Deal, body: &[u8]) -> Result<Verdict, Offence> {
    let (Some(rewrite), Some(p)) = (deal.rewrite(), apart(body, deal.is_five())) else {
        return Ok(Verdict::AsIs);
    };
    let (mut filters, mut changed) = (Vec::new(), false);
    for (filter, _) in Each(p.filters, false) {
        let rewritten = rewrite
            .filter(filter)
            .map_err(|missing| Offence::new(Matter::FilterShape, reason::TOPIC_FILTER_INVALID, missing.to_string()))?;
        changed |= rewritten.is_some();
        put_filter(&mut filters, rewritten.as_deref().unwrap_or(filter), None);
    }
    Ok(if changed {
        Verdict::Instead(packet(0xa2, p.id, p.properties, &filters))
    } else {
        Verdict::AsIs
    })
}
