//! Signing with another program: bytes on its stdin, the signature from its stdout.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{holds, possible, signs_messages_alone};
use crate::sign::{HashName, PublicKey, Sign, SignError, ToSign};

/// How long a command may take for one signature.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest output that is taken for a signature, in bytes: RSA of 8192 bits has 1024.
const SIGNATURE_MAX: usize = 2048;
/// How much of what a command says on stderr is passed on, in bytes.
const WORDS_MAX: usize = 4096;

/// A shell command that signs with one key.
pub(super) struct CommandSigner {
    command: String,
    public: PublicKey,
    patience: Duration,
}

impl CommandSigner {
    /// The signer `command`, whose signatures `public` checks.
    pub(super) fn new(command: String, public: PublicKey) -> Self {
        Self { command, public, patience: PATIENCE }
    }

    fn failed(&self, reason: impl ToString) -> SignError {
        SignError::External { signer: format!("command {:?}", self.command), reason: reason.to_string() }
    }

    fn spawn(&self, hash: HashName, input: ToSign<'_>) -> io::Result<Child> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(&self.command);
        let kind = match input {
            ToSign::Message(_) => "message",
            ToSign::Digest(_) => "digest",
        };
        command.env("NFS_VERITY_INPUT", kind);
        if signs_messages_alone(&self.public) {
            command.env_remove("NFS_VERITY_HASH");
        } else {
            command.env("NFS_VERITY_HASH", hash.name());
        }
        command.env("NFS_VERITY_KEY_ALGORITHM", self.public.algorithm_name());
        command.env("NFS_VERITY_KEY_ID", self.public.key_id().to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own, so that all that the shell starts can be ended with it.
        command.process_group(0).spawn()
    }

    /// Runs the command once: its exit status, its output and its words, both cut.
    fn ask(&self, hash: HashName, input: ToSign<'_>) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), SignError> {
        let (ToSign::Message(bytes) | ToSign::Digest(bytes)) = input;
        let mut child = Group(self.spawn(hash, input).map_err(|error| self.failed(error))?);
        let deadline = Instant::now() + self.patience;
        if let Some(mut stdin) = child.0.stdin.take() {
            let bytes = bytes.to_vec();
            // A command that does not read all of its input may know what it does: its signature tells.
            std::thread::spawn(move || stdin.write_all(&bytes));
        }
        let signature = gather(child.0.stdout.take(), SIGNATURE_MAX + 1);
        let words = gather(child.0.stderr.take(), WORDS_MAX);
        let late = || {
            self.failed(format!("it gave no signature within {} s and was ended", self.patience.as_secs()))
        };
        let signature = within(&signature, deadline).ok_or_else(late)?.map_err(|error| self.failed(error))?;
        if signature.len() > SIGNATURE_MAX {
            return Err(self.failed(format!("it wrote more than the {SIGNATURE_MAX} bytes of any signature")));
        }
        let status = loop {
            if let Some(status) = child.0.try_wait().map_err(|error| self.failed(error))? {
                break status;
            }
            if Instant::now() >= deadline {
                return Err(late());
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        // What it left running in the background may hold stderr open: that is not waited for long.
        let words = within(&words, deadline.min(Instant::now() + Duration::from_secs(1)));
        Ok((status, signature, words.and_then(Result::ok).unwrap_or_default()))
    }
}

impl Sign for CommandSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, hash: HashName, input: ToSign<'_>) -> Result<Vec<u8>, SignError> {
        possible(&self.public, hash, input)?;
        let (status, signature, words) = self.ask(hash, input)?;
        let said = String::from_utf8_lossy(&words);
        let said = said.trim();
        if !status.success() {
            let said = if said.is_empty() { "it said nothing on stderr" } else { said };
            return Err(self.failed(format!("{status}; {}", said.escape_debug())));
        }
        if !said.is_empty() {
            let _ = writeln!(io::stderr(), "nfs-verity: the signer command says: {}", said.escape_debug());
        }
        if !holds(&self.public, hash, input, &signature) {
            return Err(self.failed(format!(
                "what it wrote ({} bytes) is no signature of the key {}; --public must be the public half of the \
                 key it signs with, and NFS_VERITY_INPUT and NFS_VERITY_HASH say what to sign",
                signature.len(),
                self.public.key_id()
            )));
        }
        Ok(signature)
    }
}

/// A child that leads a process group, ended with all of it unless it has ended by itself.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // As long as the child was not waited for, its id is nobody else's.
        if let Ok(None) = self.0.try_wait() {
            let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
            let _ = self.0.wait();
        }
    }
}

/// Reads on a thread of its own at most `max` bytes, and then on without keeping them, so that the
/// writer is not stopped.
fn gather(from: Option<impl Read + Send + 'static>, max: usize) -> Receiver<io::Result<Vec<u8>>> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let Some(mut from) = from else { return };
        let mut kept = Vec::new();
        let result = from.by_ref().take(max as u64).read_to_end(&mut kept);
        let result = result.and_then(|_| io::copy(&mut from, &mut io::sink()));
        let _ = send.send(result.map(|_| kept));
    });
    receive
}

/// What comes until `deadline`.
fn within<T>(from: &Receiver<io::Result<T>>, deadline: Instant) -> Option<io::Result<T>> {
    match from.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(result) => Some(result),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::{KeyAlgorithm, SigningKey, generate};

    fn key() -> SigningKey {
        SigningKey::from_pkcs8_pem(generate(KeyAlgorithm::P256).unwrap().private_pem.as_bytes()).unwrap()
    }

    fn signer(command: &str, key: &SigningKey) -> CommandSigner {
        CommandSigner::new(command.to_owned(), key.public_key().clone())
    }

    fn refused(command: &str, words: &[&str]) {
        let key = key();
        let error = signer(command, &key).sign(HashName::Sha256, ToSign::Message(&[7; 60_000]));
        let error = error.unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{command}: no {word:?} in {error}");
        }
        assert!(error.contains("signer command") && error.len() < 9000, "{error}");
    }

    #[test]
    fn what_a_command_writes_is_used_when_it_is_the_signature_alone() {
        let (key, dir) = (key(), tempfile::tempdir().unwrap());
        let message = [7; 60_000];
        std::fs::write(dir.path().join("sig"), key.sign(&message).unwrap()).unwrap();
        let sig = dir.path().join("sig").display().to_string();
        // It does not read its input, leaves words, or leaves something running that holds stderr.
        for command in [
            format!("cat {sig}"),
            format!("cat >/dev/null; cat {sig}; echo done >&2"),
            format!("cat {sig}; sleep 5 >/dev/null &"),
        ] {
            let started = Instant::now();
            let signature = signer(&command, &key).sign(HashName::Sha256, ToSign::Message(&message)).unwrap();
            assert!(key.public_key().verify(&message, &signature), "{command}");
            assert!(started.elapsed() < Duration::from_secs(4), "{command}");
        }
        refused(&format!("cat {sig}"), &["no signature of the key"]);
    }

    #[test]
    fn what_is_no_signature_is_refused_and_the_command_named() {
        refused("cat >/dev/null; echo no; exit 0", &["no signature of the key", "(3 bytes)", "--public"]);
        refused("true", &["(0 bytes)"]);
        refused("echo 'the token is gone' >&2; exit 7", &["the token is gone", "exit status: 7"]);
        refused("exit 7", &["said nothing"]);
        refused("kill -9 $$", &["signal: 9"]);
        refused("cat /dev/zero | head -c 100000", &["more than the 2048 bytes"]);
        refused("head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1", &["xxx"]);
        refused("/no/such/program", &["exit status: 127"]);
    }

    #[test]
    fn a_command_without_end_is_ended_with_all_that_it_started() {
        let (key, dir) = (key(), tempfile::tempdir().unwrap());
        let pids = dir.path().join("pids").display().to_string();
        for command in [
            format!("echo $$ >{pids}; sleep 100 & echo $! >>{pids}; wait"),
            format!("exec >&-; echo $$ >{pids}; sleep 100"),
        ] {
            let mut signer = signer(&command, &key);
            signer.patience = Duration::from_millis(500);
            let error = signer.sign(HashName::Sha256, ToSign::Message(b"message")).unwrap_err();
            assert!(error.to_string().contains("was ended"), "{error}");
            for pid in std::fs::read_to_string(&pids).unwrap().lines() {
                let gone = || {
                    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                    stat.is_empty() || stat.contains(") Z ")
                };
                let started = Instant::now();
                while !gone() {
                    assert!(started.elapsed() < Duration::from_secs(10), "{pid} of {command} is still there");
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }

    #[test]
    fn ed25519_commands_are_not_asked_for_what_no_such_key_signs() {
        let pair = generate(KeyAlgorithm::Ed25519).unwrap();
        let key = SigningKey::from_pkcs8_pem(pair.private_pem.as_bytes()).unwrap();
        let signer = signer("exit 1", &key);
        let digest = signer.sign(HashName::Sha256, ToSign::Digest(&[0; 32]));
        assert!(matches!(digest, Err(SignError::CannotMake { .. })));
        assert!(matches!(
            signer.sign(HashName::Sha512, ToSign::Message(b"message")),
            Err(SignError::CannotMake { .. })
        ));
    }
}
