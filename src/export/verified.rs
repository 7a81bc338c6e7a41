//! Proof is a type: [`Verified`] is made in this room alone, from bytes that were just compared
//! with a proven hash.

use bytes::Bytes;

/// Something that was proven under an accepted signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// To be called only with what was compared with a proven hash.
    pub(in crate::export) fn proven(value: T) -> Self {
        Self(value)
    }

    /// The proven value.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// The proven value.
    pub fn get(&self) -> &T {
        &self.0
    }
}

impl Verified<Bytes> {
    /// A part of proven bytes is proven.
    pub(in crate::export) fn slice(&self, range: std::ops::Range<usize>) -> Self {
        Self(self.0.slice(range))
    }
}

/// A part of what a READ returns.
#[derive(Clone, Debug)]
pub(in crate::export) enum Part {
    /// Proven bytes.
    Proven(Verified<Bytes>),
    /// Bytes as the store gave them: in warn mode, never otherwise.
    Unproven(Bytes),
    /// What is said of a file, in the proof directory: what the gateway found, or a part of the evidence that
    /// reads as what it is named after. The latter are the store's bytes, of refused files too, and not proven.
    Said(Bytes),
}

impl Part {
    /// What lies in `range`, as far as there are bytes.
    pub(in crate::export) fn slice(&self, range: std::ops::Range<usize>) -> Self {
        let end = range.end.min(self.len());
        let range = range.start.min(end)..end;
        match self {
            Self::Proven(bytes) => Self::Proven(bytes.slice(range)),
            Self::Unproven(bytes) => Self::Unproven(bytes.slice(range)),
            Self::Said(bytes) => Self::Said(bytes.slice(range)),
        }
    }

    pub(in crate::export) fn len(&self) -> usize {
        match self {
            Self::Proven(bytes) => bytes.get().len(),
            Self::Unproven(bytes) | Self::Said(bytes) => bytes.len(),
        }
    }
}

/// The data of a READ, in order.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    parts: Vec<Part>,
    len: u32,
}

impl Payload {
    /// Appends a part. READs are at most `u32::MAX` bytes long, which the caller has made sure of.
    pub(in crate::export) fn push(&mut self, part: Part) {
        self.len = self.len.saturating_add(u32::try_from(part.len()).unwrap_or(u32::MAX));
        self.parts.push(part);
    }

    /// Bytes in all.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// True when there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True when every byte is proven.
    pub fn is_verified(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Proven(_)))
    }

    /// The bytes, not copied.
    pub fn into_parts(self) -> Vec<Bytes> {
        let bytes = |part| match part {
            Part::Proven(bytes) => bytes.into_inner(),
            Part::Unproven(bytes) | Part::Said(bytes) => bytes,
        };
        self.parts.into_iter().map(bytes).collect()
    }
}
