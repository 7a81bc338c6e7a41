//! The commands. Each returns an [`Outcome`]; only `main` ends the process.

mod convert;
mod demo;
mod hashing;
mod inspect;
mod keygen;
mod keys;
mod log;
mod measure;
mod mint;
mod modsig;
mod monitor;
mod mount;
mod policy;
mod pool;
mod progress;
mod quote;
mod relocate;
mod remote;
mod root;
mod rotate;
mod scrub;
mod seal;
mod serve;
mod sign;
mod signer;
mod signers;
mod strip;
mod told;
mod trouble;
mod trust;
mod verify;
mod walk;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use trouble::Trouble;

/// fs-verity for NFS: proves every block before it leaves.
#[derive(Debug, Parser)]
#[command(name = "nfs-verity", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  nfs-verity demo                                   see it work
  nfs-verity keygen --out keys/release              make a signing key
  nfs-verity sign --key keys/release.key /srv/data  sign a tree
  nfs-verity verify --trust keys/release.pub /srv/data
  nfs-verity serve --store /srv/data --trust keys/release.pub
  nfs-verity serve --store nfs://filer/export --trust keys/release.pub

ROOT is a directory, or nfs://HOST/EXPORT, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX.";

#[derive(Debug, Subcommand)]
enum Command {
    Keygen(keygen::KeygenArgs),
    Sign(sign::SignArgs),
    Verify(verify::VerifyArgs),
    Inspect(inspect::InspectArgs),
    Xattr(remote::xattr::XattrArgs),
    Proof(remote::proof::ProofArgs),
    Convert(convert::ConvertArgs),
    Strip(strip::StripArgs),
    Scrub(scrub::ScrubArgs),
    Serve(serve::ServeArgs),
    Status(monitor::status::StatusArgs),
    Events(monitor::events::EventsArgs),
    Health(monitor::health::HealthArgs),
    Keys(keys::KeysArgs),
    Policy(policy::PolicyArgs),
    Measure(measure::MeasureArgs),
    Demo(demo::DemoArgs),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well: exit status 0.
    Good,
    /// Something does not verify or was left undone: exit status 1.
    Failed,
}

impl Cli {
    /// Runs the command; `out` takes what it has to say.
    pub fn run(self, out: &mut (impl Write + Send)) -> Result<Outcome, Trouble> {
        match self.command {
            Command::Keygen(args) => keygen::run(&args, out),
            Command::Sign(args) => sign::run(&args, out),
            Command::Verify(args) => verify::run(&args, out),
            Command::Inspect(args) => inspect::run(&args, out),
            Command::Xattr(args) => remote::xattr::run(&args, out),
            Command::Proof(args) => remote::proof::run(&args, out),
            Command::Convert(args) => convert::run(&args, out),
            Command::Strip(args) => strip::run(&args, out),
            Command::Scrub(args) => scrub::run(&args, out),
            Command::Serve(args) => serve::run(args, out),
            Command::Status(args) => monitor::status::run(&args, out),
            Command::Events(args) => monitor::events::run(&args, out),
            Command::Health(args) => monitor::health::run(&args, out),
            Command::Keys(args) => keys::run(&args, out),
            Command::Policy(args) => policy::run(&args, out),
            Command::Measure(args) => measure::run(&args, out),
            Command::Demo(args) => demo::run(&args, out),
        }
    }
}

/// The process's exit code: 0 good, 1 something failed or is unsigned, 2 usage or configuration, 3 I/O.
pub fn exit_code(result: Result<Outcome, Trouble>) -> ExitCode {
    match result {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(1),
        Err(trouble) => {
            // Somebody who reads only the first lines of a listing has not met an error.
            if !trouble.is_closed_pipe() {
                let _ = writeln!(std::io::stderr(), "nfs-verity: {trouble}");
            }
            ExitCode::from(trouble.exit_code())
        }
    }
}
