//! Several stores with one tree: what one has damaged, or does not answer for, comes from the next.

mod careful;
mod down;
mod heal;
mod repair;
mod scrub;

use std::sync::Arc;

use bytes::Bytes;
use nfs_verity::export::{ExportOptions, FileHandle, READ_MAX};
use nfs_verity::sign::{Keyring, SigningKey};
use nfs_verity::store::{
    Attr, BoxFuture, DirPage, Faulty, FsStat, Memory, Result, Store, StoreFile, StorePath, StoreWriter,
};

use super::scene::{Gate, shared, small_blocks};
use super::support::{content, key_and_trust, seal};

/// A store with a name of its own.
#[derive(Clone)]
struct Named(&'static str, Faulty);

impl Store for Named {
    fn describe(&self) -> String {
        self.0.to_owned()
    }

    fn stat<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Attr>> {
        self.1.stat(path)
    }

    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Arc<dyn StoreFile>>> {
        Box::pin(async move {
            let file: Arc<dyn StoreFile> = Arc::new(Slow(self.1.open(path).await?));
            Ok(file)
        })
    }

    fn read_dir<'a>(
        &'a self,
        path: &'a StorePath,
        cookie: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<DirPage>> {
        self.1.read_dir(path, cookie, max)
    }

    fn read_link<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Vec<u8>>> {
        self.1.read_link(path)
    }

    fn stat_fs(&self) -> BoxFuture<'_, Result<FsStat>> {
        self.1.stat_fs()
    }

    fn create<'a>(
        &'a self,
        path: &'a StorePath,
        scratch: &'a StorePath,
    ) -> BoxFuture<'a, Result<Box<dyn StoreWriter>>> {
        self.1.create(path, scratch)
    }

    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<()>> {
        self.1.remove(path)
    }

    fn forget(&self, path: &StorePath) {
        self.1.forget(path);
    }
}

/// A file of which nothing is in memory, as on a store that is far away.
struct Slow(Arc<dyn StoreFile>);

impl StoreFile for Slow {
    fn stat(&self) -> BoxFuture<'_, Result<Attr>> {
        self.0.stat()
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
        self.0.read_at(offset, len)
    }

    fn get_xattr<'a>(&'a self, name: &'a [u8], max: usize) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.0.get_xattr(name, max)
    }

    fn list_xattrs(&self) -> BoxFuture<'_, Result<Vec<Vec<u8>>>> {
        self.0.list_xattrs()
    }

    fn set_xattr<'a>(&'a self, name: &'a [u8], value: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        self.0.set_xattr(name, value)
    }

    fn remove_xattr<'a>(&'a self, name: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        self.0.remove_xattr(name)
    }
}

const NAMES: [&str; 3] = ["one", "two", "three"];

/// In blocks of 1024 bytes, and a short one: a tree of two levels.
const SIZE: usize = 200_000;
const FILE: &str = "d/file";

/// The same signed tree on three stores.
struct Scene {
    memory: [Memory; 3],
    faulty: [Faulty; 3],
    key: SigningKey,
    keyring: Keyring,
    content: Vec<u8>,
}

impl Scene {
    async fn new() -> Self {
        let (key, keyring) = key_and_trust();
        let memory = [Memory::new(), Memory::new(), Memory::new()];
        let content = content(1, SIZE);
        for (n, memory) in memory.iter().enumerate() {
            // So that no number of one store is the same on another.
            (0..n).for_each(|n| memory.put(format!("z/{n}"), b"").unwrap());
            memory.put(FILE, &content).unwrap();
            memory.put("unsigned", b"nobody vouches for this").unwrap();
            seal(&shared(memory), FILE, &content, small_blocks(), &key).await;
        }
        let faulty = [0, 1, 2].map(|n: usize| Faulty::new(shared(&memory[n])));
        Self { memory, faulty, key, keyring, content }
    }

    fn store(&self, n: usize) -> Arc<dyn Store> {
        Arc::new(Named(NAMES[n], self.faulty[n].clone()))
    }

    /// A gate over the first `count` of the stores.
    async fn gate(&self, count: usize) -> Gate {
        self.gate_with(count, |_| ()).await
    }

    async fn gate_with(&self, count: usize, change: impl FnOnce(&mut ExportOptions)) -> Gate {
        let gate = Gate::with(self.store(0), &self.keyring, |options| {
            options.replicas = (1..count).map(|n| self.store(n)).collect();
            change(options);
        });
        gate.await.unwrap()
    }

    async fn handle(&self, gate: &Gate) -> FileHandle {
        gate.find(FILE).await.unwrap().0
    }

    /// Whether all of the file is given, whichever way it is asked for.
    async fn is_whole(&self, gate: &Gate) -> bool {
        let Ok((handle, attr)) = gate.find(FILE).await else { return false };
        for (offset, count) in [(0, READ_MAX), (0, 10), (SIZE as u64 / 2, 5000), (SIZE as u64 - 1, 9)] {
            match gate.read(&handle, offset, count).await {
                Ok(given) => {
                    assert!(given.is_of(&self.content, offset, count), "{offset}: {given:?}");
                    if !given.is_all_of(&self.content, offset, count) {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        attr.size == SIZE as u64
    }
}
