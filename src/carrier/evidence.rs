//! What is said about one file: its descriptor and whatever vouches for it. Opaque bytes here.

use bytes::Bytes;

use super::CarrierKind;
use crate::sign::Signatures;
use crate::store::{Attr, Time};

/// Everything but the tree. A part that is not there is `None` or empty; nothing of it is proven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The fs-verity descriptor. Absent where only IMA signatures were found.
    pub descriptor: Option<Bytes>,
    /// The DSSE envelope.
    pub statement: Option<Bytes>,
    /// Built-in signatures of fs-verity, PKCS#7 in DER.
    pub pkcs7: Vec<Bytes>,
    /// IMA signatures as they stand in `security.ima`.
    pub ima: Vec<Bytes>,
    /// X.509 certificates in DER, of signers and of those between them and an authority.
    pub certificates: Vec<Bytes>,
    /// What the signer saw.
    pub observed: Option<Observed>,
}

impl Evidence {
    /// Whether anything in it is a signature, of whatever worth.
    pub fn is_signed(&self) -> bool {
        self.statement.is_some() || !self.pkcs7.is_empty() || !self.ima.is_empty()
    }

    /// Its signatures, for whoever checks them.
    pub fn signatures(&self) -> Signatures<'_> {
        Signatures {
            statement: self.statement.as_deref(),
            pkcs7: &self.pkcs7,
            ima: &self.ima,
            certificates: &self.certificates,
        }
    }

    /// The descriptor alone: what names a tree.
    pub(super) fn unsigned(&self) -> Self {
        Self { descriptor: self.descriptor.clone(), ..Self::default() }
    }
}

/// What a signer saw of the file, so that an unchanged file need not be hashed again. A hint for
/// the signer alone: no proof rests on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The file's number in the store.
    pub fileid: u64,
    /// Last change of the content: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Last change of content or attributes: seconds and nanoseconds.
    pub ctime: (i64, u32),
}

impl Observed {
    pub(super) const SIZE: usize = 32;

    /// What is seen in `attr`.
    pub fn of(attr: &Attr) -> Self {
        let pair = |time: Time| (time.seconds, time.nanos);
        Self { fileid: attr.fileid, mtime: pair(attr.mtime), ctime: pair(attr.ctime) }
    }

    /// Whether a file with evidence in `carrier` still looks as it did. A carrier that lives in the
    /// file changes what can be seen of it: extended attributes and sealing move the time of the last
    /// change, and a file with a trailer is a new file with the old time of modification. Sizes are
    /// for the caller to compare.
    pub fn matches(&self, attr: &Attr, carrier: CarrierKind) -> bool {
        let now = Self::of(attr);
        match carrier {
            CarrierKind::Sidecar => *self == now,
            CarrierKind::Xattr | CarrierKind::Kernel => (self.fileid, self.mtime) == (now.fileid, now.mtime),
            CarrierKind::Appended => self.mtime == now.mtime,
        }
    }

    pub(super) fn encode(self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        let fields = [
            &self.fileid.to_le_bytes()[..],
            &self.mtime.0.to_le_bytes(),
            &self.ctime.0.to_le_bytes(),
            &self.mtime.1.to_le_bytes(),
            &self.ctime.1.to_le_bytes(),
        ];
        for (to, from) in out.iter_mut().zip(fields.concat()) {
            *to = from;
        }
        out
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = super::le::Le(bytes);
        let (fileid, mtime, ctime) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (mtime_nanos, ctime_nanos) = (reader.u32()?, reader.u32()?);
        let seconds = u64::cast_signed;
        reader.0.is_empty().then_some(Self {
            fileid,
            mtime: (seconds(mtime), mtime_nanos),
            ctime: (seconds(ctime), ctime_nanos),
        })
    }
}
