//! `psfca why`: a verdict and the lines that decided it.

use std::process::ExitCode;

use super::check::{show, write_out};
use super::declaration_files::{ReadError, read_config, read_declaration, read_declaration_files};
use crate::cli::Why;
use crate::cli::why::Explanation;
use crate::declaration::{Declaration, Rules};
use crate::policy::{self, Verdict};

/// The exit code of a "no", so that scripts can tell it from a mistake in the declaration (1).
const DENIED: u8 = 3;

/// Judges and explains; exit code 0 is a yes, 3 a no, 1 a declaration with mistakes.
///
/// # Errors
/// Files that cannot be read, and output that cannot be written.
pub(super) fn run(args: &Why) -> anyhow::Result<ExitCode> {
    let declaration = match read(args) {
        Ok(declaration) => declaration,
        Err(ReadError::Mistakes(messages)) => {
            show(&messages)?;
            return Ok(ExitCode::FAILURE);
        }
        Err(error @ ReadError::Files(_)) => return Err(error.into()),
    };
    let verdict = policy::judge(&declaration, &args.host, &args.name);
    let explanation = Explanation::new(&declaration, &args.host, &args.name, &verdict);
    write_out(&if args.json { explanation.json()? } else { explanation.text() })?;
    Ok(match verdict {
        Verdict::Granted(_) => ExitCode::SUCCESS,
        Verdict::Denied(_) => ExitCode::from(DENIED),
    })
}

/// Warnings and notes are left to `psfca check`.
fn read(args: &Why) -> Result<Declaration, ReadError> {
    if args.declaration.is_empty() {
        let (config, _) = read_config(&args.config.config)?;
        return Ok(read_declaration(&config)?.0);
    }
    Ok(read_declaration_files(&args.declaration, &Rules::default())?.0)
}
