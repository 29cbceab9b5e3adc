//! What a step is put together from, while packets are walked over.
//!
//! As long as nothing is changed a run is a length: the bytes go on where they lie. With the first change it becomes a buffer, and what
//! follows is copied into it, so that one read of small packets is one write. Payloads longer than [`COPY_MAX`] are not copied: the run
//! ends before them, and they go on in a step of their own.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Pass, Step};

/// Longest payload that is copied behind a changed head, in bytes.
pub(super) const COPY_MAX: usize = 1 << 10;
/// A changed run ends when it has so many bytes.
const BUILT_MAX: usize = 16 << 10;

/// A step in the making.
#[derive(Debug)]
pub(super) struct Run<'f> {
    front: &'f [u8],
    at: usize,
    built: Option<BytesMut>,
    back: BytesMut,
    /// The rest of the step.
    pub(super) step: Step,
}

impl<'f> Run<'f> {
    pub(super) fn new(front: &'f [u8]) -> Self {
        Self {
            front,
            at: 0,
            built: None,
            back: BytesMut::new(),
            step: Step::default(),
        }
    }

    /// What has not been walked over.
    pub(super) fn rest(&self) -> &'f [u8] {
        self.front.get(self.at..).unwrap_or(&[])
    }

    /// The next bytes go on as they are.
    pub(super) fn pass(&mut self, length: usize) {
        if let Some(built) = &mut self.built {
            built.put_slice(self.front.get(self.at..self.at + length).unwrap_or(&[]));
        }
        self.at += length;
    }

    fn build(&mut self) -> &mut BytesMut {
        let (front, at) = (self.front, self.at);
        self.built
            .get_or_insert_with(|| BytesMut::from(front.get(..at).unwrap_or(&[])))
    }

    /// These go on in the place of the next bytes.
    pub(super) fn instead(&mut self, length: usize, bytes: &[u8]) {
        self.build().put_slice(bytes);
        self.at += length;
    }

    /// These go back.
    pub(super) fn back(&mut self, bytes: &[u8]) {
        self.back.put_slice(bytes);
    }

    /// Whether a payload of this length is better left to the next step.
    pub(super) fn ends_before(&self, payload: usize) -> bool {
        self.built
            .as_ref()
            .is_some_and(|b| payload.min(self.rest().len()) > COPY_MAX || b.len() > BUILT_MAX)
    }

    /// How many bytes have been walked over.
    pub(super) fn taken(&self) -> usize {
        self.at
    }

    pub(super) fn finish(self) -> Step {
        let pass = match self.built {
            Some(built) if built.is_empty() => Pass::Nothing,
            Some(built) => Pass::Instead(built.freeze()),
            None if self.at > 0 => Pass::AsIs,
            None => Pass::Nothing,
        };
        Step {
            take: self.at,
            pass,
            back: (!self.back.is_empty()).then(|| self.back.freeze()),
            ..self.step
        }
    }
}

/// Bytes for a side that is in the middle of a PUBLISH: they wait until it ends.
#[derive(Debug, Default)]
pub(super) struct Owed(Vec<u8>);

impl Owed {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// All of it, and its memory.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        (!self.0.is_empty()).then(|| std::mem::take(&mut self.0).into())
    }
}
