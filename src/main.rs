//! The `nfs-verity` command: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use nfs_verity::cli::{Cli, exit_code};

fn main() -> ExitCode {
    let cli = Cli::parse();
    exit_code(cli.run(&mut std::io::stdout()))
}
