//! File handles: authenticated, and good for as long as the object keeps its name.
//!
//! ```text
//! offset  size  field
//!      0     1  what of the object: 1 itself, more its part of the proof directory, see [`View`]
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
//!
//! The check covers the first byte, too: nobody makes a handle of an object into one of what is
//! said of it, nor the other way round.

use ring::hmac;

use super::evidence::Item;
use crate::store::StorePath;

/// The first byte of the handle of an object itself.
const ITSELF: u8 = 1;
/// The first byte of the handle of an object's directory in the proof directory.
const DIRECTORY: u8 = 16;
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

/// What of an object stands in the proof directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// Its directory there: of a directory what is mirrored of it, of a file what is said of it.
    Directory,
    /// One thing that is said of a file.
    Item(Item),
}

impl View {
    /// The byte that says so in handles, which never changes.
    fn byte(self) -> u8 {
        match self {
            Self::Directory => DIRECTORY,
            Self::Item(Item::Digest) => 17,
            Self::Item(Item::Descriptor) => 18,
            Self::Item(Item::Statement) => 19,
            Self::Item(Item::Signature) => 20,
            Self::Item(Item::Signer) => 21,
            Self::Item(Item::Status) => 22,
            Self::Item(Item::Tree) => 23,
            Self::Item(Item::Ima) => 24,
            Self::Item(Item::Certificates) => 25,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        let mut items = Item::ALL.into_iter().map(Self::Item);
        if byte == DIRECTORY { Some(Self::Directory) } else { items.find(|item| item.byte() == byte) }
    }
}

/// A handle taken apart. Whether it is authentic is not said yet: see [`HandleKey::authentic`].
pub(super) struct Parsed<'a> {
    /// What of the object it is; `None` for the object itself.
    pub(super) view: Option<View>,
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
        let (&first, rest) = bytes.split_first()?;
        let view = if first == ITSELF { None } else { Some(View::from_byte(first)?) };
        let (fileid, rest) = rest.split_first_chunk()?;
        let (tag, rest) = rest.split_first_chunk()?;
        let (check, rest) = rest.split_first_chunk()?;
        let (names, hints) = rest.split_first()?;
        if hints.len() > HINTS_MAX {
            return None;
        }
        let fileid = u64::from_le_bytes(*fileid);
        Some(Self { view, fileid, tag: *tag, check: *check, names: *names, hints })
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

/// A hint only narrows a search, the tag decides.
fn hint_of(name: &[u8]) -> [u8; 4] {
    let [a, b, c, d, e, f, g, h] = fnv1a(name).to_le_bytes();
    [a ^ e, b ^ f, c ^ g, d ^ h]
}

/// FNV-1a with 64 bits: against nobody's ill will, and the same in every life of the gateway.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
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

    /// The number of what `view` shows of the object whose tag is `tag`: as no inode number of its
    /// own file system is likely to be, nor one of [`crate::store::Local`]'s other ones, whose top bit is set.
    pub(super) fn fileid(&self, view: View, tag: &Tag) -> u64 {
        u64::from_le_bytes(self.mac(b'v', &[&[view.byte()], tag])) >> 2 | 1 << 62
    }

    /// The handle of the object `fileid` at `path`, whose tag is `tag`, or of what `view` shows of it.
    pub(super) fn handle(&self, view: Option<View>, fileid: u64, tag: &Tag, path: &StorePath) -> FileHandle {
        let first = view.map_or(ITSELF, View::byte);
        let names = u8::try_from(path.components().count()).unwrap_or(u8::MAX);
        let width = hint_width(names);
        let hints = path.components().flat_map(|name| hint_of(name).into_iter().take(width));
        let hints: Vec<u8> = hints.take(HINTS_MAX).collect();
        let check = self.check(first, fileid, tag, names, &hints);
        let parts = [&[first][..], &fileid.to_le_bytes(), tag, &check, &[names], &hints];
        let mut bytes = [0; HANDLE_MAX];
        let all = parts.iter().copied().flatten();
        let len = bytes.iter_mut().zip(all).map(|(to, from)| *to = *from).count();
        FileHandle { bytes, len }
    }

    fn check(&self, first: u8, fileid: u64, tag: &Tag, names: u8, hints: &[u8]) -> [u8; CHECK] {
        self.mac(b'c', &[&[first], &fileid.to_le_bytes(), tag, &[names], hints])
    }

    /// Whether the handle was made with this key. Takes the same time wherever a difference lies.
    pub(super) fn authentic(&self, parsed: &Parsed<'_>) -> bool {
        let first = parsed.view.map_or(ITSELF, View::byte);
        let check = self.check(first, parsed.fileid, &parsed.tag, parsed.names, parsed.hints);
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
            let handle = key.handle(None, 42, &key.tag(42, &path), &path);
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
        let handle = key.handle(None, 42, &key.tag(42, &path), &path);
        let parsed = Parsed::new(handle.as_bytes()).unwrap();
        let matching = (0..10_000).filter(|n| parsed.may_be(1, format!("other-{n}").as_bytes())).count();
        assert_eq!(matching, 0);
    }

    #[test]
    fn a_changed_bit_anywhere_is_no_handle() {
        let key = HandleKey::new(&[1; 32]);
        let path = path(3);
        let handle = key.handle(None, 42, &key.tag(42, &path), &path);
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
    fn a_handle_of_what_is_said_of_an_object_is_of_another_kind() {
        let key = HandleKey::new(&[1; 32]);
        let views = || [View::Directory].into_iter().chain(Item::ALL.map(View::Item));
        let kinds = || [None].into_iter().chain(views().map(Some));
        for names in [0, 3, 7, 10, 15, 30, 255] {
            let path = path(names);
            let tag = key.tag(42, &path);
            for kind in kinds() {
                let handle = key.handle(kind, 42, &tag, &path);
                let parsed = Parsed::new(handle.as_bytes()).unwrap();
                assert!(key.authentic(&parsed));
                assert_eq!((parsed.view, parsed.tag), (kind, tag));
                for other in kinds().filter(|other| *other != kind) {
                    let mut bytes = handle.as_bytes().to_vec();
                    bytes[0] = key.handle(other, 42, &tag, &path).as_bytes()[0];
                    let parsed = Parsed::new(&bytes).unwrap();
                    assert_eq!(parsed.view, other);
                    assert!(!key.authentic(&parsed), "{kind:?} as {other:?}");
                }
            }
        }
        assert!((0..=u8::MAX).filter_map(View::from_byte).eq(views()));
    }

    #[test]
    fn numbers_of_what_is_said_differ_and_stay() {
        let key = HandleKey::new(&[1; 32]);
        let mut seen = std::collections::HashSet::new();
        for names in 0..50 {
            let tag = key.tag(42, &path(names));
            for view in [View::Directory].into_iter().chain(Item::ALL.map(View::Item)) {
                let fileid = key.fileid(view, &tag);
                assert_eq!(fileid, HandleKey::new(&[1; 32]).fileid(view, &tag));
                assert_eq!(fileid >> 62, 1);
                assert!(seen.insert(fileid));
            }
        }
    }

    #[test]
    fn another_key_makes_other_handles() {
        let (ours, theirs) = (HandleKey::new(&[1; 32]), HandleKey::new(&[2; 32]));
        let handle = theirs.handle(None, 42, &theirs.tag(42, &path(2)), &path(2));
        assert!(!ours.authentic(&Parsed::new(handle.as_bytes()).unwrap()));
    }
}
