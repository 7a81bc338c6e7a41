//! Replies from the record to what is taken of them, for the fuzzers: by the functions that read a server's.

use bytes::Bytes;

use super::proto::{self, Bad, Decoded, Handle};
use super::rpc::{self, CallError};

/// What a reply answers. Procedures whose results are read alike are one.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    GetAttr,
    Lookup,
    ReadLink,
    /// For that many bytes.
    Read(u32),
    /// Of that many bytes.
    Write(u32),
    /// CREATE and MKDIR.
    Make,
    /// SETATTR, REMOVE, RMDIR and RENAME.
    Change,
    ReadDir,
    ReadDirPlus,
    FsStat,
    FsInfo,
    PathConf,
    Commit,
    /// MNT of MOUNT.
    Mount,
    /// GETPORT of the port mapper.
    GetPort,
}

impl Question {
    /// Each of them, with `count` where there is one.
    #[doc(hidden)]
    pub fn all(count: u32) -> [Self; 15] {
        use Question::*;
        [
            GetAttr,
            Lookup,
            ReadLink,
            Read(count),
            Write(count),
            Make,
            Change,
            ReadDir,
            ReadDirPlus,
            FsStat,
            FsInfo,
            PathConf,
            Commit,
            Mount,
            GetPort,
        ]
    }
}

/// What is taken of a reply.
#[doc(hidden)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// All of it, for comparison.
    pub told: String,
    pub handles: Vec<Vec<u8>>,
    /// Names in a directory.
    pub names: Vec<Vec<u8>>,
    /// The target of a link.
    pub target: Vec<u8>,
    /// A part of the record.
    pub data: Bytes,
}

impl Answer {
    /// Reads the reply `record`, without its mark.
    ///
    /// # Errors
    ///
    /// The reason in words: it is no reply of an executed call, has a status that is not OK, or is not in
    /// the format.
    #[doc(hidden)]
    pub fn read(question: Question, record: &Bytes) -> Result<Self, String> {
        let results = rpc::executed(record).map_err(|error: CallError| error.to_string())?;
        Self::taken(question, &results).map_err(|error: Bad| error.to_string())
    }

    fn taken(question: Question, results: &Bytes) -> Decoded<Self> {
        let mut answer = Self::default();
        let handle = |handle: Handle| handle.as_bytes().to_vec();
        answer.told = match question {
            Question::GetAttr => format!("{:?}", proto::getattr(results)?),
            Question::Lookup => {
                let (found, attr) = proto::lookup(results)?;
                answer.handles.push(handle(found));
                format!("{attr:?}")
            }
            Question::ReadLink => {
                answer.target = proto::readlink(results)?;
                String::new()
            }
            Question::Read(count) => {
                let read = proto::read(results, count)?;
                answer.data = read.bytes;
                format!("{:?} {}", read.attr, read.eof)
            }
            Question::Write(count) => format!("{:?}", proto::write(results, count)?),
            Question::Make => {
                answer.handles.extend(proto::created(results)?.map(handle));
                String::new()
            }
            Question::Change => format!("{:?}", proto::done(results)?),
            Question::ReadDir | Question::ReadDirPlus => {
                let found = proto::entries(results, question == Question::ReadDirPlus)?;
                let told = format!("{found:?}");
                for entry in found.entries {
                    answer.names.push(entry.name);
                    answer.handles.extend(entry.handle.map(handle));
                }
                told
            }
            Question::FsStat => format!("{:?}", proto::fsstat(results)?),
            Question::FsInfo => format!("{:?}", proto::fsinfo(results)?),
            Question::PathConf => format!("{:?}", proto::pathconf(results)?),
            Question::Commit => format!("{:?}", proto::commit(results)?),
            Question::Mount => {
                answer.handles.push(handle(proto::mounted(results)?));
                String::new()
            }
            Question::GetPort => format!("{:?}", proto::port(results)?),
        };
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The fuzzers' corpus holds what servers sent.
    #[test]
    fn replies_of_real_servers_are_read() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/upstream");
        let mut read = [0; 15];
        for entry in std::fs::read_dir(corpus).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if !["ganesha-", "memfs-", "rpcbind-"].iter().any(|server| name.starts_with(server)) {
                continue;
            }
            let input = std::fs::read(path).unwrap();
            let [which, units, record @ ..] = &input[..] else { panic!("{name}") };
            let question = Question::all(u32::from(*units) * 256)[usize::from(*which)];
            let answer = Answer::read(question, &Bytes::copy_from_slice(record));
            assert!(answer.is_ok(), "{name}: {answer:?}");
            read[usize::from(*which)] += 1;
        }
        assert!(read.iter().all(|count| *count > 0), "{read:?}");
    }
}
