//! The daemons' side of the log.

use std::collections::BTreeMap;

use super::*;
use crate::event::{Cause, Event, Refusal, Sink};
use crate::monitor::{Monitor, Options};

/// Someone who listens.
fn daemon(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

fn next(daemon: &UnixDatagram) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 2 * ENTRY_MAX];
    let length = daemon.recv(&mut bytes).ok()?;
    bytes.truncate(length);
    Some(bytes)
}

fn line(daemon: &UnixDatagram) -> String {
    String::from_utf8(next(daemon).unwrap()).unwrap()
}

/// An entry taken apart as the journal does: of both forms that a field may have.
fn fields(mut entry: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while !entry.is_empty() {
        let end = entry.iter().position(|byte| *byte == b'\n').unwrap();
        let (first, rest) = (std::str::from_utf8(&entry[..end]).unwrap(), &entry[end + 1..]);
        let (name, value) = match first.split_once('=') {
            Some((name, value)) => {
                entry = rest;
                (name, value.to_owned())
            }
            None => {
                let length = u64::from_le_bytes(rest[..8].try_into().unwrap());
                let length = usize::try_from(length).unwrap();
                assert_eq!(rest[8 + length], b'\n');
                entry = &rest[8 + length + 1..];
                (first, String::from_utf8(rest[8..8 + length].to_vec()).unwrap())
            }
        };
        assert!(name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'), "{name}");
        assert!(name.len() <= FIELD_NAME_MAX && !name.starts_with('_'), "{name}");
        assert!(fields.insert(name.to_owned(), value).is_none(), "{name} is there twice");
    }
    fields
}

/// What `daemon` gets while `says` says something.
fn while_saying(form: Form, says: impl FnOnce()) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let daemon = daemon(&path);
    let outlet = Outlet::open(form, &path).unwrap();
    tracing::subscriber::with_default(Registry::default().with(outlet), says);
    std::iter::from_fn(|| next(&daemon)).collect()
}

const HOSTILE: &[u8] = b"x\nMESSAGE=forged\n<0>Jan  1 00:00:00 su: root\r\x1b[2J\xff";

/// What the monitor says of a file with a hostile name.
fn refuse() {
    let monitor = Monitor::new(Options::default()).unwrap();
    monitor.emit(&Event::Refused(Refusal {
        detail: "line\nPRIORITY=0",
        block: Some(3),
        ..Refusal::plain(HOSTILE, Cause::BadBlock)
    }));
    assert!(monitor.close());
}

#[test]
fn the_journal_gets_a_field_for_each_fact() {
    let entries = while_saying(Form::Journal, || {
        tracing::info!(nfs = %"[::1]:2049", keys = 2, mode = "a \"b\"", off = None::<u64>, "started");
        tracing::error!(r#type = true, "failed: {}", "why");
    });
    let entries: Vec<_> = entries.iter().map(|entry| fields(entry)).collect();
    let wanted = [
        ("MESSAGE", "started nfs=[::1]:2049 keys=2 mode=\"a \\\"b\\\"\""),
        ("PRIORITY", "6"),
        ("SYSLOG_FACILITY", "3"),
        ("SYSLOG_IDENTIFIER", "nfs-verity"),
        ("NFS_VERITY_TARGET", module_path!()),
        ("NFS_VERITY_NFS", "[::1]:2049"),
        ("NFS_VERITY_KEYS", "2"),
        ("NFS_VERITY_MODE", "a \"b\""),
    ];
    let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(entries[0], BTreeMap::from(wanted));
    assert_eq!((entries[1]["PRIORITY"].as_str(), entries[1]["NFS_VERITY_TYPE"].as_str()), ("3", "true"));
    assert!(entries[1]["MESSAGE"].starts_with("failed: why"), "{:?}", entries[1]);
    assert_eq!(entries.len(), 2);
}

#[test]
fn a_path_forges_neither_a_field_nor_an_entry() {
    let entries = while_saying(Form::Journal, refuse);
    assert_eq!(entries.len(), 1);
    let fields = fields(&entries[0]);
    assert!(fields["MESSAGE"].starts_with("refused path=x\\x0aMESSAGE=forged\\x0a<0>"), "{fields:?}");
    assert_eq!(fields["PRIORITY"], "4");
    assert_eq!(fields["NFS_VERITY_CAUSE"], "bad block");
    assert_eq!(fields["NFS_VERITY_BLOCK"], "3");
    assert_eq!(fields["NFS_VERITY_DETAIL"], "line\\x0aPRIORITY=0");
    assert!(fields.values().all(|value| !value.contains(char::is_control)), "{fields:?}");
}

#[test]
fn a_path_forges_no_line_of_syslog() {
    let lines = while_saying(Form::Syslog(TimeZone::UTC), refuse);
    assert_eq!(lines.len(), 1);
    let line = String::from_utf8(lines[0].clone()).unwrap();
    assert!(line.starts_with("<28>") && line.contains("refused path=x\\x0aMESSAGE=forged"), "{line}");
    assert!(!line.contains(char::is_control), "{line:?}");
}

/// Dependencies say what they like.
#[test]
fn what_was_not_made_printable_is_one_line_all_the_same() {
    let says = || tracing::warn!(answer = %"a\nb\u{2028}", words = "c\nd", "of a\nserver");
    let entry = fields(&while_saying(Form::Journal, says)[0]);
    assert_eq!(entry["MESSAGE"], "of a\\x0aserver answer=a\\x0ab\\xe2\\x80\\xa8 words=\"c\\nd\"");
    assert_eq!(entry["NFS_VERITY_WORDS"], "c\\x0ad");
}

#[test]
fn a_line_of_syslog_is_as_the_c_library_sends_it() {
    let said = Said { message: "started".into(), rest: " keys=2".into(), fields: Vec::new() };
    let time = Timestamp::from_second(1_772_528_709).unwrap();
    let pid = std::process::id();
    for (level, zone, wanted) in [
        (Level::INFO, TimeZone::UTC, "<30>Mar  3 09:05:09"),
        (Level::WARN, TimeZone::fixed(jiff::tz::offset(-10)), "<28>Mar  2 23:05:09"),
        (Level::ERROR, TimeZone::UTC, "<27>Mar  3 09:05:09"),
        (Level::DEBUG, TimeZone::UTC, "<31>Mar  3 09:05:09"),
    ] {
        let line = String::from_utf8(syslog_line(level, &said, time, &zone)).unwrap();
        assert_eq!(line, format!("{wanted} nfs-verity[{pid}]: started keys=2"));
    }
}

#[test]
fn what_is_too_long_is_cut_at_a_character() {
    let long = "é".repeat(LINE_MAX);
    let says = || tracing::info!(path = %long, "x");
    let line = String::from_utf8(while_saying(Form::Syslog(TimeZone::UTC), says)[0].clone()).unwrap();
    assert!(line.ends_with("é…") && line.len() < LINE_MAX + 100, "{}", line.len());
    let long = "é".repeat(ENTRY_MAX);
    let says = || {
        let l = &*long;
        tracing::info!(a = %l, b = %l, c = %l, d = %l, e = %l, f = %l, g = %l, h = %l, i = %l, j = %l, "x");
    };
    let entries = while_saying(Form::Journal, says);
    let fields = fields(&entries[0]);
    assert!(entries[0].len() <= ENTRY_MAX + 100, "{}", entries[0].len());
    assert!(fields["NFS_VERITY_A"].ends_with("é…") && !fields.contains_key("NFS_VERITY_J"));
}

#[test]
fn a_daemon_that_was_started_anew_gets_the_next_line_and_the_count() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let first = daemon(&path);
    let outlet = Outlet::open(Form::Syslog(TimeZone::UTC), &path).unwrap();
    let said = |message: &str| Said { message: message.into(), ..Said::default() };
    let say = |message| outlet.say(Level::INFO, "t", &said(message));
    say("one");
    assert!(line(&first).ends_with(": one"));
    drop(first);
    say("two");
    std::fs::remove_file(&path).unwrap();
    say("three");
    let second = daemon(&path);
    say("four");
    let missing = line(&second);
    assert!(missing.starts_with("<28>") && missing.ends_with(" count=2"), "{missing}");
    assert!(line(&second).ends_with(": four"));
    say("five");
    assert!(line(&second).ends_with(": five"));
    assert!(next(&second).is_none());
}

#[test]
fn a_daemon_that_takes_nothing_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let daemon = daemon(&path);
    let outlet = Outlet::open(Form::Journal, &path).unwrap();
    let said = Said { message: "x".repeat(4000), ..Said::default() };
    let mut count = 0_u64;
    while outlet.lost.load(Ordering::Relaxed) < 3 {
        outlet.say(Level::INFO, "t", &said);
        count += 1;
    }
    let taken = std::iter::from_fn(|| next(&daemon)).count() as u64;
    assert_eq!(taken + 3, count);
    outlet.say(Level::INFO, "t", &said);
    assert_eq!(fields(&next(&daemon).unwrap())["NFS_VERITY_COUNT"], "3");
    assert!(fields(&next(&daemon).unwrap())["MESSAGE"].starts_with("xxx"));
}

#[test]
fn a_socket_that_is_not_there_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let refused = |form| Outlet::open(form, &path).unwrap_err().to_string();
    let error = refused(Form::Journal);
    assert!(error.starts_with("log = \"journald\": nobody listens at /"), "{error}");
    assert!(error.contains("/socket: No such file"), "{error}");
    drop(daemon(&path));
    let error = refused(Form::Syslog(TimeZone::UTC));
    assert!(
        error.contains("syslog") && error.contains("refused") && error.contains("leave log out"),
        "{error}"
    );
}
