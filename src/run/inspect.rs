//! `psfca inspect`

use std::fs::File;
use std::io::Read as _;
use std::process::ExitCode;

use anyhow::Context as _;
use zeroize::Zeroizing;

use crate::ca::{inspection, pem_file};
use crate::cli;
use crate::clock::{Clock as _, SystemClock};

/// Looks at a PEM file; 1 when something in it is broken.
pub(super) fn run(args: &cli::Inspect) -> anyhow::Result<ExitCode> {
    let file = args.file.display().to_string();
    // One byte more than is accepted, so that a longer file is told from one that just fits.
    let mut text = Zeroizing::new(Vec::new());
    let bounded = File::open(&args.file).map(|file| file.take(pem_file::MAX_BYTES as u64 + 1));
    let read = bounded.and_then(|mut file| file.read_to_end(&mut text));
    read.with_context(|| format!("{file} cannot be read"))?;
    let now = SystemClock.now();
    let seen = inspection::inspect(&text, now).with_context(|| format!("{file} is no PEM file"))?;
    if args.json {
        cli::host::json(&seen)?
    } else {
        cli::inspect::print(&file, &seen, now)?
    }
    Ok(if seen.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
