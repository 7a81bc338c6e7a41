//! One version of an object, and how it looks as a file.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use object_store::{Attribute, ObjectMeta};
use sha2::{Digest, Sha256};

use super::super::{Attr, Attributes, Kind, StorePath, Time, fileid_of_path};
use super::address::Look;

/// The bits of `st_mode` that tell the type, and those of a regular file.
const TYPE_BITS: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

/// The longest ETag; nobody has a use for a longer one, and it would be kept for each key.
const ETAG_MAX: usize = 256;

/// One version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) size: u64,
    /// With its quotes, as it stands in `If-Match`.
    pub(super) etag: Option<Arc<str>>,
    /// Seconds since 1970. Listings are finer than HEAD, which must not tell them apart.
    pub(super) modified: i64,
    pub(super) told: Told,
}

/// What an object's metadata say of mode, owner and time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Time>,
}

impl Version {
    pub(super) fn of(meta: &ObjectMeta, attributes: Option<&object_store::Attributes>) -> Self {
        Self {
            // No file is larger, whatever a server says.
            size: meta.size.min(i64::MAX.unsigned_abs()),
            // An empty one, as some servers give to all, tells no versions apart.
            etag: meta.e_tag.as_deref().filter(|tag| is_etag(tag)).map(quoted),
            modified: meta.last_modified.timestamp(),
            told: attributes.map(Told::of).unwrap_or_default(),
        }
    }

    /// Whether `other` has the same content. A server without ETags can only tell time and size.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.size == other.size
            && match (&self.etag, &other.etag) {
                (Some(one), Some(other)) => one == other,
                _ => self.modified == other.modified,
            }
    }

    /// The attributes of the file `path`.
    pub(super) fn attr(&self, path: &StorePath, look: &Look) -> Attr {
        let told = if look.metadata { self.told } else { Told::default() };
        let change = self.change();
        // The servers' clocks tell seconds only. The time of the last change carries a part of the version in
        // its place below, so that two versions of one second are told apart.
        let nanos = u32::try_from(change % 1_000_000_000).unwrap_or(0);
        let modified = Time { seconds: self.modified, nanos: 0 };
        Attr {
            kind: Kind::Regular,
            mode: told.mode.unwrap_or(look.mode),
            nlink: 1,
            uid: told.uid.unwrap_or(look.uid),
            gid: told.gid.unwrap_or(look.gid),
            size: self.size,
            used: self.size,
            rdev: (0, 0),
            fileid: fileid_of_path(path),
            atime: told.mtime.unwrap_or(modified),
            mtime: told.mtime.unwrap_or(modified),
            ctime: Time { seconds: self.modified, nanos },
            change,
        }
    }

    fn change(&self) -> u64 {
        let mut hash = Sha256::new();
        hash.update(self.size.to_le_bytes());
        hash.update(self.modified.to_le_bytes());
        hash.update(self.etag.as_deref().unwrap_or_default());
        let digest: [u8; 32] = hash.finalize().into();
        digest.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

/// The attributes of the directory `path`. Nobody tells when it changes, so that it counts as changed whenever
/// what is known of it has grown old: the same moment in every gateway.
pub(super) fn directory(path: &StorePath, look: &Look) -> Attr {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let step = look.ttl.as_secs().max(1);
    let time = Time { seconds: i64::try_from(now / step * step).unwrap_or(0), nanos: 0 };
    Attr {
        kind: Kind::Directory,
        mode: look.dir_mode,
        nlink: 2,
        uid: look.uid,
        gid: look.gid,
        size: 4096,
        used: 4096,
        rdev: (0, 0),
        fileid: fileid_of_path(path),
        atime: time,
        mtime: time,
        ctime: time,
        change: Attr::change_of(time),
    }
}

fn is_etag(tag: &str) -> bool {
    !matches!(tag, "" | "\"\"") && tag.len() <= ETAG_MAX
}

/// Some servers leave the quotes out in listings.
fn quoted(etag: &str) -> Arc<str> {
    match etag.starts_with('"') || etag.starts_with("W/") {
        true => Arc::from(etag),
        false => Arc::from(format!("\"{etag}\"")),
    }
}

impl Told {
    fn of(attributes: &object_store::Attributes) -> Self {
        let text = |name: &'static str| attributes.get(&Attribute::Metadata(name.into())).map(|v| v.as_ref());
        Self {
            mode: text("mode").and_then(read_mode),
            uid: text("uid").and_then(|text| text.parse().ok()),
            gid: text("gid").and_then(|text| text.parse().ok()),
            mtime: text("mtime").and_then(read_time),
        }
    }

    /// What s3fs and rclone read again.
    pub(super) fn metadata(from: &Attributes) -> object_store::Attributes {
        let owner = from.owner.map(|(uid, gid)| [("uid", uid.to_string()), ("gid", gid.to_string())]);
        let rest = [("mode", (REGULAR | from.mode).to_string()), ("mtime", write_time(from.mtime))];
        owner
            .into_iter()
            .flatten()
            .chain(rest)
            .map(|(name, value)| (Attribute::Metadata(name.into()), value))
            .collect()
    }
}

/// s3fs writes `st_mode` in decimal, rclone and others in octal. No number of a regular file is both.
fn read_mode(text: &str) -> Option<u32> {
    let decimal = text.parse::<u32>().ok().filter(|mode| mode & !0o7777 == REGULAR);
    let octal =
        || u32::from_str_radix(text, 8).ok().filter(|m| m & TYPE_BITS & !REGULAR == 0 && *m <= 0o107_777);
    Some(decimal.or_else(octal)? & 0o7777)
}

/// Seconds since 1970 with a fraction.
fn read_time(text: &str) -> Option<Time> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let seconds: i64 = whole.parse().ok()?;
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").parse().ok()?;
    match negative && nanos > 0 {
        true => Some(Time { seconds: seconds.checked_sub(1)?, nanos: 1_000_000_000 - nanos }),
        false => Some(Time { seconds, nanos }),
    }
}

fn write_time(Time { seconds, nanos }: Time) -> String {
    match seconds < 0 && nanos > 0 {
        true => format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000_u32.saturating_sub(nanos)),
        false => format!("{seconds}.{nanos:09}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_s3fs_and_rclone_write_them() {
        let modes =
            [("33188", 0o644), ("0100644", 0o644), ("100755", 0o755), ("644", 0o644), ("35304", 0o4750)];
        for (text, mode) in modes {
            assert_eq!(read_mode(text), Some(mode), "{text}");
        }
        for text in ["", "x", "16877", "0040755", "9", "-1"] {
            assert_eq!(read_mode(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_read_back() {
        for (seconds, nanos) in
            [(0, 0), (5, 1), (-5, 6), (-1, 999_999_999), (1_700_000_000, 120_000_000), (-7, 0)]
        {
            let time = Time { seconds, nanos };
            assert_eq!(read_time(&write_time(time)), Some(time), "{}", write_time(time));
        }
        assert_eq!(read_time("12.5"), Some(Time { seconds: 12, nanos: 500_000_000 }));
        for text in ["", "x", "1.x", "1.-5", "1.1234567890", "9999999999999999999999"] {
            assert_eq!(read_time(text), None, "{text}");
        }
    }

    #[test]
    fn what_a_server_says_of_a_version_is_bounded() {
        let version = |size, etag: &str| {
            let location = object_store::path::Path::from("f");
            let last_modified = Default::default();
            let e_tag = Some(etag.to_owned());
            Version::of(&ObjectMeta { location, last_modified, size, e_tag, version: None }, None)
        };
        assert_eq!(version(u64::MAX, "a").size, i64::MAX.unsigned_abs());
        assert_eq!(version(5, &"x".repeat(256)).etag.unwrap().len(), 258);
        for etag in ["", "\"\"", &"x".repeat(257)] {
            assert_eq!(version(5, etag).etag, None);
        }
    }

    #[test]
    fn a_version_is_known_by_its_etag_and_moves_the_change_within_one_second() {
        let version =
            |etag: &str| Version { size: 3, etag: Some(quoted(etag)), modified: 9, told: Told::default() };
        assert!(version("a").is(&version("\"a\"")));
        assert!(!version("a").is(&version("b")));
        let path = StorePath::parse(b"f").unwrap();
        let (a, b) = (version("a").attr(&path, &Look::default()), version("b").attr(&path, &Look::default()));
        assert_eq!((a.fileid, a.mtime), (b.fileid, b.mtime));
        assert_ne!((a.change, a.ctime), (b.change, b.ctime));
    }
}
