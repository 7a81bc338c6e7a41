//! `nfs-verity health`: whether a gateway serves, in an exit status.

use std::io::Write;
use std::time::Duration;

use clap::Args;

use super::client::{Client, PlaceArgs};
use crate::cli::pool::runtime;
use crate::cli::{Outcome, Trouble};

/// How long it may take in all.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ask a gateway whether it serves: for health checks of containers and load balancers
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nfs-verity health
  nfs-verity health --monitor 10.0.0.5:9649

It asks /readyz of the monitor, which needs no token, for 5 seconds at most. Exit status: 0 it
serves, 1 it does not, or does not answer.")]
pub(in crate::cli) struct HealthArgs {
    #[command(flatten)]
    place: PlaceArgs,
}

pub(in crate::cli) fn run(args: &HealthArgs, out: &mut impl Write) -> Result<Outcome, Trouble> {
    let asked = || {
        let client = Client::new(&args.place, None)?;
        runtime(1)?.block_on(client.get("readyz", &[], PATIENCE)).map_err(Trouble::other)
    };
    match asked() {
        Ok(_) => {
            writeln!(out, "ok")?;
            Ok(Outcome::Good)
        }
        // Who runs health checks knows 0 and 1 alone.
        Err(trouble) => {
            writeln!(std::io::stderr(), "nfs-verity: {trouble}")?;
            Ok(Outcome::Failed)
        }
    }
}
