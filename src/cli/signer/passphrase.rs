//! Passphrases and PINs: from a file, a descriptor or the terminal; wiped from memory when dropped.

use std::fs::File;
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use super::file::{private_file, read_bounded};
use crate::cli::Trouble;

/// The longest passphrase in bytes.
const PASSPHRASE_MAX: usize = 4096;

/// Where a passphrase comes from; the terminal when neither is given.
pub(super) struct Source<'a> {
    pub(super) file: Option<&'a Path>,
    pub(super) descriptor: Option<u16>,
}

impl Source<'_> {
    /// The passphrase or PIN, called `what` when it has to be asked for.
    pub(super) fn read(&self, what: &str) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        let (name, text) = match (self.file, self.descriptor) {
            (Some(path), _) => {
                let text = read_bounded(private_file(path)?, PASSPHRASE_MAX);
                (path.display().to_string(), text.map_err(|source| Trouble::file("read", path, source))?)
            }
            (None, Some(descriptor)) => {
                // Opened anew by its name in the process's own directory: no descriptor that is in
                // use elsewhere is taken over.
                let path = format!("/dev/fd/{descriptor}");
                let text = File::open(&path).and_then(|file| read_bounded(file, PASSPHRASE_MAX));
                let name = format!("--passphrase-fd {descriptor}");
                let cannot = |source| Trouble::Io { context: format!("cannot read {name}"), source };
                (name.clone(), text.map_err(cannot)?)
            }
            (None, None) => ("the terminal".to_owned(), ask(what)?),
        };
        if text.len() > PASSPHRASE_MAX {
            return Err(Trouble::usage(format!("{name}: a passphrase has at most {PASSPHRASE_MAX} bytes")));
        }
        let text = without_line_end(text);
        if text.is_empty() {
            return Err(Trouble::usage(format!("{name}: the passphrase is empty")));
        }
        Ok(text)
    }
}

fn without_line_end(mut text: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if text.last() == Some(&b'\n') {
        text.pop();
        if text.last() == Some(&b'\r') {
            text.pop();
        }
    }
    text
}

fn ask(what: &str) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    match rpassword::prompt_password(format!("{what}: ")) {
        Ok(text) => Ok(Zeroizing::new(text.into_bytes())),
        // ENXIO is what /dev/tty answers to a process without a terminal.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound) || error.raw_os_error() == Some(6) => {
            Err(Trouble::usage(format!(
                "{what} is needed and there is no terminal to ask at; give --passphrase-file FILE or \
                 --passphrase-fd N"
            )))
        }
        Err(source) => Err(Trouble::Io { context: format!("cannot ask for {what}"), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_no_part_of_a_passphrase() {
        for (text, kept) in [
            ("word", "word"),
            ("word\n", "word"),
            ("word\r\n", "word"),
            ("word\n\n", "word\n"),
            (" word ", " word "),
            ("word\r", "word\r"),
            ("\n", ""),
        ] {
            let text = Zeroizing::new(text.as_bytes().to_vec());
            assert_eq!(*without_line_end(text), kept.as_bytes());
        }
    }
}
