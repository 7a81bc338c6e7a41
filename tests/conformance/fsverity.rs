//! Fresh random files, hashed by us and by the installed `fsverity digest`: digest, tree and descriptor agree.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;

use nfs_verity::verity::{BlockSize, Descriptor, HashAlgorithm, Params, Salt, TreeBuilder, VerityError};

const FILES: usize = 200;
/// The largest file in bytes, about.
const LARGEST: u64 = 4 << 20;
/// Set to a printed seed to see the same files again.
const SEED: &str = "NFS_VERITY_TEST_SEED";
const REMEDY: &str = "this test compares with the command `fsverity`: install fsverity-utils (Debian: apt-get install fsverity)";

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }

    fn bytes(&mut self, length: u64) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next().to_le_bytes());
        let length = usize::try_from(length).unwrap();
        words.take(length.div_ceil(8)).flatten().take(length).collect()
    }

    fn params(&mut self) -> Params {
        let algorithm = self.pick(&HashAlgorithm::ALL);
        let block_size = BlockSize::new(1024 << self.pick(&[0, 0, 0, 1, 2, 2, 3, 4, 5, 6])).unwrap();
        let any = self.below(33);
        let length = self.pick(&[0, 0, 1, 16, 31, 32, any]);
        Params { algorithm, block_size, salt: Salt::new(&self.bytes(length)).unwrap() }
    }

    /// Any size; or one at the boundary of a block, of a tree block or of a level.
    fn size(&mut self, params: &Params) -> u64 {
        let block = u64::from(params.block_size.get());
        let arity = block / params.algorithm.digest_size() as u64;
        let unit = match self.below(5) {
            0 => return self.below(10_000),
            1 => return self.below(LARGEST),
            2 => block,
            3 => block * arity,
            _ => block * arity * arity,
        };
        let times = self.below((LARGEST / unit).clamp(1, 9) + 1);
        (unit.min(LARGEST) * times + self.below(3)).saturating_sub(1)
    }
}

/// Writes a file of data and holes at `path` and returns what we make of it: the descriptor and the tree.
fn write_and_build(random: &mut Random, path: &Path, params: Params, size: u64) -> (Descriptor, Vec<u8>) {
    let mut builder = TreeBuilder::new(params, size).unwrap();
    let mut tree = vec![0xee; usize::try_from(builder.geometry().tree_size()).unwrap()];
    let mut sink = |offset: u64, block: &[u8]| {
        let offset = usize::try_from(offset).unwrap();
        tree[offset..offset + block.len()].copy_from_slice(block);
        Ok::<_, VerityError>(())
    };
    let mut file = File::create(path).unwrap();
    while builder.given() < size {
        let left = size - builder.given();
        let most = random.pick(&[100, 5000, 70_000, LARGEST]);
        let length = (1 + random.below(most)).min(left);
        if random.below(4) == 0 {
            file.seek(SeekFrom::Current(i64::try_from(length).unwrap())).unwrap();
            builder.zeros(length, &mut sink).unwrap();
        } else {
            let data = random.bytes(length);
            file.write_all(&data).unwrap();
            builder.update(&data, &mut sink).unwrap();
        }
    }
    file.set_len(size).unwrap();
    let root_hash = builder.finish(&mut sink).unwrap();
    (Descriptor { params, size, root_hash }, tree)
}

#[test]
fn random_files_have_the_digest_tree_and_descriptor_of_the_fsverity_command() {
    let seed = std::env::var(SEED)
        .map_or_else(|_| RandomState::new().hash_one(0), |text| text.parse().expect("the seed is a number"));
    println!("{SEED}={seed}");
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let mut random = Random(seed);
    let mut levels = [0_usize; 9];

    for number in 0..FILES {
        let params = random.params();
        let size = random.size(&params);
        let what = format!("file {number} of {SEED}={seed}: {size} bytes, {params:?}");
        let (descriptor, tree) = write_and_build(&mut random, &at("file"), params, size);
        levels[descriptor.geometry().unwrap().levels()] += 1;

        let mut command = Command::new("fsverity");
        command.args(["digest", "--compact"]);
        command.arg(format!("--hash-alg={}", params.algorithm));
        command.arg(format!("--block-size={}", params.block_size));
        if !params.salt.as_bytes().is_empty() {
            command.arg(format!("--salt={}", params.salt));
        }
        command.arg(format!("--out-merkle-tree={}", at("tree").display()));
        command.arg(format!("--out-descriptor={}", at("descriptor").display()));
        let output = command.arg(at("file")).output().unwrap_or_else(|error| panic!("{REMEDY}: {error}"));
        assert!(output.status.success(), "{what}: {command:?}: {}", String::from_utf8_lossy(&output.stderr));

        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed.trim_end(), descriptor.file_digest().digest.to_string(), "digest of {what}");
        let expected = fs::read(at("descriptor")).unwrap();
        assert_eq!(hex::encode(descriptor.encode()), hex::encode(expected), "descriptor of {what}");
        // The command writes no file, or an empty one, when there is no tree.
        let expected = if at("tree").exists() { fs::read(at("tree")).unwrap() } else { Vec::new() };
        assert!(tree == expected, "tree of {what}");
        for name in ["tree", "descriptor"] {
            let _ = fs::remove_file(at(name));
        }
    }
    println!("files by levels of their tree: {levels:?}");
    assert!(levels[..4].iter().all(|files| *files > 0), "too few kinds of trees: {levels:?}");
}
