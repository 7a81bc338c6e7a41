//! The sideband's code is what xdrgen makes of `xdr/integrity.x`, which keeps to what is safe with it.

use std::path::{Path, PathBuf};

const HEADER: &str = "\
// To make this file anew after a change of xdr/integrity.x:
// NFS_VERITY_REGENERATE=1 cargo test --test model the_generated_code_is_what_the_specification_gives
";

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_generated_code_is_what_the_specification_gives() {
    let specification = std::fs::read(root("xdr/integrity.x")).unwrap();
    let mut made = HEADER.as_bytes().to_vec();
    xdrgen::generate("xdr/integrity.x", &specification[..], &mut made).unwrap();
    let checked_in = root("src/proto/sideband/generated.rs");
    if std::env::var_os("NFS_VERITY_REGENERATE").is_some() {
        std::fs::write(&checked_in, &made).unwrap();
    }
    let found = std::fs::read(&checked_in).unwrap();
    assert!(found == made, "{} is not what xdrgen makes; its head says how to", checked_in.display());
}

#[test]
fn the_specification_has_nothing_that_xdrgen_makes_unsafe_code_of() {
    let text = std::fs::read_to_string(root("xdr/integrity.x")).unwrap();
    let mut code = String::new();
    let mut rest = &text[..];
    while let Some((before, comment)) = rest.split_once("/*") {
        code += before;
        rest = comment.split_once("*/").unwrap().1;
    }
    code += rest;
    for word in ["program", "default", "string", "switch (bool", "[", "<>", "*"] {
        assert!(!code.contains(word), "{word} in {code}");
    }
    // Every case of the enumeration is a case of every union.
    let statuses = code.split_once("enum integrity_stat {").unwrap().1.split_once('}').unwrap().0;
    let statuses: Vec<&str> =
        statuses.split(',').map(|line| line.split('=').next().unwrap().trim()).collect();
    let unions: Vec<&str> = code.split("union ").skip(1).collect();
    assert_eq!((unions.len(), statuses.len()), (3, 10));
    for union in unions {
        let body = union.split_once("};").unwrap().0;
        let cases = body.matches("case ").count();
        assert_eq!(cases, statuses.len(), "{body}");
        assert!(statuses.iter().all(|status| body.contains(&format!("case {status}:"))), "{body}");
    }
}
