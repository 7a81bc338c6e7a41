//! Audit records. The first rows are the examples of `Documentation/admin-guide/LSM/ipe.rst`, with our
//! hook and without what stands before and behind.

use super::audit::{Access, File, Hook, Identity, Session, access, config_change, policy_load};
use super::*;

const EMPTY: &str = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";
const OTHER: &str = "820EEA5B40CA42B51F68962354BA083122A20BB846F26765076DD8EED7B8F4DB";
const ZERO: Version = Version { major: 0, minor: 0, revision: 0 };

fn digest(text: &str) -> [u8; 32] {
    hex::decode(text).unwrap().try_into().unwrap()
}

/// A record of a denied EXECUTE.
fn denied<'a>(rule: RuleRef<'a>, file: Option<File<'a>>, comm: &'a [u8]) -> String {
    access(&Access { op: Op::Execute, hook: Hook::NfsRead, enforcing: true, pid: 2241, comm, file, rule })
}

#[test]
fn a_decision_is_recorded_as_the_kernel_s_are() {
    let rule = RuleRef::GlobalDefault { action: Action::Deny, line: 2 };
    let file = File { path: b"/deny/lib/libc.so.6", inode: Some((b"sda2", 14_549_020)) };
    assert_eq!(
        denied(rule, Some(file), b"ld-linux.so"),
        "ipe_op=EXECUTE ipe_hook=NFS_READ enforcing=1 pid=2241 comm=\"ld-linux.so\" \
         path=\"/deny/lib/libc.so.6\" dev=\"sda2\" ino=14549020 rule=\"DEFAULT action=DENY\""
    );
    assert_eq!(
        denied(rule, None, b"mmap_test"),
        "ipe_op=EXECUTE ipe_hook=NFS_READ enforcing=1 pid=2241 comm=\"mmap_test\" \
         path=? dev=? ino=? rule=\"DEFAULT action=DENY\""
    );
    let file = File { inode: None, ..file };
    let own = RuleRef::OpDefault { op: Op::Execute, action: Action::Deny, line: 3 };
    let told = denied(own, Some(file), b"x");
    assert!(told.ends_with("libc.so.6\" dev=? ino=? rule=\"DEFAULT op=EXECUTE action=DENY\""), "{told}");
    let absent = RuleRef::Absent { op: Op::List };
    let permissive = Access {
        op: Op::List,
        hook: Hook::NfsReaddir,
        enforcing: false,
        pid: 1,
        comm: b"x",
        file: None,
        rule: absent,
    };
    let told = access(&permissive);
    assert!(told.starts_with("ipe_op=LIST ipe_hook=NFS_READDIR enforcing=0 pid=1 "), "{told}");
    assert!(told.ends_with(" rule=\"no DEFAULT for op=LIST action=DENY\""), "{told}");
}

#[test]
fn a_rule_is_recorded_with_its_properties_in_order() {
    let policy = policy(
        "DEFAULT action=DENY\n\
         op=EXECUTE   fsverity_digest=sha256:00ff\tdmverity_roothash=a\"b:ab boot_verified=FALSE action=DENY\n\
         op=READ path=/a/** signer=b format=c client=10.0.0.1 uid=007 signed_after=2026-01-31 quorum=2 action=ALLOW\n\
         op=READ path=a\"b/\u{e4} action=DENY\n\
         op=READ action=ALLOW",
    );
    let told: Vec<_> = policy.statements().iter().map(RuleRef::audit_text).collect();
    assert_eq!(
        told,
        [
            "DEFAULT action=DENY",
            "op=EXECUTE fsverity_digest=\"sha256\":00FF dmverity_roothash=612262:AB boot_verified=FALSE action=DENY",
            "op=READ path=\"a/**\" signer=\"b\" format=\"c\" client=10.0.0.1/32 uid=7 \
             signed_after=2026-01-31T00:00:00Z quorum=2 action=ALLOW",
            "op=READ path=6122622FC3A4 action=DENY",
            "op=READ action=ALLOW",
        ]
    );
    assert_eq!(statements(&policy)[1].len(), told[1].len() - "\"\"612262".len() + "a\"b".len());
}

#[test]
fn strings_that_could_forge_fields_are_hexadecimal() {
    let rule = RuleRef::GlobalDefault { action: Action::Deny, line: 2 };
    for (bytes, written) in [
        (&b""[..], "\"\""),
        (b"!#~a=\\'", "\"!#~a=\\'\""),
        (b" ", "20"),
        (b"a b", "612062"),
        (b"\"", "22"),
        (b"\x7f", "7F"),
        (b"\n", "0A"),
        (b"\0", "00"),
        (b"\x80", "80"),
        ("\u{e4}".as_bytes(), "C3A4"),
        (b"\x1f", "1F"),
    ] {
        let file = File { path: bytes, inode: Some((bytes, 1)) };
        let told = denied(rule, Some(file), bytes);
        let expected = format!(" comm={written} path={written} dev={written} ino=1 rule=");
        assert!(told.contains(&expected), "{told}");
        let identity = Identity { name: bytes, version: ZERO, digest: &digest(EMPTY) };
        let told = policy_load(Ok(&identity), Session::NONE);
        assert!(told.starts_with(&format!("policy_name={written} policy_version=")), "{told}");
    }
}

#[test]
fn a_change_of_policies_is_recorded_as_the_kernel_s_are() {
    let (old, new) = (digest(EMPTY), digest(OTHER));
    let old = Identity { name: b"Allow_All", version: ZERO, digest: &old };
    let new = Identity { name: b"boot_verified", version: ZERO, digest: &new };
    assert_eq!(
        config_change(Some(&old), Some(&new), Session::NONE),
        format!(
            "old_active_pol_name=\"Allow_All\" old_active_pol_version=0.0.0 old_policy_digest=sha256:{EMPTY} \
             new_active_pol_name=\"boot_verified\" new_active_pol_version=0.0.0 new_policy_digest=sha256:{OTHER} \
             auid=4294967295 ses=4294967295 lsm=ipe res=1"
        )
    );
    let new = Identity { version: Version { major: 1, minor: 65535, revision: 3 }, ..new };
    let told = config_change(None, Some(&new), Session { auid: 1000, ses: 2 });
    assert!(
        told.starts_with("old_active_pol_name=? old_active_pol_version=? old_policy_digest=? new_"),
        "{told}"
    );
    assert!(told.contains(" new_active_pol_version=1.65535.3 "), "{told}");
    assert!(told.ends_with(" auid=1000 ses=2 lsm=ipe res=1"), "{told}");
}

#[test]
fn a_load_is_recorded_as_the_kernel_s_are() {
    let new = Identity { name: b"boot_verified", version: ZERO, digest: &digest(OTHER) };
    assert_eq!(
        policy_load(Ok(&new), Session::NONE),
        format!(
            "policy_name=\"boot_verified\" policy_version=0.0.0 policy_digest=sha256:{OTHER} \
             auid=4294967295 ses=4294967295 lsm=ipe res=1 errno=0"
        )
    );
    assert_eq!(
        policy_load(Err(refused("").errno().number()), Session { auid: 0, ses: 7 }),
        "policy_name=? policy_version=? policy_digest=? auid=0 ses=7 lsm=ipe res=0 errno=-74"
    );
}

#[test]
fn hooks_and_records_have_names_and_numbers_of_their_own() {
    let hooks = Hook::ALL.map(Hook::as_str);
    assert_eq!(hooks, ["NFS_ACCESS", "NFS_READ", "NFS_READDIR", "NFS_XATTR"]);
    assert_eq!(
        [super::audit::ACCESS, super::audit::CONFIG_CHANGE, super::audit::POLICY_LOAD],
        [1420, 1421, 1422]
    );
}
