//! Evaluation against a slow reference, and writing against reading, on policies made at random.

use core::net::IpAddr;

use globset::GlobBuilder;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Facts that own what they say.
#[derive(Clone, Debug)]
struct Known {
    op: Op,
    path: Option<Vec<u8>>,
    fsverity_digest: Option<(&'static str, Vec<u8>)>,
    dmverity_roothash: Option<(&'static str, Vec<u8>)>,
    flags: [bool; 3],
    signers: Vec<(u8, &'static str, &'static str)>,
    client: Option<IpAddr>,
    uid: Option<u32>,
    signed_at: Option<i64>,
}

impl Known {
    fn with<T>(&self, look: impl FnOnce(&Facts<'_>) -> T) -> T {
        let signer = |(id, name, format): &(u8, &'static str, &'static str)| SignerFact {
            key_id: [*id; 32],
            name,
            format,
        };
        let signers: Vec<_> = self.signers.iter().map(signer).collect();
        fn digest<'a>(of: &'a Option<(&'static str, Vec<u8>)>) -> Option<DigestFact<'a>> {
            of.as_ref().map(|(algorithm, bytes)| DigestFact { algorithm, bytes })
        }
        look(&Facts {
            op: self.op,
            path: self.path.as_deref(),
            fsverity_digest: digest(&self.fsverity_digest),
            fsverity_signature: self.flags[0],
            signers: &signers,
            client: self.client,
            uid: self.uid,
            signed_at: self.signed_at,
            dmverity_roothash: digest(&self.dmverity_roothash),
            dmverity_signature: self.flags[1],
            boot_verified: self.flags[2],
        })
    }
}

/// What a rule says about the facts, from its text alone.
mod reference {
    use super::*;

    /// The number of the statement that decides, from 0, and whether it allows; `None` for none.
    pub(super) fn decide(statements: &[String], known: &Known) -> Option<(usize, bool)> {
        let op = format!("op={}", known.op.as_str());
        let words: Vec<Vec<&str>> = statements.iter().map(|text| text.split(' ').collect()).collect();
        let rule = words.iter().position(|words| {
            words[0] == op && words[1..words.len() - 1].iter().all(|word| holds(word, known))
        });
        let own = || words.iter().position(|words| words[0] == "DEFAULT" && words[1] == op);
        let all = || words.iter().position(|words| words[0] == "DEFAULT" && words.len() == 2);
        let found = rule.or_else(own).or_else(all)?;
        Some((found, words[found].last() == Some(&"action=ALLOW")))
    }

    fn holds(property: &str, known: &Known) -> bool {
        let (keyword, value) = property.split_once('=').unwrap();
        let digest = |of: &Option<(&str, Vec<u8>)>| {
            of.as_ref().is_some_and(|(algorithm, bytes)| {
                value.to_lowercase() == format!("{algorithm}:{}", hex::encode(bytes))
            })
        };
        let flag = |at: usize| value == if known.flags[at] { "TRUE" } else { "FALSE" };
        match keyword {
            "fsverity_digest" => digest(&known.fsverity_digest),
            "dmverity_roothash" => digest(&known.dmverity_roothash),
            "fsverity_signature" => flag(0),
            "dmverity_signature" => flag(1),
            "boot_verified" => flag(2),
            "path" | "intended_pathname" => known.path.as_ref().is_some_and(|path| {
                let glob = GlobBuilder::new(value.trim_start_matches('/'))
                    .literal_separator(true)
                    .empty_alternates(true)
                    .build();
                let path = String::from_utf8(path.clone()).unwrap();
                glob.unwrap().compile_matcher().is_match(path)
            }),
            "signer" => {
                known.signers.iter().any(|(id, name, _)| value == *name || value == hex::encode([*id; 32]))
            }
            "format" => known.signers.iter().any(|(_, _, format)| value == *format),
            "client" => known.client.is_some_and(|client| {
                let client = match client {
                    IpAddr::V6(six) => six.to_ipv4_mapped().map_or(client, IpAddr::V4),
                    IpAddr::V4(_) => client,
                };
                let (network, prefix) = value.split_once('/').unwrap();
                let bits = |address: IpAddr| match address {
                    IpAddr::V4(four) => format!("4{:032b}", four.to_bits()),
                    IpAddr::V6(six) => format!("6{:0128b}", six.to_bits()),
                };
                let end = 1 + prefix.parse::<usize>().unwrap();
                let network = bits(network.parse().unwrap());
                bits(client).starts_with(&network[..end])
            }),
            "uid" => known.uid.is_some_and(|uid| uid.to_string() == value),
            "signed_after" => known.signed_at.is_some_and(|at| {
                jiff::Timestamp::from_second(at).unwrap() > value.parse::<jiff::Timestamp>().unwrap()
            }),
            "quorum" => {
                let mut ids: Vec<_> = known.signers.iter().map(|(id, ..)| *id).collect();
                ids.sort_unstable();
                ids.dedup();
                ids.len() >= value.parse().unwrap()
            }
            _ => panic!("{property}"),
        }
    }
}

// Few values of each kind, so that rules match.
const PATHS: [&str; 8] = ["", "a", "a/b", "a/b/c", "ab", "b/c.so", "a/c.so", "b"];
const PATTERNS: [&str; 17] = [
    "/",
    "a",
    "/a/b",
    "a/*",
    "a/**",
    "a/b/**",
    "**",
    "**/*.so",
    "*",
    "a{b,/b}",
    "?b",
    "[ab]/c.so",
    "**/b/**",
    "a/**/b",
    "**/b",
    "a\\b",
    "a*",
];
const CLIENTS: [&str; 6] = ["10.0.0.1", "10.128.0.1", "::ffff:10.0.0.1", "::1", "fd00::1", "192.168.1.1"];
const NETWORKS: [&str; 7] =
    ["10.0.0.0/8", "10.0.0.0/9", "10.0.0.1/32", "0.0.0.0/0", "::/0", "::1/128", "fd00::/8"];
const NAMES: [&str; 3] = ["alice", "bob", "carol"];
const FORMATS: [&str; 2] = ["native", "ima-v3"];
const ALGORITHMS: [&str; 2] = ["sha256", "sha512"];
const SEPARATORS: [&[u8]; 9] = [b" ", b"\t", b"\n", b"\r", b"\r\n", b"#", b"\0", b"\xa0", b"="];
const TIMES: [&str; 3] = ["1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z", "1969-12-31T23:59:59Z"];

fn property() -> impl Strategy<Value = String> {
    let digest = (select(&["fsverity_digest", "dmverity_roothash"]), select(&ALGORITHMS), 0..3_u8)
        .prop_map(|(keyword, algorithm, byte)| format!("{keyword}={algorithm}:{byte:02X}AB"));
    let flag =
        (select(&["fsverity_signature", "dmverity_signature", "boot_verified"]), select(&["TRUE", "FALSE"]))
            .prop_map(|(keyword, value)| format!("{keyword}={value}"));
    prop_oneof![
        3 => digest,
        1 => flag,
        3 => select(&PATTERNS).prop_map(|pattern| format!("path={pattern}")),
        1 => select(&NAMES).prop_map(|name| format!("signer={name}")),
        1 => (0..3_u8).prop_map(|id| format!("signer={}", hex::encode([id; 32]))),
        1 => select(&FORMATS).prop_map(|format| format!("format={format}")),
        1 => select(&NETWORKS).prop_map(|network| format!("client={network}")),
        1 => (0..3_u32).prop_map(|uid| format!("uid={uid}")),
        1 => select(&TIMES).prop_map(|time| format!("signed_after={time}")),
        1 => (1..4_u8).prop_map(|number| format!("quorum={number}")),
    ]
}

/// Statements that make a policy, with two operations that have most of the rules.
fn policies() -> impl Strategy<Value = Vec<String>> {
    let action = || select(&["action=ALLOW", "action=DENY"]);
    let op = prop_oneof![4 => select(&[Op::Execute, Op::Read]), 1 => select(&Op::ALL)];
    let rule = (op, vec(property(), 0..4), action()).prop_map(|(op, properties, action)| {
        [vec![format!("op={op}")], properties, vec![action.to_owned()]].concat().join(" ")
    });
    let defaults = (any::<bool>(), vec(any::<bool>(), Op::ALL.len()), action());
    (vec(rule, 0..12), defaults, any::<prop::sample::Index>()).prop_map(
        |(mut rules, (all, each, action), place)| {
            let own = Op::ALL.into_iter().zip(&each).filter(|(op, own)| **own || (!all && !op.is_addition()));
            let mut defaults: Vec<_> = own.map(|(op, _)| format!("DEFAULT op={op} {action}")).collect();
            if all {
                defaults.push(format!("DEFAULT {action}"));
            }
            let place = place.index(rules.len() + 1);
            rules.splice(place..place, defaults);
            rules
        },
    )
}

fn facts() -> impl Strategy<Value = Known> {
    let digest = || prop::option::of((select(&ALGORITHMS), (0..3_u8).prop_map(|byte| vec![byte, 0xab])));
    (
        prop_oneof![4 => select(&[Op::Execute, Op::Read]), 1 => select(&Op::ALL)],
        prop::option::of(select(&PATHS).prop_map(|path| path.as_bytes().to_vec())),
        (digest(), digest()),
        any::<[bool; 3]>(),
        vec((0..3_u8, select(&NAMES), select(&FORMATS)), 0..4),
        prop::option::of(select(&CLIENTS).prop_map(|client| client.parse().unwrap())),
        prop::option::of(0..3_u32),
        prop::option::of(-2..3_i64),
    )
        .prop_map(
            |(op, path, (fsverity_digest, dmverity_roothash), flags, signers, client, uid, signed_at)| {
                Known { op, path, fsverity_digest, dmverity_roothash, flags, signers, client, uid, signed_at }
            },
        )
}

fn parsed(statements: &[String]) -> Policy {
    policy(&statements.join("\n"))
}

/// Bytes that come near the grammar.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        4 => property(),
        2 => select(&["policy_name=p", "policy_version=1.2.3", "DEFAULT", "op=READ", "op=KMODULE", "action=ALLOW"][..])
            .prop_map(str::to_owned),
        1 => "[ -~]{0,6}",
    ];
    let separator = select(&SEPARATORS);
    let noise = vec((word, separator), 0..20).prop_map(|words| {
        words
            .into_iter()
            .flat_map(|(word, separator)| [word.as_bytes(), separator].concat())
            .collect::<Vec<_>>()
    });
    (any::<bool>(), noise).prop_map(|(good, noise)| {
        let head: &[u8] =
            if good { b"policy_name=p policy_version=1.2.3\nDEFAULT action=DENY\n" } else { b"" };
        [head, &noise].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn evaluation_is_what_the_text_says(statements in policies(), known in vec(facts(), 1..6)) {
        let policy = parsed(&statements);
        for known in known {
            known.with(|facts| {
                let ruling = policy.evaluate(facts);
                let found = ruling.rule.line().map(|line| (line - 2, ruling.action == Action::Allow));
                assert_eq!(found, reference::decide(&statements, &known));
                assert_eq!(found.is_none(), matches!(ruling.rule, RuleRef::Absent { .. }));
                let explained = policy.explain(facts);
                assert_eq!(explained.ruling, ruling);
                let before = policy.statements().into_iter().filter_map(|statement| match statement {
                    RuleRef::Rule(rule) if rule.op() == known.op => Some(rule),
                    _ => None,
                });
                let before = before.take_while(|rule| ruling.rule != RuleRef::Rule(rule));
                assert!(before.eq(explained.misses.iter().map(|miss| miss.rule)));
                assert!(explained.misses.iter().all(|miss| miss.rule.properties().contains(miss.property)));
            });
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same(statements in policies()) {
        let policy = parsed(&statements);
        let statements: Vec<_> = statements.iter().map(|text| text.replace("path=/a", "path=a")).collect();
        assert_eq!(super::statements(&policy), statements);
        let again = Policy::parse(&policy.render()).unwrap();
        assert_eq!(super::statements(&again), statements);
        assert_eq!(again.render(), policy.render());
        assert_eq!((again.name(), again.version()), (policy.name(), policy.version()));
    }

    #[test]
    fn no_bytes_make_it_panic(text in text()) {
        match Policy::parse(&text) {
            Ok(policy) => {
                let written = policy.render();
                assert_eq!(Policy::parse(&written).unwrap().render(), written);
            }
            Err(error) => {
                assert!(!error.to_string().chars().any(char::is_control));
                assert!((1..=text.len() + 1).contains(&error.line()));
            }
        }
    }
}
