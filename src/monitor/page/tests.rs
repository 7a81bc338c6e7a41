use super::*;
use crate::event::{
    Cause, Client, DiskUsage, Examined, FailedBlock, Overview, Refusal, RulingPolicy, Survey, TrustedKey,
    Usage,
};
use crate::monitor::failures::Failures;
use crate::monitor::map;
use crate::monitor::snapshot::{Totals, View};
use crate::monitor::status::{Phase, Reload, Scrubbed, Status};

fn status(mode: &str) -> Status {
    let mut status = Status::new(Timestamp::UNIX_EPOCH, None);
    (status.phase, status.mode) = (Phase::Serving, mode.to_owned());
    status
}

fn snapshot(status: &Status, overview: Overview, failures: &Failures) -> Snapshot {
    let usage = Usage { disk: DiskUsage { capacity: 1, ..DiskUsage::default() }, ..Usage::default() };
    let totals = Totals { reads: 12345, audit_lines_dropped: 3, ..Totals::default() };
    let (refused, now) = (vec![(Cause::BadBlock, 4)], Timestamp::UNIX_EPOCH);
    let recent = failures.recent.clone();
    Snapshot::new(View { status, overview, recent, usage, totals, refused, last_event: 9, now })
}

fn page(status: &Status, overview: Overview, failures: &Failures) -> String {
    let refused = Minute { refused: 2, read_bytes: 100, ..Minute::default() };
    render(&snapshot(status, overview, failures), &[Minute::default(), refused])
}

fn refuse(failures: &mut Failures, path: &[u8], detail: &str) {
    let client = Client { address: "192.0.2.7:700".parse().unwrap(), uid: Some(1234), gid: None };
    let (expected, found) = (Some(&[0xab; 32][..]), Some(&[0xcd; 32][..]));
    let client = Some(client);
    let refusal =
        Refusal { detail, block: Some(77), expected, found, client, ..Refusal::plain(path, Cause::BadBlock) };
    failures.add(&refusal, Timestamp::UNIX_EPOCH);
}

/// Everything foreign that may stand on a page.
fn hostile(text: &str) -> (Status, Overview, Failures) {
    let mut failures = Failures::default();
    refuse(&mut failures, text.as_bytes(), text);
    refuse(&mut failures, b"\xff<b>", "");
    let mut status = status(text);
    status.relax(text);
    status.reload = Some(Reload::new(text, text, false));
    status.audit_log = Some(text.into());
    status.scrubbed = Some(Scrubbed::new(text, false, &Default::default()));
    status.measuring = Some((text.to_owned(), true));
    status.store_down(text);
    let key = TrustedKey {
        id: text.to_owned(),
        name: text.to_owned(),
        formats: text.to_owned(),
        paths: vec![text.to_owned()],
        revoked_by: Some(text.to_owned()),
        ..TrustedKey::default()
    };
    let overview = Overview {
        namespace: text.to_owned(),
        stores: vec![text.to_owned(), "other".to_owned()],
        accept: text.to_owned(),
        carriers: text.to_owned(),
        trust: text.to_owned(),
        keys: vec![key],
        policy: Some(RulingPolicy { title: text.to_owned(), ..RulingPolicy::default() }),
        measure: Some(text.to_owned()),
        ..Overview::default()
    };
    (status, overview, failures)
}

#[test]
fn hostile_text_stays_text() {
    let text = "<script>alert(1)</script>\n\"'&<img src=x onerror=y>";
    let (status, overview, failures) = hostile(text);
    let snapshot = snapshot(&status, overview.clone(), &failures);
    let path = text.as_bytes().to_vec();
    let (survey, file) = (Some(Survey::default()), failures.of(&path).cloned());
    let known = Known { path, survey, file, runs: Vec::new() };
    for page in [page(&status, overview, &failures), render_file(&snapshot, &known)] {
        assert_eq!(page.matches("<script").count(), 1, "the page's own: {page}");
        assert!(!page.contains("<img") && !page.contains("<b>"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;\\x0a&quot;&#39;&amp;&lt;img"), "{page}");
    }
}

#[test]
fn relaxed_enforcement_is_loud_and_names_its_setting() {
    let banner = "class=\"relaxed\" role=\"alert\"";
    let page = |status: &Status| page(status, Overview::default(), &Failures::default());
    assert!(!page(&status("enforce")).contains(banner));
    let warn = page(&status("warn"));
    assert!(warn.contains(banner) && warn.contains("mode = \"warn\""), "{warn}");
    let mut named = status("enforce");
    for setting in ["a = 1", "a = 1", "b = 2"] {
        named.relax(setting);
    }
    let named = page(&named);
    assert!(named.contains("<code>a = 1</code>, <code>b = 2</code>"), "{named}");
    assert!(named.contains("data-health=\"bad\""));
}

#[test]
fn a_failure_says_who_where_why_and_what_to_do() {
    let mut failures = Failures::default();
    (0..3).for_each(|_| refuse(&mut failures, b"dir/a file\xff", "offset 9"));
    let page = page(&status("enforce"), Overview::default(), &failures);
    for fact in [
        "data-path=\"dir/a file\\xff\"",
        "href=\"/files?path=dir/a%20file%FF\"",
        "bad block",
        "block 77",
        "offset 9",
        &"ab".repeat(32),
        &"cd".repeat(32),
        "192.0.2.7:700",
        "uid 1234",
        "1970-01-01T00:00:00Z",
        "3 times",
        Cause::BadBlock.remedy().replace('\'', "&#39;").as_str(),
        "12345",
        "2 failures told",
    ] {
        assert!(page.contains(fact), "{fact} in {page}");
    }
}

#[test]
fn what_is_exported_is_there() {
    let name = "release".to_owned();
    let key = TrustedKey { name, standing: "trusted", last: Some(60), ..TrustedKey::default() };
    let overview = Overview {
        stores: vec!["local /srv".to_owned(), "nfs://other/".to_owned()],
        keys: vec![key],
        policy: Some(RulingPolicy { title: "boot 1.0.0".to_owned(), permissive: true, rules: 3 }),
        ..Overview::default()
    };
    let mut status = status("enforce");
    status.store_down("nfs://other/");
    let page = page(&status, overview, &Failures::default());
    for fact in
        ["local /srv", "boot 1.0.0, 3 rules, permissive", "release", "expiring", "1970-01-01T00:01:00Z"]
    {
        assert!(page.contains(fact), "{fact} in {page}");
    }
    assert!(page.contains("nfs://other/<td>replica<td><span class=\"bad\">no</span>"), "{page}");
    assert!(page.contains("<p class=\"good\">None.</p>"), "{page}");
}

#[test]
fn a_file_shows_which_of_its_blocks_are_bad() {
    let mut failures = Failures::default();
    refuse(&mut failures, b"a", "");
    let survey = Survey {
        size: 256 * 4096,
        block_size: 4096,
        arity: 128,
        good: vec![64..80, 80..100],
        ..Survey::default()
    };
    let file = failures.of(b"a").cloned();
    let runs = map::runs(&survey, file.as_ref());
    let known = Known { path: b"a".to_vec(), survey: Some(survey), file, runs };
    let page = render_file(&snapshot(&status("enforce"), Overview::default(), &failures), &known);
    assert!(page.contains("256 blocks: 35 good, 1 bad, 220 unknown"), "{page}");
    assert_eq!(page.matches("data-state=\"bad\"").count(), 1);
    assert!(page.contains("data-state=\"bad\" data-first=\"77\" data-count=\"1\""), "{page}");
    assert!(page.contains("<tr data-block=\"77\">"), "{page}");
    assert!(page.contains("curl -X POST"), "{page}");
}

#[test]
fn a_checked_file_has_no_unknown_blocks() {
    let mut failures = Failures::default();
    let (cause, detail) = (Cause::BadTreeBlock, "x".to_owned());
    let failed = vec![FailedBlock { cause, block: 1, level: Some(0), detail }];
    failures.check(b"a", Some(Survey::default().version), Timestamp::UNIX_EPOCH);
    failures.checked(b"a", &Ok(Examined::Blocks { failed, count: 1 }), Timestamp::UNIX_EPOCH);
    let survey = Survey { size: 256 * 4096, block_size: 4096, arity: 128, ..Survey::default() };
    let file = failures.of(b"a").cloned();
    let runs = map::runs(&survey, file.as_ref());
    let known = Known { path: b"a".to_vec(), survey: Some(survey), file, runs };
    let page = render_file(&snapshot(&status("enforce"), Overview::default(), &failures), &known);
    assert!(page.contains("256 blocks: 128 good, 128 bad, 0 unknown"), "{page}");
    assert!(page.contains("<tr data-block=\"1\" data-level=\"0\">"), "{page}");
    assert!(page.contains("bad blocks: 1 (1970"), "{page}");
}

#[test]
fn nothing_comes_from_elsewhere() {
    let page = page(&status("warn"), Overview::default(), &Failures::default());
    for tag in ["url(", "@import", "http:", "https:", "style=", "onclick", "//"] {
        assert!(!page.replace("http://MONITOR", "").contains(tag), "{tag}");
        assert!(!STYLE.contains(tag) || tag == "style=", "{tag}");
    }
    assert_eq!(page.matches("src=").count(), 1);
    assert!(page.contains("<script src=\"/monitor.js\" defer></script>"));
}

#[test]
fn bytes_are_short() {
    for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (u64::MAX, "16777215.9 TiB")] {
        assert_eq!(Bytes(bytes).to_string(), text);
    }
}
