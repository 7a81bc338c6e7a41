//! `memfs DIR`: serves a copy of DIR from memory with the crate nfs3_server, on a free port of 127.0.0.1 that it
//! prints, until it is killed. An upstream server for tests that nobody here wrote.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use nfs3_server::memfs::{MemFs, MemFsConfig};
use nfs3_server::tcp::{NFSTcp, NFSTcpListener};

fn load(directory: &Path, below: &str, config: &mut MemFsConfig) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().to_str().unwrap());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            config.add_dir(&name);
            load(&entry.path(), &format!("{name}/"), config);
        } else if kind.is_file() {
            config.add_file(&name, std::fs::read(entry.path()).unwrap());
        }
    }
}

#[tokio::main]
async fn main() {
    let directory = std::env::args_os().nth(1).unwrap();
    let mut config = MemFsConfig::default();
    load(Path::new(&directory), "", &mut config);
    let listener = NFSTcpListener::bind("127.0.0.1:0", MemFs::new(config).unwrap()).await.unwrap();
    println!("{}", listener.get_listen_port());
    listener.handle_forever().await.unwrap();
}
