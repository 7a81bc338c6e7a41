//! Where signatures come from: a key file, another program, or a PKCS#11 token.

mod command;
mod file;
mod passphrase;
mod pkcs11;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{ArgGroup, Args};

use command::CommandSigner;
pub(super) use file::{certificates, private_file, read_bounded};

use super::Trouble;
use crate::sign::{HashName, PublicKey, Sign, SignError, ToSign};

/// Which key signs, and how to get at it.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("signer").required(true)), group(ArgGroup::new("secret")))]
pub(in crate::cli) struct SignerArgs {
    /// The private key, PKCS#8 PEM, which nobody but its owner may read; it may be encrypted
    #[arg(long, value_name = "NAME.key", group = "signer")]
    pub(in crate::cli) key: Option<PathBuf>,
    /// A shell command that signs what it gets on stdin; see below
    #[arg(long, value_name = "CMD", group = "signer", requires = "public")]
    signer_command: Option<String>,
    /// The public key of --signer-command: a .pub file or a certificate
    #[arg(long, value_name = "FILE", requires = "signer_command")]
    public: Option<PathBuf>,
    /// A PKCS#11 module, as in /usr/lib/softhsm/libsofthsm2.so
    #[arg(long, value_name = "MODULE", group = "signer", requires = "pkcs11_key")]
    pkcs11: Option<PathBuf>,
    /// The label of the token, where there are several
    #[arg(long, value_name = "LABEL", requires = "pkcs11")]
    pkcs11_token: Option<String>,
    /// The label of the key on the token
    #[arg(long, value_name = "LABEL", requires = "pkcs11")]
    pkcs11_key: Option<String>,
    /// A file with the passphrase of --key or the PIN of --pkcs11; asked for on the terminal when absent
    #[arg(long, value_name = "FILE", group = "secret", conflicts_with = "signer_command")]
    passphrase_file: Option<PathBuf>,
    /// An open file descriptor to read passphrase or PIN from, as in --passphrase-fd 3 3<secret
    #[arg(long, value_name = "N", group = "secret", conflicts_with = "signer_command")]
    passphrase_fd: Option<u16>,
}

/// What `sign --help` says of the ways to sign.
pub(in crate::cli) const HELP: &str = "\
Signing with another program (an HSM, a KMS, an agent): --signer-command is run by sh once a
signature, up to --jobs at a time. It gets what is to be signed on stdin, writes the signature
alone to stdout (ECDSA in DER, RSA PKCS#1 v1.5, Ed25519 raw), and ends with status 0 within 60
seconds. Its environment tells:
  NFS_VERITY_INPUT          message, or digest (for ima-v2 alone: stdin is the digest itself)
  NFS_VERITY_HASH           sha256, sha384 or sha512; absent for Ed25519
  NFS_VERITY_KEY_ALGORITHM  ed25519, p256, p384, rsa2048, ...
  NFS_VERITY_KEY_ID         the key's id in hex
With plain openssl:
  nfs-verity sign --public keys/release.pub --signer-command \\
    'openssl dgst -$NFS_VERITY_HASH -sign keys/release.key' /srv/data
and for ima-v2, where the input is a digest:
  --signer-command 'openssl pkeyutl -sign -pkeyopt digest:$NFS_VERITY_HASH -inkey keys/release.key'
Every signature is checked with the public key before it is used.";

/// The signer that the command line names.
pub(in crate::cli) fn open_signer(args: &SignerArgs) -> Result<Arc<dyn Sign>, Trouble> {
    // Clap drops what an option requires where that conflicts with another one that is given.
    if args.public.is_some() && args.signer_command.is_none() {
        return Err(Trouble::usage(
            "--public belongs to --signer-command; a key in a file or on a token knows its own",
        ));
    }
    if args.pkcs11.is_none() && (args.pkcs11_key.is_some() || args.pkcs11_token.is_some()) {
        return Err(Trouble::usage("--pkcs11-key and --pkcs11-token belong to --pkcs11 MODULE"));
    }
    let secret = passphrase::Source { file: args.passphrase_file.as_deref(), descriptor: args.passphrase_fd };
    match (&args.key, &args.signer_command, &args.pkcs11) {
        (Some(key), None, None) => Ok(Arc::new(file::open(key, &secret)?)),
        (None, Some(command), None) => {
            let public =
                args.public.as_deref().ok_or_else(|| Trouble::usage("--signer-command needs --public"))?;
            let public = file::public_key(public)?;
            Ok(Arc::new(CommandSigner::new(command.clone(), public)))
        }
        (None, None, Some(module)) => {
            let label =
                args.pkcs11_key.as_deref().ok_or_else(|| Trouble::usage("--pkcs11 needs --pkcs11-key"))?;
            let place = pkcs11::Place { module, token: args.pkcs11_token.as_deref(), key: label };
            Ok(Arc::new(pkcs11::Token::open(&place, &secret)?))
        }
        _ => Err(Trouble::usage("give exactly one of --key, --signer-command and --pkcs11")),
    }
}

/// Whether `signature` is `key`'s over what was to be signed: signers outside this process are not
/// believed.
fn holds(key: &PublicKey, hash: HashName, input: ToSign<'_>, signature: &[u8]) -> bool {
    match input {
        ToSign::Message(message) if hash == key.native_hash() => key.verify(message, signature),
        ToSign::Message(message) => key.verify_digest(hash, &hash.digest(message), signature),
        ToSign::Digest(digest) => key.verify_digest(hash, digest, signature),
    }
}

/// Whether the key has a hash of its own, so that it signs messages alone.
fn signs_messages_alone(key: &PublicKey) -> bool {
    key.algorithm_name() == "ed25519"
}

/// Refuses what an Ed25519 key cannot sign.
fn possible(key: &PublicKey, hash: HashName, input: ToSign<'_>) -> Result<(), SignError> {
    let native = matches!(input, ToSign::Message(_)) && hash == key.native_hash();
    if signs_messages_alone(key) && !native {
        let algorithm = key.algorithm_name();
        return Err(SignError::CannotMake { algorithm, what: "a signature over a digest" });
    }
    Ok(())
}
