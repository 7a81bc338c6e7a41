//! Stores that are not a local directory: an NFS server, a bucket, replicas; and chains of real programs.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, unreachable_pub)]

#[path = "../fault/scene.rs"]
#[allow(dead_code, reason = "not every test uses all of it")]
mod scene;
#[path = "../support/mod.rs"]
mod support;

mod disk_cache;
mod link;
mod nfs_server;
mod patience;
mod replicas;
mod s3;
mod s3_attacks;
mod s3_server;
mod upstream;
mod upstream_ahead;
mod upstream_attacks;
mod upstream_ports;
mod upstream_recovery;
mod wrappers;

#[test]
fn addresses_are_told_apart() {
    use nfs_verity::store::StoreAddress;
    for (text, kind) in
        [("/srv", "local"), ("nfs://h/x", "nfs"), ("s3://b/p", "object"), ("memory://m", "memory")]
    {
        let found = match StoreAddress::parse(text.as_ref()).unwrap() {
            StoreAddress::Local(_) => "local",
            StoreAddress::Upstream(_) => "nfs",
            StoreAddress::Object(_) => "object",
            StoreAddress::Memory(_) => "memory",
        };
        assert_eq!(found, kind, "{text}");
        assert_eq!(StoreAddress::parse(text.as_ref()).unwrap().to_string(), text);
    }
    assert!(StoreAddress::parse("ftp://h/x".as_ref()).is_err());
}
