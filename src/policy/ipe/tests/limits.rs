//! Limits, and what is told of what goes wrong.

use super::*;

#[test]
fn nothing_over_a_limit_is_kept() {
    let row = |fault: PolicyFault, error: PolicyError| {
        assert_eq!((error.fault(), error.errno()), (fault, fault.errno()), "{error}");
    };
    let pad = |length: usize| {
        let mut text = b"policy_name=p policy_version=1.2.3\nDEFAULT action=DENY #".to_vec();
        text.resize(length, b'x');
        text
    };
    assert!(Policy::parse(&pad(TEXT_MAX)).is_ok());
    row(PolicyFault::TextTooLong, Policy::parse(&pad(TEXT_MAX + 1)).unwrap_err());

    let rules = |count: usize| "op=READ action=DENY\n".repeat(count) + "DEFAULT action=DENY";
    assert_eq!(policy(&rules(RULES_MAX)).statements().len(), RULES_MAX + 1);
    let error = refused(&rules(RULES_MAX + 1));
    assert_eq!(error.line(), RULES_MAX + 2);
    row(PolicyFault::TooManyRules, error);

    let words =
        |count: usize| format!("DEFAULT action=DENY\nop=READ {}action=DENY", "uid=1 ".repeat(count - 2));
    policy(&words(LINE_TOKENS_MAX));
    row(PolicyFault::TooManyTokens, refused(&words(LINE_TOKENS_MAX + 1)));

    let word = |length: usize| {
        let word = "x".repeat(length - "signer=".len());
        format!("DEFAULT action=DENY\nop=READ signer={word} action=DENY")
    };
    policy(&word(TOKEN_MAX));
    row(PolicyFault::TokenTooLong, refused(&word(TOKEN_MAX + 1)));

    let globs = |count: usize| "op=READ path=* action=DENY\n".repeat(count) + "DEFAULT action=DENY";
    policy(&globs(GLOBS_MAX));
    row(PolicyFault::TooManyGlobs, refused(&globs(GLOBS_MAX + 1)));
    // Plain paths and directories are not compiled.
    policy(&globs(GLOBS_MAX + 1).replace('*', "a/**"));
    policy(&globs(GLOBS_MAX + 1).replace('*', "a/b"));
}

#[test]
fn an_error_is_one_line_that_names_place_token_and_remedy() {
    let error = refused("DEFAULT action=DENY\n\nop=READ \u{1b}[31m\"\u{e4}=1 action=DENY");
    assert_eq!(error.line(), 4);
    assert_eq!(error.token(), r#"\x1b[31m\"\xc3\xa4=1"#);
    assert_eq!(error.fault(), PolicyFault::Property);
    assert!(
        error.to_string().starts_with(r#"line 4: "\x1b[31m\"\xc3\xa4=1": not a property; known are boot_"#)
    );

    let error = refused(&format!("DEFAULT action=DENY\nop={} action=DENY", "E".repeat(5000)));
    assert!(error.token().len() < 80 && error.token().ends_with("E..."), "{error}");
    assert!(error.to_string().contains("EXECUTE, FIRMWARE, KMODULE"), "{error}");

    let error = refused("DEFAULT op=EXECUTE action=DENY\n");
    assert_eq!(error.fault(), PolicyFault::NoDefault { op: Op::Firmware });
    assert!(error.to_string().contains("add DEFAULT action=DENY, or DEFAULT op=FIRMWARE"), "{error}");
    assert_eq!(error.token(), "");
}

#[test]
fn errnos_are_linux_s() {
    let all = [Errno::NoMemory, Errno::Invalid, Errno::Range, Errno::BadMessage, Errno::Stale];
    let told = all.map(|errno| format!("{errno} {}", errno.number()));
    assert_eq!(told, ["ENOMEM 12", "EINVAL 22", "ERANGE 34", "EBADMSG 74", "ESTALE 116"]);
}

#[test]
fn every_fault_of_the_grammar_is_told_by_its_name() {
    let all = "DEFAULT action=DENY\n";
    let header = |header: &str| Policy::parse(format!("{header}\n{all}").as_bytes()).unwrap_err();
    for (text, fault) in [
        ("policy_version=1.2.3", PolicyFault::HeaderName),
        ("policy_name=p", PolicyFault::HeaderVersion),
        ("policy_name=p version=1.2.3", PolicyFault::HeaderVersion),
        ("policy_name=p policy_version=1.2.3 p", PolicyFault::HeaderTrailing),
        ("policy_name=p policy_version=1.2", PolicyFault::VersionParts),
        ("policy_name=p policy_version=1.2.x", PolicyFault::VersionNumber),
        ("policy_name=p policy_version=1.2.65536", PolicyFault::VersionRange),
    ] {
        assert_eq!((header(text).fault(), header(text).line()), (fault, 1), "{text}");
    }
    assert_eq!(Policy::parse(b"# nothing\n").unwrap_err().fault(), PolicyFault::NoHeader);
    for (text, fault) in [
        ("op=WRITE action=DENY", PolicyFault::Operation),
        ("DEFAULT uid=1 action=DENY", PolicyFault::Operation),
        ("action=DENY", PolicyFault::NoOperation),
        ("op=READ action=PERMIT", PolicyFault::Action),
        ("DEFAULT op=READ", PolicyFault::Action),
        ("op=READ what=1 action=DENY", PolicyFault::Property),
        ("op=READ fsverity_digest=sha256 action=DENY", PolicyFault::DigestColon),
        ("op=READ fsverity_digest=sha256:0 action=DENY", PolicyFault::DigestHex),
        ("DEFAULT op=READ uid=1 action=DENY", PolicyFault::DefaultProperties),
        ("DEFAULT action=DENY", PolicyFault::DuplicateDefault),
    ] {
        let error = refused(&format!("{all}{text}"));
        assert_eq!((error.fault(), error.line()), (fault, 3), "{text}");
    }
}
