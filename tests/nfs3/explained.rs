//! How answers are compared, and what explains a difference.

use std::collections::HashMap;

use bytes::Bytes;

use super::answer::{Answer, Call, Fields, GARBAGE, Pair, Value, bytes};
use super::support::{NFS3ERR_BADHANDLE, NFS3ERR_NOENT, NFS3ERR_STALE};

/// The index of our own side in every pair, and that of nfs3_server.
pub const OURS: usize = 0;
pub const THEIRS: usize = 1;

pub const OK: u64 = 0;
const NOENT: u64 = NFS3ERR_NOENT.0 as u64;
const NOTDIR: u64 = 20;
const INVAL: u64 = 22;
const NAMETOOLONG: u64 = 63;
const STALE: u64 = NFS3ERR_STALE.0 as u64;
const BADHANDLE: u64 = NFS3ERR_BADHANDLE.0 as u64;
const BAD_COOKIE: u64 = 10003;
const TOOSMALL: u64 = 10005;

/// What nfs3_server may answer differently.
pub struct Row {
    pub name: &'static str,
    /// What in RFC 1813 makes our answer right.
    pub section: &'static str,
    pub explains: fn(&Difference<'_>) -> bool,
}

/// A difference between two answers to one call.
pub struct Difference<'a> {
    call: &'a Call,
    answers: &'a Pair<Answer>,
    pub field: &'static str,
    pub values: Pair<Option<Value>>,
}

impl Difference<'_> {
    /// Both values of `field`, when that is what differs.
    fn numbers(&self, field: &str) -> Option<(u64, u64)> {
        match &self.values {
            [Some(Value::Number(ours)), Some(Value::Number(theirs))] if self.field == field => {
                Some((*ours, *theirs))
            }
            _ => None,
        }
    }

    fn status(&self) -> Option<(u64, u64)> {
        self.numbers("status")
    }

    fn mount_path(&self) -> Option<&[u8]> {
        match self.call {
            Call::Mount { path } => Some(path),
            _ => None,
        }
    }
}

/// What explains differences.
pub const ROWS: &[Row] = &[
    Row {
        name: "modes lose all but the bits to read and to execute",
        section: "2.5: mode is the protection mode of the file",
        explains: |d| d.numbers("mode").is_some_and(|(ours, theirs)| ours & 0o555 == theirs),
    },
    Row {
        name: "ACCESS grants whatever is asked",
        section: "3.3.4: the server checks the permissions of the caller against the object",
        explains: |d| match (d.call, d.numbers("access")) {
            (Call::Access { wanted, .. }, Some((ours, theirs))) => {
                theirs == u64::from(wanted & 0x23) && ours & !theirs == 0
            }
            _ => false,
        },
    },
    Row {
        name: "ACCESS and FSINFO of nothing succeed",
        section: "3.3.4, 3.3.19: ERRORS has NFS3ERR_STALE and NFS3ERR_BADHANDLE",
        explains: |d| {
            matches!(d.call, Call::Access { .. } | Call::FsInfo { .. })
                && matches!(d.status(), Some((STALE | BADHANDLE, OK)))
        },
    },
    Row {
        name: "a made-up handle is taken for an old one",
        section: "2.6: NFS3ERR_BADHANDLE is for a handle that fails internal consistency checks",
        explains: |d| d.status() == Some((BADHANDLE, STALE)),
    },
    Row {
        name: "handles of any length are decoded",
        section: "2.4: NFS3_FHSIZE, no file handle is longer than 64 bytes",
        explains: |d| {
            d.call.handle().is_some_and(|handle| handle[OURS].len() > 64)
                && matches!(d.status(), Some((GARBAGE, BADHANDLE | STALE)))
        },
    },
    Row {
        name: "sizes of requests are constants",
        section: "3.3.19: preferred sizes and multiples are the server's to choose",
        explains: |d| {
            ["rtmult", "wtmax", "wtpref", "wtmult", "dtpref"].contains(&d.field)
                && d.values[THEIRS] == Some(Value::Number(1 << 20))
        },
    },
    Row {
        name: "files end at 128 GiB",
        section: "3.3.19: maxfilesize is the maximum size of a file on the file system",
        explains: |d| d.numbers("maxfilesize") == Some((i64::MAX.unsigned_abs(), 128 << 30)),
    },
    Row {
        name: "times have milliseconds",
        section: "3.3.19: time_delta is the server's granularity of times",
        explains: |d| d.numbers("time_delta.nanos") == Some((1, 1_000_000)),
    },
    Row {
        name: "times can be set",
        section: "3.3.19: FSF3_CANSETTIME is for a server that sets times with SETATTR",
        explains: |d| d.numbers("properties").is_some_and(|(ours, theirs)| ours | 0x10 == theirs),
    },
    Row {
        name: "no cookie without the verifier of this moment",
        section: "3.3.16: a server whose cookies are always valid may use zero as the verifier always",
        explains: |d| {
            matches!(d.call, Call::ReadDir { .. }) && d.status().is_some_and(|(_, theirs)| theirs == BAD_COOKIE)
        },
    },
    Row {
        name: "the smallest count is looked at before the object",
        section: "3.3.16, 3.3.17: NFS3ERR_TOOSMALL is about results, and without an object there are none",
        explains: |d| match d.call {
            Call::ReadDir { count, .. } => *count < 108,
            Call::ReadDirPlus { count, .. } => *count < 128,
            _ => false,
        } && d.status().is_some_and(|(ours, theirs)| ours != OK && theirs == TOOSMALL),
    },
    Row {
        name: "READDIR counts eight bytes too many",
        section: "3.3.16: count is the maximum size of READDIR3resok",
        explains: |d| {
            let Call::ReadDir { count, .. } = d.call else { return false };
            let [ours, theirs] = d.answers;
            let more = matches!(d.status(), Some((OK, TOOSMALL)))
                || d.numbers("entries").is_some_and(|(ours, theirs)| ours > theirs);
            let taken = if theirs.status == OK { theirs.len } else { EMPTY };
            let next = ours.entries.get(theirs.entries.len()).map_or(0, name_size);
            more && ours.len <= *count as usize && taken + next + 8 > *count as usize
        },
    },
    Row {
        name: "no page of the root is one entry short",
        section: "3.3.16: count is a maximum, and eof alone tells the end; we ask for no more than can fit",
        explains: |d| {
            let Call::ReadDir { count, .. } = d.call else { return false };
            let hidden = d.numbers("entries").is_some_and(|(ours, theirs)| ours + 1 == theirs);
            let most = (*count as usize).saturating_sub(EMPTY) / NAME_MIN;
            hidden && d.answers[OURS].entries.len() + 1 == most
        },
    },
    Row {
        name: "READDIRPLUS has handles of another size and keeps 128 bytes free",
        section: "3.3.17: maxcount is the maximum size of READDIRPLUS3resok; handles count",
        explains: |d| {
            let Call::ReadDirPlus { count, names, .. } = d.call else { return false };
            match (d.status(), d.numbers("entries")) {
                (Some((OK, TOOSMALL)), _) => *names != 0 && they_are_full(d.answers, *count),
                (Some((TOOSMALL, OK)), _) => we_are_full(d.answers, *names, *count),
                (_, Some((ours, theirs))) if ours > theirs => they_are_full(d.answers, *count),
                (_, Some(_)) => we_are_full(d.answers, *names, *count),
                _ => false,
            }
        },
    },
    Row {
        name: "a dircount of zero is taken at its word",
        section: "3.3.17: dircount is there as an optimization, maxcount limits the reply",
        explains: |d| {
            matches!(d.call, Call::ReadDirPlus { names: 0, .. }) && d.status() == Some((OK, TOOSMALL))
        },
    },
    Row {
        name: "clients may do without an identity",
        section: "5.2.1: AUTH_UNIX authentication or better is required",
        explains: |d| {
            let lists = [&[0, 0, 0, 1][..], &[0, 0, 0, 0, 0, 0, 0, 1]];
            d.field == "flavors" && d.values == lists.map(|list| Some(Value::Bytes(Bytes::from_static(list))))
        },
    },
    Row {
        name: "a file can be mounted",
        section: "5.2.1: the pathname describes a directory",
        explains: |d| d.mount_path().is_some() && d.status() == Some((NOTDIR, OK)),
    },
    Row {
        name: "MNT fails for one reason",
        section: "5.1.5: mountstat3 tells NOTDIR, INVAL and NAMETOOLONG from NOENT",
        explains: |d| {
            let reasons = matches!(d.status(), Some((NOTDIR | INVAL | NAMETOOLONG, NOENT)));
            d.mount_path().is_some() && reasons
        },
    },
    Row {
        name: "MNT asks for permission on the way",
        section: "5.2.1: MNT maps a pathname; 4.4: permissions are checked by each call on a handle",
        explains: |d| {
            let first = d.mount_path().and_then(|path| path.split(|b| *b == b'/').find(|name| !name.is_empty()));
            matches!(first, Some(b"closed" | b"listed")) && matches!(d.status(), Some((OK | NOTDIR, NOENT)))
        },
    },
    Row {
        name: "only UTF-8 can be mounted",
        section: "5.2.1: a server pathname; names on this server are bytes",
        explains: |d| {
            d.mount_path().is_some_and(|path| std::str::from_utf8(path).is_err())
                && d.status().is_some_and(|(ours, theirs)| ours != INVAL && theirs == INVAL)
        },
    },
    Row {
        name: "blanks at the ends of a path are dropped",
        section: "5.2.1: a server pathname; blanks are part of names",
        explains: |d| {
            d.mount_path().is_some_and(|path| path.ends_with(b" "))
                && matches!(d.status(), Some((NOENT, OK) | (OK, NOENT)))
        },
    },
    Row {
        name: "a path begins with a slash",
        section: "5.2.1: the form of a server pathname is the server's; mountd takes the empty one for /",
        explains: |d| {
            d.mount_path().is_some_and(|path| !path.starts_with(b"/")) && d.status() == Some((OK, NOENT))
        },
    },
    Row {
        name: "paths of any length are decoded",
        section: "5.1.4: MNTPATHLEN, no path is longer than 1024 bytes",
        explains: |d| {
            d.mount_path().is_some_and(|path| path.len() > 1024)
                && d.status().is_some_and(|(ours, _)| ours == GARBAGE)
        },
    },
];

/// Bytes of a listing's results without entries.
const EMPTY: usize = 4 + 84 + 8 + 4 + 4;
/// Bytes of attributes and handle of an entry with the longest handle, and with the adapter's.
const LONGEST_DESCRIPTION: usize = 4 + 84 + 4 + 4 + 64;
const THEIR_DESCRIPTION: usize = 4 + 84 + 4 + 4 + 24;
/// Bytes of the shortest entry without them.
const NAME_MIN: usize = 4 + 8 + 4 + 4 + 8;

/// Bytes of an entry without attributes and handle.
fn name_size(entry: &Fields) -> usize {
    4 + 8 + 4 + bytes(entry, "name").unwrap().len().next_multiple_of(4) + 8
}

/// Whether one more entry can be too much for us, with the longest of handles. We ask the store for
/// no more entries than can fit; one of them may be the evidence's directory, which nobody sees.
fn we_are_full([ours, theirs]: &Pair<Answer>, names: u32, count: u32) -> bool {
    let count = count as usize;
    let names = if names == 0 { count } else { names as usize };
    let shown: usize = ours.entries.iter().map(name_size).sum();
    let all = EMPTY + shown + ours.entries.len() * LONGEST_DESCRIPTION;
    let next = name_size(&theirs.entries[ours.entries.len()]);
    let most = (names / NAME_MIN).min((count - EMPTY) / (NAME_MIN + LONGEST_DESCRIPTION));
    all + next + LONGEST_DESCRIPTION > count || shown + next > names || ours.entries.len() + 1 >= most
}

/// Whether one more entry is too much for them.
fn they_are_full([ours, theirs]: &Pair<Answer>, count: u32) -> bool {
    let taken = if theirs.status == OK { theirs.len - EMPTY } else { 0 };
    let next = ours.entries.get(theirs.entries.len()).map_or(0, |entry| name_size(entry) + THEIR_DESCRIPTION);
    taken + next + 4 + 128 > count as usize
}

/// Which handle of one side goes with a handle of the other.
pub type Twins = Pair<HashMap<Bytes, Bytes>>;

/// All differences between two answers to `call`. Handles are the same when they always go together.
pub fn differences<'a>(call: &'a Call, answers: &'a Pair<Answer>, twins: &mut Twins) -> Vec<Difference<'a>> {
    let mut found = Vec::new();
    let mut report = |field, values| found.push(Difference { call, answers, field, values });
    let number = |value| Some(Value::Number(value));
    let [ours, theirs] = answers;
    if ours.status != theirs.status {
        report("status", [number(ours.status), number(theirs.status)]);
        return found;
    }
    let counts = [ours.entries.len(), theirs.entries.len()];
    if counts[OURS] != counts[THEIRS] {
        report("entries", counts.map(|count| number(count as u64)));
    }
    let mut compare = |ours: &Fields, theirs: &Fields| {
        for n in 0..ours.len().max(theirs.len()) {
            let (name, value) = ours.get(n).cloned().unzip();
            let (their_name, their_value) = theirs.get(n).cloned().unzip();
            let field = name.or(their_name).unwrap_or_default();
            let same = match (&value, &their_value) {
                (Some(Value::Handle(ours)), Some(Value::Handle(theirs))) => together(twins, ours, theirs),
                // The longer list says what it likes, the shorter one that more follows.
                _ if field == "eof" && counts[OURS] < counts[THEIRS] => value == number(0),
                _ if field == "eof" && counts[OURS] > counts[THEIRS] => their_value == number(0),
                _ => value == their_value,
            };
            if !same || name != their_name {
                report(field, [value, their_value]);
            }
            if name != their_name {
                return;
            }
        }
    };
    compare(&ours.fields, &theirs.fields);
    ours.entries.iter().zip(&theirs.entries).for_each(|(ours, theirs)| compare(ours, theirs));
    found
}

fn together(twins: &mut Twins, ours: &Bytes, theirs: &Bytes) -> bool {
    let known = twins[OURS].entry(ours.clone()).or_insert_with(|| theirs.clone()) == theirs;
    known && twins[THEIRS].entry(theirs.clone()).or_insert_with(|| ours.clone()) == ours
}
