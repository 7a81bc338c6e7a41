//! NFSv3 and NFSv4 of one gateway tell the same.

use super::op::Stateid;
use super::scene::Scene;
use super::support::{Client, NFS};

#[test]
fn both_versions_tell_the_same_attributes_and_bytes() {
    let scene = Scene::new();
    let (mut old, mut new) = (Client::connect(scene.gateway.nfs), scene.session());
    for path in ["hello", "empty", "big", "bad", "unsigned", "link", "dir", "dir/sub", "dir/sub/deep"] {
        let handle = old.find(path).unwrap();
        let reply = old.call(NFS, 1, |w| _ = w.opaque(&handle));
        assert_eq!(reply[..4], [0; 4], "{path}");
        let fattr = &reply[4..];
        let word = |at: usize| u32::from_be_bytes(fattr[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_be_bytes(fattr[at..at + 8].try_into().unwrap());
        let found = new.find(path);
        let told = new.attributes(&found, &[1, 4, 20, 33, 35, 36, 37, 52, 53]);
        assert_eq!(told.word(1), word(0), "type of {path}");
        assert_eq!(told.word(33), word(4), "mode of {path}");
        assert_eq!(told.word(35), word(8), "links of {path}");
        assert_eq!(told.opaque(36), word(12).to_string().into_bytes(), "owner of {path}");
        assert_eq!(told.opaque(37), word(16).to_string().into_bytes(), "group of {path}");
        assert_eq!(told.long(4), long(20), "size of {path}");
        assert_eq!(told.long(20), long(52), "fileid of {path}");
        // Seconds have 4 bytes in one and 8 in the other.
        assert_eq!(told.values[&53][4..], fattr[68..76], "mtime of {path}");
        assert_eq!(told.values[&52][4..], fattr[76..84], "ctime of {path}");
        if word(0) == 1 && path != "unsigned" {
            for offset in (0..long(20)).step_by(4096) {
                let before = old.read(&handle, offset, 4096);
                let reply =
                    new.run(&[super::op::putfh(&found), super::op::read(Stateid::ANONYMOUS, offset, 4096)]);
                match (before, reply.status.0) {
                    (Ok(before), 0) => match reply.last() {
                        super::reply::Body::Read { eof, data } => {
                            assert!(before == (data, eof), "{path} at {offset}")
                        }
                        other => panic!("{other:?}"),
                    },
                    (Err(status), code) => assert_eq!(status.0, code, "{path} at {offset}"),
                    (before, code) => panic!("{path} at {offset}: {before:?} and {code}"),
                }
            }
        }
    }
}
