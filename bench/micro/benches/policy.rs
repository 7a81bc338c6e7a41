//! What a policy costs where it is asked: 1000 rules of each kind, of which the last one matches. A READ of a file
//! that is open asks once for each client, user and policy; see `Export`.

use std::fmt::Write;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use nfs_verity::policy::{Action, DigestFact, Facts, Op, Policy, SignerFact};

const RULES: usize = 1000;

fn policies(c: &mut Criterion) {
    let mut group = c.benchmark_group("policy");
    let signers = [SignerFact { key_id: [7; 32], name: "release", format: "native" }];
    let digest = [0xab; 32];
    let facts = Facts {
        path: Some(b"srv/releases/2026/image.raw"),
        fsverity_digest: Some(DigestFact { algorithm: "sha256", bytes: &digest }),
        fsverity_signature: true,
        signers: &signers,
        client: Some([10, 1, 2, 3].into()),
        uid: Some(1000),
        ..Facts::of(Op::Read)
    };
    let kinds: [(&str, fn(usize) -> String); 5] = [
        ("digests", |n| format!("fsverity_digest=sha256:{n:064x}")),
        ("paths", |n| format!("path=srv/releases/{n}/image.raw")),
        ("directories", |n| format!("path=srv/archive/{n}/**")),
        ("clients", |n| format!("client=192.{}.{}.0/24", n / 256, n % 256)),
        ("wildcards", |n| format!("path=srv/**/{n}/*.img")),
    ];
    for (name, rule) in kinds {
        let mut text = "policy_name=bench policy_version=1.0.0\nDEFAULT action=DENY\n".to_owned();
        for n in 1..RULES {
            writeln!(text, "op=READ {} action=DENY", rule(n)).unwrap();
        }
        text.push_str("op=READ signer=release action=ALLOW\n");
        let policy = Policy::parse(text.as_bytes()).unwrap();
        assert_eq!(policy.evaluate(&facts).action, Action::Allow);
        group.bench_function(format!("{RULES} {name}"), |b| {
            b.iter(|| policy.evaluate(black_box(&facts)).action)
        });
    }
    group.finish();
}

criterion_group!(benches, policies);
criterion_main!(benches);
