//! What the kernel does not know.

use super::*;

/// What is done under one rule of READ with `property`, where nothing else allows anything.
fn allows(property: &str, facts: &Facts<'_>) -> bool {
    let policy = policy(&format!("DEFAULT action=DENY\nop=READ {property} action=ALLOW"));
    assert!(policy.has_additions());
    policy.evaluate(facts).action == Action::Allow
}

fn fault(property: &str) -> PolicyFault {
    let error = refused(&format!("DEFAULT action=DENY\nop=READ {property} action=ALLOW"));
    assert_eq!((error.line(), error.token()), (3, property));
    assert_eq!(error.errno(), Errno::BadMessage, "as the kernel answers to an unknown word");
    error.fault()
}

fn reading(path: &[u8]) -> Facts<'_> {
    Facts { path: Some(path), ..Facts::of(Op::Read) }
}

#[test]
fn only_what_the_kernel_does_not_know_is_an_addition() {
    let kernel =
        "DEFAULT action=DENY\nDEFAULT op=EXECUTE action=ALLOW\nop=POLICY fsverity_digest=a:00 action=DENY\n";
    assert!(!policy(kernel).has_additions());
    for addition in [
        "op=READ action=DENY",
        "DEFAULT op=LIST action=DENY",
        "op=XATTR fsverity_signature=TRUE action=ALLOW",
        "op=EXECUTE fsverity_signature=TRUE path=a action=DENY",
        "op=EXECUTE signer=a action=DENY",
        "op=EXECUTE format=a action=DENY",
        "op=EXECUTE client=::1 action=DENY",
        "op=EXECUTE uid=0 action=DENY",
        "op=EXECUTE signed_after=2026-01-01 action=DENY",
        "op=EXECUTE quorum=2 action=DENY",
    ] {
        assert!(policy(&format!("{kernel}{addition}")).has_additions(), "{addition}");
    }
    let ours: Vec<_> = Op::ALL.into_iter().filter(|op| op.is_addition()).map(Op::as_str).collect();
    assert_eq!(ours, ["READ", "LIST", "XATTR"]);
}

#[test]
fn an_addition_about_which_nothing_is_said_is_denied() {
    let kernel = Op::ALL.into_iter().filter(|op| !op.is_addition());
    let text: String = kernel.map(|op| format!("DEFAULT op={op} action=ALLOW\n")).collect();
    let policy = policy(&text);
    for op in Op::ALL {
        let ruling = policy.evaluate(&Facts::of(op));
        assert_eq!(ruling.action == Action::Deny, op.is_addition(), "{op}");
        if op.is_addition() {
            assert_eq!((ruling.rule, ruling.rule.line()), (RuleRef::Absent { op }, None));
            assert_eq!(ruling.rule.to_string(), format!("no DEFAULT for op={op} action=DENY"));
        }
    }
    // The default for all is one for additions, too.
    assert_eq!(super::policy("DEFAULT action=ALLOW").evaluate(&Facts::of(Op::Read)).action, Action::Allow);
}

#[test]
fn a_path_is_matched_from_the_root_of_the_export() {
    for (pattern, yes, no) in [
        (
            "boot/vmlinuz",
            &["boot/vmlinuz"][..],
            &["vmlinuz", "boot", "boot/vmlinuz/x", "xboot/vmlinuz", ""][..],
        ),
        ("boot/*", &["boot/a", "boot/.a"], &["boot", "boot/a/b", "a/boot/a"]),
        ("boot/**", &["boot/a", "boot/a/b"], &["boot", "bootx", "boots/a", "a/boot/b"]),
        ("**", &["", "a", "a/b"], &[]),
        ("*", &["a"], &["a/b"]),
        ("**/*.so", &["a.so", "lib/x/a.so"], &["a.so.1"]),
        ("**/b", &["b", "a/b", "a/c/b"], &["ab", "a/bc"]),
        ("lib{,64}/?[0-9].so", &["lib/a1.so", "lib64/b2.so"], &["lib/1.so", "lib32/a1.so", "lib//1.so"]),
        ("a\\*b", &["a*b"], &["axb", "a\\*b"]),
        ("/", &[""], &["a", "/"]),
        ("a//b", &["a//b"], &["a/b"]),
    ] {
        for keyword in ["path=", "intended_pathname=", "path=/", "intended_pathname=//"] {
            let property = format!("{keyword}{pattern}");
            for path in yes {
                assert!(allows(&property, &reading(path.as_bytes())), "{property} {path}");
            }
            for path in no {
                assert!(!allows(&property, &reading(path.as_bytes())), "{property} {path}");
            }
        }
    }
    assert!(allows("path=a?b", &reading(b"a\xffb")), "bytes, not characters");
    assert!(!allows("path=**", &Facts::of(Op::Read)), "no path is known");
    for bad in ["path=", "path=a/", "path=[", "path={a", "path=**/"] {
        assert_eq!(
            fault(bad),
            if bad == "path=" { PolicyFault::Property } else { PolicyFault::Path },
            "{bad}"
        );
    }
    let long = |text: &str, length: usize| {
        format!("DEFAULT action=DENY\nop=READ path={text}{} action=DENY", "a".repeat(length))
    };
    policy(&long("", 4096));
    assert_eq!(refused(&long("", 4097)).fault(), PolicyFault::Path);
    policy(&long("*", 511));
    assert_eq!(refused(&long("*", 512)).fault(), PolicyFault::Path);
}

#[test]
fn a_signer_is_a_key_or_a_name() {
    let signer = |id: u8, name, format| SignerFact { key_id: [id; 32], name, format };
    let signers = [signer(0xa1, "release", "native"), signer(0xb2, "build", "ima-v3")];
    let facts = Facts { signers: &signers, ..Facts::of(Op::Read) };
    for yes in [
        format!("signer={}", "a1".repeat(32)),
        format!("signer={}", "B2".repeat(32)),
        "signer=build".to_owned(),
        "signer=build signer=release".to_owned(),
        "format=native".to_owned(),
        "signer=build format=native".to_owned(),
        "quorum=2".to_owned(),
        "quorum=1".to_owned(),
    ] {
        assert!(allows(&yes, &facts), "{yes}");
        assert!(!allows(&yes, &Facts::of(Op::Read)), "{yes}");
    }
    for no in [format!("signer={}", "a1".repeat(31)), format!("signer={}", "a2".repeat(32))] {
        assert!(!allows(&no, &facts), "{no}");
    }
    for no in ["signer=Build", "signer=build signer=other", "format=modsig", "format=NATIVE", "quorum=3"] {
        assert!(!allows(no, &facts), "{no}");
    }
    // What looks like an id is none of a name.
    let id = "cc".repeat(32);
    let named = [signer(1, &id, "native")];
    assert!(!allows(&format!("signer={id}"), &Facts { signers: &named, ..facts }));
}

#[test]
fn one_key_is_one_signer_however_often_it_signed() {
    let signer = |id: u8, format| SignerFact { key_id: [id; 32], name: "same", format };
    let twice = [signer(1, "native"), signer(1, "ima-v3"), signer(1, "native")];
    let facts = Facts { signers: &twice, ..Facts::of(Op::Read) };
    assert!(allows("quorum=1", &facts) && !allows("quorum=2", &facts));
    let two = [signer(1, "native"), signer(1, "ima-v3"), signer(2, "native")];
    let facts = Facts { signers: &two, ..facts };
    assert!(allows("quorum=2", &facts) && !allows("quorum=3", &facts));
    policy("DEFAULT action=DENY\nop=READ quorum=255 action=DENY");
    for bad in ["quorum=0", "quorum=256", "quorum=-1", "quorum=+1", "quorum=x", "quorum=4294967297"] {
        assert_eq!(fault(bad), PolicyFault::Quorum);
    }
}

#[test]
fn a_client_is_in_a_network_or_not() {
    let asks = |client: &str, network: &str| {
        let facts = Facts { client: Some(client.parse().unwrap()), ..Facts::of(Op::Read) };
        allows(&format!("client={network}"), &facts)
    };
    for (network, yes, no) in [
        (
            "10.0.0.0/8",
            &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"][..],
            &["11.0.0.0", "9.255.255.255", "::10.1.2.3"][..],
        ),
        ("10.1.2.3", &["10.1.2.3"], &["10.1.2.2", "10.1.2.4"]),
        ("10.1.2.2/31", &["10.1.2.2", "10.1.2.3"], &["10.1.2.1", "10.1.2.4"]),
        ("0.0.0.0/0", &["0.0.0.0", "255.255.255.255", "::ffff:1.2.3.4"], &["::1", "::"]),
        ("::/0", &["::", "::1", "ffff::"], &["1.2.3.4", "::ffff:1.2.3.4"]),
        ("fd00::/8", &["fd00::1", "fdff::"], &["fc00::", "fe00::"]),
        ("2001:db8::/33", &["2001:db8::", "2001:db8:7fff::"], &["2001:db8:8000::"]),
        ("::1", &["::1"], &["::", "::2", "0.0.0.1"]),
        ("::ffff:10.1.0.0/112", &["10.1.2.3", "::ffff:10.1.2.3"], &["10.2.0.0"]),
    ] {
        for client in yes {
            assert!(asks(client, network), "{client} {network}");
        }
        for client in no {
            assert!(!asks(client, network), "{client} {network}");
        }
    }
    assert!(!allows("client=0.0.0.0/0", &Facts::of(Op::Read)), "no client is known");
    for bad in [
        "10.0.0.0/33",
        "::/129",
        "10.0.0/8",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "10.0.0.0/0008",
        "010.0.0.0/8",
        "host",
        "::1%eth0",
        "1.2.3.4/8/8",
    ] {
        assert_eq!(fault(&format!("client={bad}")), PolicyFault::Client, "{bad}");
    }
    for bad in ["10.0.0.1/8", "fd00::1/8", "::ffff:10.0.0.0/80", "1.2.3.4/0"] {
        assert_eq!(fault(&format!("client={bad}")), PolicyFault::ClientBits, "{bad}");
    }
}

#[test]
fn a_user_is_a_number() {
    let user = |uid| Facts { uid, ..Facts::of(Op::Read) };
    assert!(allows("uid=1000", &user(Some(1000))) && allows("uid=4294967295", &user(Some(u32::MAX))));
    assert!(!allows("uid=1000", &user(Some(1001))) && !allows("uid=0", &user(None)));
    for bad in ["uid=4294967296", "uid=-1", "uid=+1", "uid=root", "uid=0x1", "uid=1,2"] {
        assert_eq!(fault(bad), PolicyFault::Uid);
    }
}

#[test]
fn a_file_is_signed_after_a_time_or_not() {
    let signed = |at| Facts { signed_at: at, ..Facts::of(Op::Read) };
    for (date, second) in [
        ("2026-01-31", 1_769_817_600),
        ("2026-01-31T00:00:00Z", 1_769_817_600),
        ("2026-01-31T01:30:00+01:30", 1_769_817_600),
        ("2026-01-31T00:00:00.999Z", 1_769_817_600),
        ("1970-01-01", 0),
        ("1969-12-31T23:59:59.5Z", -1),
    ] {
        let property = format!("signed_after={date}");
        assert!(allows(&property, &signed(Some(second + 1))), "{date}");
        assert!(!allows(&property, &signed(Some(second))), "{date}");
        assert!(!allows(&property, &signed(None)), "{date}");
    }
    for bad in [
        "2026-02-30",
        "2026-1-1",
        "yesterday",
        "2026-01-31T00:00:00",
        "1769817600",
        "2026-01-31T00:00:00Z[UTC]",
        "2026-01-31T25:00:00Z",
    ] {
        assert_eq!(fault(&format!("signed_after={bad}")), PolicyFault::SignedAfter, "{bad}");
    }
}

#[test]
fn an_explanation_names_what_stood_in_the_way() {
    let policy = policy(
        "DEFAULT action=DENY\n\
         op=READ fsverity_signature=TRUE uid=1 action=ALLOW\n\
         op=LIST action=ALLOW\n\
         op=READ uid=0 path=boot/** action=ALLOW\n\
         op=READ uid=0 action=DENY\n\
         op=READ action=ALLOW",
    );
    let facts =
        Facts { uid: Some(0), fsverity_signature: true, path: Some(b"etc/passwd"), ..Facts::of(Op::Read) };
    let explained = policy.explain(&facts);
    let misses: Vec<_> =
        explained.misses.iter().map(|miss| (miss.rule.line(), miss.property.to_string())).collect();
    assert_eq!(misses, [(3, "uid=1".to_owned()), (5, "path=boot/**".to_owned())]);
    assert_eq!((explained.ruling.rule.line(), explained.ruling.action), (Some(6), Action::Deny));
    assert_eq!(explained.ruling, policy.evaluate(&facts));
    let unknown = policy.explain(&Facts::of(Op::Xattr));
    assert_eq!((unknown.misses.len(), unknown.ruling.rule.line()), (0, Some(2)));
}

#[test]
fn the_first_rule_that_matches_decides_however_it_is_found() {
    let digest = [0xab];
    let fact = Some(DigestFact { algorithm: "sha256", bytes: &digest });
    let facts = Facts { fsverity_digest: fact, uid: Some(1), ..reading(b"a") };
    let rules =
        ["fsverity_digest=sha256:ab", "path=a", "uid=1", "path=a fsverity_digest=sha256:ab", "path=?"];
    for first in 0..rules.len() {
        let mut order = rules;
        order.rotate_left(first);
        for rules in [order.to_vec(), order.iter().rev().copied().collect()] {
            // Rules that miss, and are found the same way.
            let text: String = rules
                .iter()
                .map(|rule| format!("op=READ uid=2 {rule} action=ALLOW\nop=READ {rule} action=DENY\n"))
                .collect();
            let policy = policy(&format!("{text}DEFAULT action=ALLOW"));
            assert_eq!(policy.evaluate(&facts).rule.line(), Some(3), "{text}");
            assert_eq!(policy.explain(&facts).ruling, policy.evaluate(&facts), "{text}");
        }
    }
}
