//! What the kernel accepts and refuses, each settled by reading `security/ipe/policy_parser.c`, `digest.c`,
//! `lib/parser.c` (what `%s` takes), `lib/kstrtox.c` and `lib/ctype.c` (what `isspace` knows).

use super::*;

/// The policy, and either the statements that it comes to, or the line and errno of its refusal.
type Row = (&'static [u8], Result<&'static [&'static str], (usize, &'static str)>);

macro_rules! ok {
    ($text:expr, $($statement:expr),*) => {
        ($text.as_bytes(), Ok(&[$($statement),*] as &[&str]))
    };
}
macro_rules! no {
    ($text:expr, $line:expr, $errno:expr) => {
        ($text.as_bytes(), Err(($line, $errno)))
    };
}
/// A policy of a good header and these lines.
macro_rules! lines {
    ($text:expr) => {
        concat!("policy_name=p policy_version=1.2.3\n", $text)
    };
}
/// A policy of this header and a good default.
macro_rules! header {
    ($text:expr) => {
        concat!($text, "\nDEFAULT action=DENY")
    };
}

const DENY: &str = "DEFAULT action=DENY";

#[rustfmt::skip] // one row, one line
const ROWS: &[Row] = &[
    // Headers.
    ok!(header!("policy_name=p policy_version=1.2.3"), DENY),
    ok!(header!("policy_name=p policy_version=0.0.0"), DENY),
    ok!(header!("policy_name=p policy_version=65535.65535.65535"), DENY),
    ok!(header!("\n\n \t\r\n# a comment\n  policy_name=p\t policy_version=1.2.3  # another"), DENY),
    ok!(header!("policy_name=\"p\" policy_version=1.2.3"), DENY),
    ok!(header!("policy_name=policy_name=p policy_version=1.2.3"), DENY),
    ok!(header!("policy_name=p policy_version=+1.+2.+3"), DENY),
    ok!(header!("policy_name=p policy_version=0000001.002.03"), DENY),
    no!("", 1, "EBADMSG"),
    no!("\n\r\n\n", 1, "EBADMSG"),
    no!("# only a comment", 1, "EBADMSG"),
    no!("DEFAULT action=DENY\n", 1, "EBADMSG"),
    no!(header!("policy_version=1.2.3 policy_name=p"), 1, "EBADMSG"),
    no!(header!("policy_name=p"), 1, "EBADMSG"),
    no!(header!("policy_version=1.2.3"), 1, "EBADMSG"),
    no!(header!("policy_name=p\npolicy_version=1.2.3"), 1, "EBADMSG"),
    no!(header!("policy_name= policy_version=1.2.3"), 1, "EBADMSG"),
    no!(header!("policy_name policy_version=1.2.3"), 1, "EBADMSG"),
    no!(header!("POLICY_NAME=p policy_version=1.2.3"), 1, "EBADMSG"),
    no!(header!("policy_name=p Policy_version=1.2.3"), 1, "EBADMSG"),
    no!(header!("policy_name=p policy_name=p policy_version=1.2.3"), 1, "EBADMSG"),
    no!(header!("policy_name=p policy_version=1.2.3 x"), 1, "EBADMSG"),
    no!(header!("policy_name=p policy_version=1.2.3 policy_version=1.2.3"), 1, "EBADMSG"),
    no!(header!("policy_name = p policy_version=1.2.3"), 1, "EBADMSG"),
    no!(header!("policy_name=p q policy_version=1.2.3"), 1, "EBADMSG"),
    no!(header!("policy_name=p policy_version=1.2.3\npolicy_name=p policy_version=1.2.3"), 2, "EBADMSG"),
    no!(header!("policy_name=a#b policy_version=1.2.3"), 1, "EBADMSG"),
    // Versions.
    no!(header!("policy_name=p policy_version="), 1, "EBADMSG"),
    no!(header!("policy_name=p policy_version=1"), 1, "EBADMSG"),
    no!(header!("policy_name=p policy_version=1.2"), 1, "EBADMSG"),
    no!(header!("policy_name=p policy_version=1.2.3.4"), 1, "EBADMSG"),
    no!(header!("policy_name=p policy_version=1.2.3."), 1, "EBADMSG"),
    no!(header!("policy_name=p policy_version=1.2.3.x"), 1, "EBADMSG"),
    no!(header!("policy_name=p policy_version=1.2."), 1, "EINVAL"),
    no!(header!("policy_name=p policy_version=."), 1, "EINVAL"),
    no!(header!("policy_name=p policy_version=1..3"), 1, "EINVAL"),
    no!(header!("policy_name=p policy_version=a.b.c"), 1, "EINVAL"),
    no!(header!("policy_name=p policy_version=1.2.3a"), 1, "EINVAL"),
    no!(header!("policy_name=p policy_version=0x1.2.3"), 1, "EINVAL"),
    no!(header!("policy_name=p policy_version=-1.2.3"), 1, "EINVAL"),
    no!(header!("policy_name=p policy_version=1.++2.3"), 1, "EINVAL"),
    no!(header!("policy_name=p policy_version=1.+.3"), 1, "EINVAL"),
    no!(header!("policy_name=p policy_version=1.x.3.4"), 1, "EINVAL"),
    no!(header!("policy_name=p policy_version=65536x.0.0"), 1, "EINVAL"),
    no!(header!("policy_name=p policy_version=65536.0.0"), 1, "ERANGE"),
    no!(header!("policy_name=p policy_version=0.0.65536"), 1, "ERANGE"),
    no!(header!("policy_name=p policy_version=0.18446744073709551615.0"), 1, "ERANGE"),
    no!(header!("policy_name=p policy_version=0.18446744073709551616.0"), 1, "ERANGE"),
    no!(header!("policy_name=p policy_version=18446744073709551616x.0.0"), 1, "ERANGE"),
    no!(header!("policy_name=p policy_version=1.2.65536 x"), 1, "ERANGE"),
    no!(header!("policy_name=p policy_version=1.2.3.4 x"), 1, "EBADMSG"),
    // Lines, spaces and comments.
    ok!("policy_name=p policy_version=1.2.3\rDEFAULT action=DENY\rop=EXECUTE action=ALLOW", DENY, "op=EXECUTE action=ALLOW"),
    ok!("policy_name=p policy_version=1.2.3\r\nDEFAULT action=DENY\r\n", DENY),
    ok!("policy_name=p policy_version=1.2.3\n\rDEFAULT action=DENY", DENY),
    ok!(lines!("\tDEFAULT \t action=DENY\x0b\x0c \n"), DENY),
    ok!(lines!("DEFAULT action=DENY#comment\n#op=EXECUTE\n # # #\n"), DENY),
    ok!(lines!("DEFAULT action=DENY # op=EXECUTE action=ALLOW\r# comment\rop=POLICY action=ALLOW"), DENY, "op=POLICY action=ALLOW"),
    (b"policy_name=p policy_version=1.2.3\nDEFAULT action=DENY\xa0\xa0", Ok(&[DENY])),
    (b"policy_name=p policy_version=1.2.3\nDEFAULT action=DENY\0\nwhat follows is not read", Ok(&[DENY])),
    (b"\0policy_name=p policy_version=1.2.3\nDEFAULT action=DENY", Err((1, "EBADMSG"))),
    (b"\xef\xbb\xbfpolicy_name=p policy_version=1.2.3\nDEFAULT action=DENY", Err((1, "EBADMSG"))),
    no!(lines!("DEFAULT\x0baction=DENY"), 2, "EBADMSG"),
    no!(lines!("\x0bDEFAULT action=DENY"), 2, "EBADMSG"),
    no!(lines!("DEFAULT \\\naction=DENY"), 2, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\n\r\n\r\nop=EXECUTE # action=ALLOW"), 5, "EBADMSG"),
    // Rules.
    ok!(lines!("op=EXECUTE action=ALLOW\nDEFAULT action=DENY"), "op=EXECUTE action=ALLOW", DENY),
    ok!(lines!("DEFAULT action=ALLOW\nop=FIRMWARE action=DENY\nop=KMODULE action=DENY\nop=KEXEC_IMAGE action=DENY\nop=KEXEC_INITRAMFS action=DENY\nop=POLICY action=DENY\nop=X509_CERT action=DENY"),
        "DEFAULT action=ALLOW", "op=FIRMWARE action=DENY", "op=KMODULE action=DENY", "op=KEXEC_IMAGE action=DENY", "op=KEXEC_INITRAMFS action=DENY", "op=POLICY action=DENY", "op=X509_CERT action=DENY"),
    ok!(lines!("DEFAULT action=DENY\nop=EXECUTE boot_verified=TRUE boot_verified=FALSE boot_verified=TRUE action=ALLOW"),
        DENY, "op=EXECUTE boot_verified=TRUE boot_verified=FALSE boot_verified=TRUE action=ALLOW"),
    ok!(lines!("DEFAULT action=DENY\nop=EXECUTE dmverity_signature=FALSE dmverity_signature=TRUE fsverity_signature=TRUE fsverity_signature=FALSE action=ALLOW"),
        DENY, "op=EXECUTE dmverity_signature=FALSE dmverity_signature=TRUE fsverity_signature=TRUE fsverity_signature=FALSE action=ALLOW"),
    ok!(lines!("DEFAULT action=DENY\nop=EXECUTE action=ALLOW\nop=EXECUTE action=DENY\nop=EXECUTE action=ALLOW"),
        DENY, "op=EXECUTE action=ALLOW", "op=EXECUTE action=DENY", "op=EXECUTE action=ALLOW"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\naction=ALLOW"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nop=execute action=ALLOW"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE action=allow"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE action="), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nop= action=ALLOW"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE,POLICY action=ALLOW"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nop=UNKNOWN action=ALLOW"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nOP=EXECUTE action=ALLOW"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\naction=ALLOW op=EXECUTE"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nboot_verified=TRUE op=EXECUTE action=ALLOW"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE op=EXECUTE action=ALLOW"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE action=ALLOW action=ALLOW"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE action=ALLOW boot_verified=TRUE"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE boot_verified=true action=ALLOW"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE boot_verified= action=ALLOW"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE boot_verified action=ALLOW"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE boot_verified=TRUE,FALSE action=ALLOW"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE fs_verity=TRUE action=ALLOW"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE DEFAULT action=ALLOW"), 3, "EBADMSG"),
    // Defaults.
    ok!(lines!("DEFAULT op=EXECUTE action=ALLOW\nDEFAULT action=DENY"), "DEFAULT op=EXECUTE action=ALLOW", DENY),
    ok!(lines!("DEFAULT op=EXECUTE action=DENY\nDEFAULT op=FIRMWARE action=DENY\nDEFAULT op=KMODULE action=DENY\nDEFAULT op=KEXEC_IMAGE action=DENY\nDEFAULT op=KEXEC_INITRAMFS action=DENY\nDEFAULT op=POLICY action=DENY\nDEFAULT op=X509_CERT action=ALLOW"),
        "DEFAULT op=EXECUTE action=DENY", "DEFAULT op=FIRMWARE action=DENY", "DEFAULT op=KMODULE action=DENY", "DEFAULT op=KEXEC_IMAGE action=DENY", "DEFAULT op=KEXEC_INITRAMFS action=DENY", "DEFAULT op=POLICY action=DENY", "DEFAULT op=X509_CERT action=ALLOW"),
    no!(lines!(""), 1, "EBADMSG"),
    no!(lines!("op=EXECUTE action=ALLOW"), 2, "EBADMSG"),
    no!(lines!("DEFAULT op=EXECUTE action=DENY\nDEFAULT op=FIRMWARE action=DENY\nDEFAULT op=KMODULE action=DENY\nDEFAULT op=KEXEC_IMAGE action=DENY\nDEFAULT op=KEXEC_INITRAMFS action=DENY\nDEFAULT op=POLICY action=DENY"), 7, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nDEFAULT action=DENY"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nDEFAULT action=ALLOW"), 3, "EBADMSG"),
    no!(lines!("DEFAULT op=POLICY action=DENY\nDEFAULT action=DENY\nDEFAULT op=POLICY action=DENY"), 4, "EBADMSG"),
    no!(lines!("DEFAULT action=ALLOW\nDEFAULT boot_verified=TRUE action=DENY"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=ALLOW\nDEFAULT op=EXECUTE boot_verified=TRUE action=DENY"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=ALLOW\nDEFAULT DEFAULT action=DENY"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=ALLOW\ndefault action=DENY"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=ALLOW\nDEFAULT"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=ALLOW\nDEFAULT op=EXECUTE"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=ALLOW\nDEFAULTaction=DENY"), 3, "EBADMSG"),
    // Digests, and what is told of two faults on a line.
    ok!(lines!("DEFAULT action=DENY\nop=EXECUTE fsverity_digest=sha256:00fF dmverity_roothash=sha512:Ab action=DENY"),
        DENY, "op=EXECUTE fsverity_digest=sha256:00FF dmverity_roothash=sha512:AB action=DENY"),
    ok!(lines!("DEFAULT action=DENY\nop=EXECUTE fsverity_digest=no-such-hash:00 action=DENY"), DENY, "op=EXECUTE fsverity_digest=no-such-hash:00 action=DENY"),
    ok!(lines!("DEFAULT action=DENY\nop=EXECUTE fsverity_digest=sha256: action=DENY"), DENY, "op=EXECUTE fsverity_digest=sha256: action=DENY"),
    ok!(lines!("DEFAULT action=DENY\nop=EXECUTE dmverity_roothash=: action=DENY"), DENY, "op=EXECUTE dmverity_roothash=: action=DENY"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE fsverity_digest= action=DENY"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE fsverity_digest=sha256 action=DENY"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE fsverity_digest=00ff action=DENY"), 3, "EBADMSG"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE fsverity_digest=sha256:0 action=DENY"), 3, "EINVAL"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE fsverity_digest=sha256:00f action=DENY"), 3, "EINVAL"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE fsverity_digest=sha256:0g action=DENY"), 3, "EINVAL"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE fsverity_digest=sha256:0x00 action=DENY"), 3, "EINVAL"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE fsverity_digest=sha256:00:ff action=DENY"), 3, "EINVAL"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE dmverity_roothash=sha256:\"00\" action=DENY"), 3, "EINVAL"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE fsverity_digest=sha256:0 action=what"), 3, "EINVAL"),
    no!(lines!("DEFAULT op=EXECUTE fsverity_digest=sha256:0 action=DENY"), 2, "EINVAL"),
    no!(lines!("DEFAULT action=DENY\nop=EXECUTE what fsverity_digest=sha256:0 action=DENY"), 3, "EBADMSG"),
];

#[test]
fn the_kernel_s_verdicts_are_ours() {
    assert!(ROWS.len() >= 100);
    for (text, expected) in ROWS {
        let shown = text.escape_ascii();
        match (Policy::parse(text), expected) {
            (Ok(policy), Ok(expected)) => {
                assert_eq!(statements(&policy), *expected, "{shown}");
                assert!(!policy.has_additions(), "{shown}");
            }
            (Err(error), Err((line, errno))) => {
                assert_eq!((error.line(), error.errno().name()), (*line, *errno), "{shown}: {error}");
            }
            (Ok(_), Err(_)) => panic!("accepted: {shown}"),
            (Err(error), Ok(_)) => panic!("{error}: {shown}"),
        }
    }
}

#[test]
fn a_header_names_the_policy() {
    let text = b"policy_name=\xffa=\"b\"\x0b policy_version=+1.65535.007\nDEFAULT action=DENY";
    let policy = Policy::parse(text).unwrap();
    assert_eq!(policy.name(), b"\xffa=\"b\"\x0b");
    assert_eq!(policy.version(), Version { major: 1, minor: 65535, revision: 7 });
    assert_eq!(policy.version().to_string(), "1.65535.7");
}

#[test]
fn the_policy_of_the_vectors_is_read() {
    let text = include_bytes!("../../../../tests/vectors/ipe/policy.txt");
    let policy = Policy::parse(text).unwrap();
    assert_eq!((policy.name(), policy.version().to_string().as_str()), (&b"nfs_verity"[..], "0.0.1"));
    assert!(!policy.has_additions());
    let lines: Vec<_> = policy.statements().iter().map(|statement| statement.line().unwrap()).collect();
    assert_eq!(lines, [2, 3, 4, 5, 6, 7]);
    let digest = hex::decode("f1cb62ef1feb05bc757be84f91a8255db0fc05d7e14e03a1c7777dab069f1aac").unwrap();
    let bad = DigestFact { algorithm: "sha256", bytes: &digest };
    let signed = Facts { fsverity_signature: true, ..Facts::of(Op::Execute) };
    let revoked = Facts { fsverity_digest: Some(bad), ..signed };
    assert_eq!(policy.evaluate(&revoked).rule.line(), Some(4));
    assert_eq!(policy.evaluate(&revoked).action, Action::Deny);
    assert_eq!(policy.evaluate(&signed).action, Action::Allow);
    let sha512 = DigestFact { algorithm: "sha512", bytes: &digest };
    assert_eq!(policy.evaluate(&Facts { fsverity_digest: Some(sha512), ..signed }).action, Action::Allow);
    let ruling = policy.evaluate(&Facts::of(Op::Execute));
    assert_eq!(ruling.rule, RuleRef::OpDefault { op: Op::Execute, action: Action::Deny, line: 3 });
    let ruling = policy.evaluate(&Facts::of(Op::Firmware));
    assert_eq!(ruling.rule, RuleRef::GlobalDefault { action: Action::Allow, line: 2 });
}

#[test]
fn line_ends_of_other_systems_change_nothing() {
    let text = include_str!("../../../../tests/vectors/ipe/policy.txt");
    let plain = Policy::parse(text.as_bytes()).unwrap();
    for ends in ["\r\n", "\r", "\n"] {
        let other = Policy::parse(text.replace('\n', ends).as_bytes()).unwrap();
        assert_eq!(other.render(), plain.render());
        let lines = |policy: &Policy| policy.statements().iter().map(RuleRef::line).collect::<Vec<_>>();
        assert_eq!(lines(&other), lines(&plain), "{ends:?}");
    }
}

#[test]
fn versions_are_ordered_as_the_kernel_compares_them() {
    let numbers = [0, 1, 2, 255, 256, u16::MAX - 1, u16::MAX];
    let mut all = Vec::new();
    for major in numbers {
        for minor in numbers {
            all.extend(numbers.map(|revision| Version { major, minor, revision }));
        }
    }
    let number = |v: Version| u64::from(v.major) << 32 | u64::from(v.minor) << 16 | u64::from(v.revision);
    for a in &all {
        for b in &all {
            assert_eq!(a.cmp(b), number(*a).cmp(&number(*b)), "{a} {b}");
        }
    }
}

#[test]
fn an_update_keeps_the_name_and_raises_the_version() {
    let named = |name: &str, version: &str| {
        let text = format!("policy_name={name} policy_version={version}\nDEFAULT action=DENY");
        Policy::parse(text.as_bytes()).unwrap()
    };
    let old = named("p", "1.2.3");
    assert_eq!(named("p", "1.2.4").updates(&old), Ok(()));
    assert_eq!(named("p", "2.0.0").updates(&old), Ok(()));
    let stale = named("p", "1.2.3").updates(&old).unwrap_err();
    assert_eq!((stale, stale.errno().number()), (UpdateError::NotNewer, 116));
    assert_eq!(named("p", "1.1.65535").updates(&old), Err(UpdateError::NotNewer));
    let other = named("q", "1.0.0").updates(&old).unwrap_err();
    assert_eq!((other, other.errno().name()), (UpdateError::OtherName, "EINVAL"));
}
