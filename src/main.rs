//! The `psfca` binary; everything is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    psfca::run::run(psfca::cli::Cli::parse())
}
