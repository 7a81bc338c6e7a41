//! File handles: authenticated, and good for as long as the object keeps its name.
//!
//! ```text
//! offset  size  field
//!      0     1  version, 1
//!      1     8  the object's fileid, little-endian
//!      9    16  tag: MAC of fileid and path
//!     25     8  check: MAC of all other bytes of the handle
//!     33     1  names in the path; 255 stands for more, too
//!     34  0-30  hints, one to four bytes a name of the path, outermost first
//! ```
//!
//! The tag names the object; a client cannot make one up. The gateway remembers which path each
//! tag stands for, but needs not: with the hints the path is found again in the store, name by
//! name, and the tag tells when it is the right one. So handles survive a restart, and any
//! number of gateways with the same key hand out the same ones.

use ring::hmac;

use crate::store::StorePath;

const VERSION: u8 = 1;
const TAG: usize = 16;
const CHECK: usize = 8;
const HINTS_AT: usize = 1 + 8 + TAG + CHECK + 1;
/// The longest handle of NFSv3.
pub const HANDLE_MAX: usize = 64;
const HINTS_MAX: usize = HANDLE_MAX - HINTS_AT;

/// Names an object towards clients: opaque bytes, at most [`HANDLE_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileHandle {
    bytes: [u8; HANDLE_MAX],
    len: usize,
}

impl FileHandle {
    /// The bytes for the wire.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}

impl std::fmt::Debug for FileHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileHandle({})", hex::encode(self.as_bytes()))
    }
}

/// The part of a handle that names the object.
pub(super) type Tag = [u8; TAG];

/// A handle taken apart. Whether it is authentic is not said yet: see [`HandleKey::authentic`].
pub(super) struct Parsed<'a> {
    pub(super) fileid: u64,
    pub(super) tag: Tag,
    check: [u8; CHECK],
    /// Names in the path, at most 255.
    names: u8,
    hints: &'a [u8],
}

impl<'a> Parsed<'a> {
    /// Takes a handle apart; `None` for bytes that no gateway makes.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        let (&[VERSION], rest) = bytes.split_first_chunk::<1>()? else {
            return None;
        };
        let (fileid, rest) = rest.split_first_chunk()?;
        let (tag, rest) = rest.split_first_chunk()?;
        let (check, rest) = rest.split_first_chunk()?;
        let (names, hints) = rest.split_first()?;
        if hints.len() > HINTS_MAX {
            return None;
        }
        Some(Self { fileid: u64::from_le_bytes(*fileid), tag: *tag, check: *check, names: *names, hints })
    }

    /// Whether `name` can be the name at `depth` (0: in the root) of the path.
    pub(super) fn may_be(&self, depth: usize, name: &[u8]) -> bool {
        let width = hint_width(self.names);
        match self.hints.get(depth * width..(depth + 1) * width) {
            Some(hint) => hint_of(name).starts_with(hint),
            None => true,
        }
    }

    /// Whether the path can have `names` names.
    pub(super) fn may_have(&self, names: usize) -> bool {
        if self.names == u8::MAX { names >= usize::from(u8::MAX) } else { names == usize::from(self.names) }
    }

    /// Whether the path can have more than `names` names.
    pub(super) fn may_have_more_than(&self, names: usize) -> bool {
        self.names == u8::MAX || names < usize::from(self.names)
    }
}

/// Hint bytes for each name of a path of `names` names.
fn hint_width(names: u8) -> usize {
    (HINTS_MAX / usize::from(names.max(1))).clamp(1, 4)
}

/// FNV-1a: a hint only narrows a search, the tag decides.
fn hint_of(name: &[u8]) -> [u8; 4] {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = name.iter().fold(0xcbf2_9ce4_8422_2325, step);
    let [a, b, c, d, e, f, g, h] = hash.to_le_bytes();
    [a ^ e, b ^ f, c ^ g, d ^ h]
}

/// The secret behind the handles.
pub struct HandleKey(hmac::Key);

impl HandleKey {
    /// The key from 32 random bytes that must stay the same for handles to stay valid.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    fn mac<const N: usize>(&self, domain: u8, parts: &[&[u8]]) -> [u8; N] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&[domain]);
        parts.iter().for_each(|part| context.update(part));
        let mac = context.sign();
        let mut out = [0; N];
        out.iter_mut().zip(mac.as_ref()).for_each(|(to, from)| *to = *from);
        out
    }

    /// The tag of the object `fileid` at `path`.
    pub(super) fn tag(&self, fileid: u64, path: &StorePath) -> Tag {
        self.mac(b't', &[&fileid.to_le_bytes(), path.as_bytes()])
    }

    /// The handle of the object `fileid` at `path`, whose tag is `tag`.
    pub(super) fn handle(&self, fileid: u64, tag: &Tag, path: &StorePath) -> FileHandle {
        let names = u8::try_from(path.components().count()).unwrap_or(u8::MAX);
        let width = hint_width(names);
        let hints = path.components().flat_map(|name| hint_of(name).into_iter().take(width));
        let hints: Vec<u8> = hints.take(HINTS_MAX).collect();
        let check = self.check(fileid, tag, names, &hints);
        let parts = [&[VERSION][..], &fileid.to_le_bytes(), tag, &check, &[names], &hints];
        let mut bytes = [0; HANDLE_MAX];
        let all = parts.iter().copied().flatten();
        let len = bytes.iter_mut().zip(all).map(|(to, from)| *to = *from).count();
        FileHandle { bytes, len }
    }

    fn check(&self, fileid: u64, tag: &Tag, names: u8, hints: &[u8]) -> [u8; CHECK] {
        self.mac(b'c', &[&[VERSION], &fileid.to_le_bytes(), tag, &[names], hints])
    }

    /// Whether the handle was made with this key. Takes the same time wherever a difference lies.
    pub(super) fn authentic(&self, parsed: &Parsed<'_>) -> bool {
        let check = self.check(parsed.fileid, &parsed.tag, parsed.names, parsed.hints);
        check.iter().zip(parsed.check).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }

    /// A number for the file system as a whole, the same for all gateways with this key.
    pub(super) fn fsid(&self) -> u64 {
        u64::from_le_bytes(self.mac(b'f', &[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(names: usize) -> StorePath {
        (0..names).fold(StorePath::root(), |path, n| path.join(format!("name-{n}").as_bytes()).unwrap())
    }

    #[test]
    fn a_handle_tells_its_object_at_every_depth() {
        let key = HandleKey::new(&[1; 32]);
        for names in (0..60).chain([254, 255, 300]) {
            let path = path(names);
            let handle = key.handle(42, &key.tag(42, &path), &path);
            assert!(handle.as_bytes().len() <= HANDLE_MAX);
            let parsed = Parsed::new(handle.as_bytes()).unwrap();
            assert!(key.authentic(&parsed));
            assert!(parsed.may_have(names), "{names}");
            assert!(!parsed.may_have(names + 1) || names >= 255, "{names}");
            assert_eq!((parsed.fileid, parsed.tag), (42, key.tag(42, &path)));
            for (depth, name) in path.components().enumerate() {
                assert!(parsed.may_be(depth, name));
            }
        }
    }

    #[test]
    fn hints_tell_other_names_apart() {
        let key = HandleKey::new(&[1; 32]);
        let path = path(3);
        let handle = key.handle(42, &key.tag(42, &path), &path);
        let parsed = Parsed::new(handle.as_bytes()).unwrap();
        let matching = (0..10_000).filter(|n| parsed.may_be(1, format!("other-{n}").as_bytes())).count();
        assert_eq!(matching, 0);
    }

    #[test]
    fn a_changed_bit_anywhere_is_no_handle() {
        let key = HandleKey::new(&[1; 32]);
        let path = path(3);
        let handle = key.handle(42, &key.tag(42, &path), &path);
        for at in 0..handle.len * 8 {
            let mut bytes = handle.as_bytes().to_vec();
            bytes[at / 8] ^= 1 << (at % 8);
            assert!(!Parsed::new(&bytes).is_some_and(|parsed| key.authentic(&parsed)), "bit {at}");
        }
        for n in 0..handle.len {
            let cut = Parsed::new(&handle.as_bytes()[..n]);
            assert!(!cut.is_some_and(|parsed| key.authentic(&parsed)), "{n}");
        }
    }

    #[test]
    fn another_key_makes_other_handles() {
        let (ours, theirs) = (HandleKey::new(&[1; 32]), HandleKey::new(&[2; 32]));
        let handle = theirs.handle(42, &theirs.tag(42, &path(2)), &path(2));
        assert!(!ours.authentic(&Parsed::new(handle.as_bytes()).unwrap()));
    }
}
