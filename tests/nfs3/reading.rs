//! Reading through a running gateway.

use std::process::Command;

use super::support::{
    COMMAND, Client, NFS3ERR_ACCES, NFS3ERR_BADHANDLE, NFS3ERR_IO, NFS3ERR_NOENT, Site, content,
};

#[test]
fn a_signed_file_reads_as_it_is() {
    let site = Site::new();
    let sizes = [0, 1, 4095, 4096, 4097, 65536, 65537, 1_000_003];
    for size in sizes {
        site.put(format!("dir/{size}"), &content(size as u64, size));
    }
    site.sign(&[]);
    let gateway = site.serve(&[]);
    let mut client = Client::connect(gateway.nfs);
    for size in sizes {
        let file = client.find(&format!("dir/{size}")).unwrap();
        for step in [1024 * 1024, 65536, 5000] {
            assert_eq!(client.read_all(&file, step).unwrap(), content(size as u64, size), "{size} by {step}");
        }
        assert_eq!(client.getattr(&file), Ok(size as u64));
    }
}

#[test]
fn a_bad_block_fails_alone() {
    let site = Site::new();
    let good = content(1, 40 * 4096);
    site.put("file", &good);
    site.sign(&[]);
    let mut bad = good.clone();
    bad[20 * 4096 + 17] ^= 1;
    site.put("file", &bad);
    let gateway = site.serve(&[]);
    let mut client = Client::connect(gateway.nfs);
    let file = client.find("file").unwrap();
    assert_eq!(client.read(&file, 20 * 4096, 4096), Err(NFS3ERR_IO));
    assert_eq!(client.read(&file, 19 * 4096, 4096).unwrap().0, good[19 * 4096..20 * 4096]);
    assert_eq!(client.read(&file, 21 * 4096, 4096).unwrap().0, good[21 * 4096..22 * 4096]);
    // A read that starts before it ends before it.
    assert_eq!(client.read(&file, 10, 1 << 20).unwrap(), (good[10..20 * 4096].to_vec(), false));
    assert_eq!(client.read(&file, 21 * 4096, 1 << 20).unwrap(), (good[21 * 4096..].to_vec(), true));
}

#[test]
fn what_nobody_signed_is_denied_and_access_withholds_it() {
    let site = Site::new();
    site.put("signed", b"yes");
    site.sign(&[]);
    site.put("unsigned", b"no");
    let gateway = site.serve(&[]);
    let mut client = Client::connect(gateway.nfs);
    let (signed, unsigned) = (client.find("signed").unwrap(), client.find("unsigned").unwrap());
    assert_eq!(client.read(&unsigned, 0, 10), Err(NFS3ERR_ACCES));
    assert_eq!(client.access(&unsigned, 0x3f), Ok(0));
    assert_eq!(client.access(&signed, 0x3f), Ok(1));
    let denied = "nfs_verity_refused_total{cause=\"unsigned\",class=\"denied\"}";
    assert!(gateway.metric(denied) >= 2.0);
}

#[test]
fn evidence_is_neither_listed_nor_found() {
    let site = Site::new();
    site.put("file", b"x");
    site.sign(&[]);
    let gateway = site.serve(&[]);
    let mut client = Client::connect(gateway.nfs);
    let root = client.mount(b"/").unwrap();
    let mut names = client.names(&root, 512).unwrap();
    names.sort();
    assert_eq!(names, [b".".to_vec(), b"..".to_vec(), b"file".to_vec()]);
    assert_eq!(client.lookup(&root, b".nfs-verity"), Err(NFS3ERR_NOENT));
    assert!(client.mount(b"/.nfs-verity").is_err());
    assert!(client.mount(b"/.nfs-verity/file").is_err());
}

#[test]
fn handles_survive_kill_and_restart() {
    let site = Site::new();
    site.put("a/b/c/file", b"still here");
    site.sign(&[]);
    let mut gateway = site.serve(&[]);
    let file = Client::connect(gateway.nfs).find("a/b/c/file").unwrap();
    gateway.child.kill().unwrap();
    gateway.child.wait().unwrap();
    let gateway = site.serve(&[]);
    let mut client = Client::connect(gateway.nfs);
    assert_eq!(client.read(&file, 0, 100).unwrap().0, b"still here");
}

#[test]
fn ipv6_clients_are_served() {
    let site = Site::new();
    site.put("file", b"six");
    site.sign(&[]);
    let gateway = site.serve(&["--listen", "[::1]:0", "--monitor", "[::1]:0"]);
    let mut client = Client::connect(gateway.nfs);
    let file = client.find("file").unwrap();
    assert_eq!(client.read(&file, 0, 9).unwrap(), (b"six".to_vec(), true));
    assert_eq!(gateway.metric("nfs_verity_reads_total"), 1.0);
}

#[test]
fn a_directory_below_the_root_can_be_mounted_and_a_file_cannot() {
    let site = Site::new();
    site.put("a/b/file", b"deep");
    site.sign(&[]);
    let gateway = site.serve(&[]);
    let mut client = Client::connect(gateway.nfs);
    let directory = client.mount(b"/a/b").unwrap();
    let (file, size) = client.lookup(&directory, b"file").unwrap();
    assert_eq!((client.read(&file, 0, 9).unwrap().0, size), (b"deep".to_vec(), 4));
    assert!(client.mount(b"/a/b/file").is_err());
    assert!(client.mount(b"/a/none").is_err());
    assert!(client.mount(b"/a/../a").is_ok(), "the root is its own parent, and nothing lies above it");
}

#[test]
fn a_symbolic_link_is_told_and_never_followed() {
    let site = Site::new();
    site.put("inside", b"in");
    std::fs::write(site.path("outside"), b"out").unwrap();
    std::os::unix::fs::symlink("../outside", site.tree().join("link")).unwrap();
    std::os::unix::fs::symlink(site.dir.path(), site.tree().join("way-out")).unwrap();
    site.sign(&[]);
    let gateway = site.serve(&[]);
    let mut client = Client::connect(gateway.nfs);
    let root = client.mount(b"/").unwrap();
    let (link, _) = client.lookup(&root, b"link").unwrap();
    assert!(client.read(&link, 0, 10).is_err());
    let (way_out, _) = client.lookup(&root, b"way-out").unwrap();
    assert!(client.lookup(&way_out, b"outside").is_err());
    assert!(client.mount(b"/way-out").is_err());
    assert!(!site.evidence("link").exists());
}

#[test]
fn a_handle_changed_anywhere_is_refused_though_its_object_is_known() {
    let site = Site::new();
    site.put("dir/file", b"x");
    site.sign(&[]);
    let gateway = site.serve(&[]);
    let mut client = Client::connect(gateway.nfs);
    let root = client.mount(b"/").unwrap();
    let file = client.find("dir/file").unwrap();
    for handle in [root, file] {
        assert!(client.getattr(&handle).is_ok());
        for at in 0..handle.len() {
            let mut changed = handle.clone();
            changed[at] ^= 1;
            assert_eq!(client.getattr(&changed), Err(NFS3ERR_BADHANDLE), "byte {at}");
        }
        assert_eq!(client.getattr(&handle[..handle.len() - 1]), Err(NFS3ERR_BADHANDLE));
    }
}

#[test]
fn a_gateway_without_privileges_serves_what_another_user_signed() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new();
    site.put("dir/file", b"signed by another");
    site.sign(&[]);
    // Where the test is root, the gateway is nobody.
    let program = site.path("nfs-verity");
    std::fs::copy(COMMAND, &program).unwrap();
    for (path, mode) in
        [(site.dir.path().to_owned(), 0o755), (site.path("state"), 0o777), (program.clone(), 0o755)]
    {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        command
    } else {
        Command::new(&program)
    };
    let gateway = site.serve_as(&mut command, &[]);
    let mut client = Client::connect(gateway.nfs);
    let file = client.find("dir/file").unwrap();
    assert_eq!(client.read(&file, 0, 100).unwrap(), (b"signed by another".to_vec(), true));
}
