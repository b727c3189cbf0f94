//! `psfca enroll`

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use zeroize::Zeroizing;

use super::host::with_agent;
use crate::agent::enroll::{Enrolled, enroll};
use crate::cli;
use crate::token::EnrollmentToken;

/// A token is far shorter; only a bound against the wrong file.
const MAX_TOKEN_FILE: u64 = 4_096;

/// Reads the token from a file or standard input, and enrols.
pub(super) fn run(args: &cli::Enroll) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        args.misplaced.is_empty(),
        "a token does not belong on the command line, where everybody on this machine can read it; give it on standard \
         input or with --token-file, and if others use this machine, let that one run out and make another"
    );
    let mut text = Zeroizing::new(String::new());
    match &args.token_file {
        Some(path) => {
            let file = std::fs::File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
            file.take(MAX_TOKEN_FILE).read_to_string(&mut text).context("the token file is no text")?;
        }
        None => {
            let mut stdin = std::io::stdin().lock().take(MAX_TOKEN_FILE);
            let read = if std::io::stdin().is_terminal() {
                cli::host::note("paste the token (made on the CA machine: psfca token HOST), then press Enter")?;
                stdin.read_line(&mut text)
            } else {
                stdin.read_to_string(&mut text)
            };
            read.context("the token cannot be read from standard input")?;
            if text.trim().is_empty() {
                bail!("no token came on standard input; make one on the CA machine: psfca token HOST");
            }
        }
    }
    let token = EnrollmentToken::parse(&text)?;
    with_agent(&args.config, async |agent| {
        let Enrolled { enrolment, trust, ledger_break } = enroll(agent, &token).await?;
        let until = enrolment.validity().not_after;
        let trust_bundle = &agent.settings.trust_bundle;
        cli::host::enrolled(&enrolment.host, &enrolment.server, until, trust_bundle, agent.now())?;
        if let Some(error) = ledger_break {
            cli::host::note(&format!("{error}; this host starts anew with the ledger as it is now"))?;
        }
        trust.context("the identity is stored, and the trust bundle is not; psfca renew tries again")?;
        Ok(ExitCode::SUCCESS)
    })
}
