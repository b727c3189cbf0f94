//! What `psfca enroll`, `issue`, `renew` and `status` say to people and programs.

use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::digest::Fingerprint;
use crate::loading::{HookRun, Loaded};
use crate::name::{DnsName, HostName};
use crate::report::{LedgerRecovery, LedgerTrouble, Outcome, Report};
use crate::serial::Serial;
use crate::terminal::{cut, printable_lines};
use crate::token::ServerAddress;
use crate::wire::ApprovalWaiting;

mod status;

pub use status::status;

/// Longest remark and longest reason, in characters.
const MAX_REMARK: usize = 4_000;
/// Most lines of what went wrong with a hook.
const MAX_LINES: usize = 40;

/// Prints one JSON document.
///
/// # Errors
/// When standard output is closed.
pub fn json(value: &impl Serialize) -> io::Result<()> {
    let document = serde_json::to_string_pretty(value)?;
    writeln!(io::stdout().lock(), "{}", ascii(&document))
}

/// The same document in ASCII: what JSON leaves as it is may still drive a terminal.
fn ascii(document: &str) -> String {
    document.chars().fold(String::with_capacity(document.len()), |mut out, c| {
        if c.is_ascii() {
            out.push(c);
        } else {
            // Beyond U+FFFF JSON writes a surrogate pair (RFC 8259, section 7).
            out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
        out
    })
}

/// Prints text as it is: a bundle or a chain.
///
/// # Errors
/// When standard output is closed.
pub fn text(text: &str) -> io::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())
}

/// Prints a remark beside the result.
///
/// # Errors
/// When standard error is closed.
pub fn note(text: &str) -> io::Result<()> {
    writeln!(io::stderr().lock(), "psfca: {}", printable_lines(&cut(text, MAX_REMARK)))
}

/// Prints why the CA does not know what is installed, beside the result.
///
/// # Errors
/// When standard error is closed.
pub fn untold(why: &str) -> io::Result<()> {
    note(&format!("what is installed could not be told to the CA, which changes nothing here: {why}"))
}

/// Prints what was gathered in `out`. A part of it may be what the CA said, or what lies in a certificate.
fn say(out: &[u8]) -> io::Result<()> {
    io::stdout().lock().write_all(printable_lines(&String::from_utf8_lossy(out)).as_bytes())
}

/// Says beside the result that the CA's ledger is in trouble.
///
/// # Errors
/// When standard error is closed.
pub fn ledger(trouble: &LedgerTrouble) -> io::Result<()> {
    let meanwhile = match trouble.refused {
        true => "nothing is installed until that ends",
        false => "certificates are installed all the same (ledger_policy: alarm)",
    };
    note(&format!("LEDGER: {}; {meanwhile}; tell whoever runs the CA", trouble.problem))
}

/// Says beside the result that the root's key gave up what this host had seen of the ledger.
///
/// # Errors
/// When standard error is closed.
pub fn recovered(recovery: &LedgerRecovery) -> io::Result<()> {
    let LedgerRecovery { statement, seen, size, new_key, .. } = recovery;
    let key = if *new_key { ", and by another key" } else { "" };
    note(&format!(
        "LEDGER RECOVERED: the CA lost a part of its ledger, and its root signed that at {statement}; this host had \
         seen {seen} entries and holds the CA to those from {size} on{key}; if nobody told you of a loss, ask whoever \
         runs the CA"
    ))
}

/// Says that a host is enrolled.
///
/// # Errors
/// When standard output is closed.
pub fn enrolled(
    host: &HostName,
    server: &ServerAddress,
    until: Timestamp,
    trust: &Path,
    now: Timestamp,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{host} is enrolled at {server}; its identity is good until {}", until.with_distance(now))?;
    writeln!(out, "Applications trust {}", trust.display())
}

/// Says which key asks to be enrolled, on standard error, since it waits then.
///
/// # Errors
/// When standard error is closed.
pub fn asks(host: &HostName, fingerprint: &Fingerprint) -> io::Result<()> {
    let mut err = io::stderr().lock();
    writeln!(err, "{host} asks to be enrolled; the fingerprint of its key (SHA-256) is")?;
    writeln!(err, "  {fingerprint}")?;
    writeln!(err, "An operator compares it and says, on the CA machine: psfca host approve {host} FINGERPRINT")
}

/// Says that no operator has decided yet.
///
/// # Errors
/// When standard output is closed.
pub fn waits(waiting: &ApprovalWaiting, now: Timestamp) -> io::Result<()> {
    let ApprovalWaiting { host, expires, .. } = waiting;
    let mut out = io::stdout().lock();
    writeln!(out, "{host} waits: no operator has approved its key yet")?;
    writeln!(out, "Run this again later; the key stays the same. The CA drops the request {}", expires.distance(now))
}

/// Says that a bundle is in place.
///
/// # Errors
/// When standard output is closed.
pub fn installed(
    name: &DnsName,
    path: &Path,
    serial: &Serial,
    until: Timestamp,
    due: Timestamp,
    now: Timestamp,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{name} is installed at {}", path.display())?;
    writeln!(out, "  serial {serial}, until {}, renewed from {}", until.with_distance(now), due.with_distance(now))
}

/// Says that a copy of the bundle was written.
///
/// # Errors
/// When standard output is closed.
pub fn copied(path: &Path) -> io::Result<()> {
    writeln!(io::stdout().lock(), "  copied to {}", path.display())
}

/// Says what became of everything.
///
/// # Errors
/// When standard output is closed.
pub fn report(report: &Report, now: Timestamp) -> io::Result<()> {
    let mut out = Vec::new();
    writeln!(out, "{}: {}", report.host, outcome("its identity", &report.identity, now))?;
    for line in &report.names {
        writeln!(out, "{}: {}", line.name, outcome("it", &line.outcome, now))?;
        for path in &line.copies_written {
            writeln!(out, "  copied to {}", path.display())?;
        }
        if let Some(problem) = &line.copy_problem {
            writeln!(out, "  a copy is out of date: {problem}")?;
        }
        for run in &line.hooks {
            hook_run(&mut out, run)?;
        }
        loaded(&mut out, &line.loaded, now)?;
    }
    if report.names.is_empty() {
        writeln!(out, "This host may have no certificate just now: no role of its own is listed under any name.")?;
    }
    if report.trust_written {
        writeln!(out, "The trust bundle was missing or damaged, and was written.")?;
    }
    if let Some(problem) = &report.trust_problem {
        writeln!(out, "Trust: {problem}")?;
    }
    for problem in &report.settings_problems {
        writeln!(out, "Settings: {problem}")?;
    }
    for remark in &report.remarks {
        writeln!(out, "Note: {}", cut(remark, MAX_REMARK))?;
    }
    say(&out)
}

/// Says how far services have come with a bundle that was just installed.
///
/// # Errors
/// When standard output is closed.
pub fn loading(state: &Loaded, hooks: &[HookRun], now: Timestamp) -> io::Result<()> {
    let mut out = Vec::new();
    hooks.iter().try_for_each(|run| hook_run(&mut out, run))?;
    loaded(&mut out, state, now)?;
    say(&out)
}

/// Says what each hook said and how it ended.
///
/// # Errors
/// When standard output is closed.
pub fn hooks(runs: &[HookRun]) -> io::Result<()> {
    let mut out = Vec::new();
    runs.iter().try_for_each(|run| hook_run(&mut out, run))?;
    say(&out)
}

fn hook_run(out: &mut impl io::Write, run: &HookRun) -> io::Result<()> {
    let hook = run.hook.display();
    match &run.error {
        None => writeln!(out, "  hook {hook}: done")?,
        Some(error) => writeln!(out, "  HOOK {hook} {error}")?,
    }
    run.output.lines().try_for_each(|line| writeln!(out, "    {line}"))
}

fn loaded(out: &mut impl io::Write, state: &Loaded, now: Timestamp) -> io::Result<()> {
    match state {
        Loaded::NoneConfigured | Loaded::NotInstalled => Ok(()),
        Loaded::Hooked { at } => writeln!(out, "  loaded  every hook succeeded {}", at.with_distance(now)),
        Loaded::Served { at } => writeln!(out, "  loaded  its service proved that on {}", at.with_distance(now)),
        Loaded::Owed { since, attempts, error } => {
            let since = since.map_or_else(String::new, |since| format!(" since {}", since.with_distance(now)));
            let tried = match attempts {
                0 => "not tried yet".to_owned(),
                1 => "tried once".to_owned(),
                more => format!("tried {more} times"),
            };
            writeln!(out, "  OWED    services have not loaded it{since}; {tried}; psfca renew tries again")?;
            let lines = error.iter().flat_map(|error| error.lines());
            lines.take(MAX_LINES).try_for_each(|line| writeln!(out, "          {line}"))
        }
    }
}

fn outcome(subject: &str, outcome: &Outcome, now: Timestamp) -> String {
    match outcome {
        Outcome::Renewed { serial, not_after, reason } => {
            format!("renewed, because {reason}; serial {serial}, until {}", not_after.with_distance(now))
        }
        Outcome::WouldRenew { reason } => format!("would be renewed, because {reason}"),
        Outcome::NotDue { due, not_after } => {
            format!("not due before {}; until {}", due.with_distance(now), not_after.with_distance(now))
        }
        Outcome::Failed { error, critical: false, .. } => {
            let error = cut(error, MAX_REMARK);
            format!("not renewed: {error}; what is there is still good")
        }
        Outcome::Failed { error, critical: true, .. } => {
            let error = cut(error, MAX_REMARK);
            format!("NOT RENEWED, and {subject} is missing, expired or expires soon: {error}")
        }
        Outcome::LeftAlone { error } => format!("not renewed: {}", cut(error, MAX_REMARK)),
        Outcome::ByHand => {
            "left alone: psfca makes no RSA keys, so it is for you to get, with psfca issue NAME --csr FILE".to_owned()
        }
        Outcome::NotEntitled { not_after } => format!(
            "this host may no longer have it; its bundle is kept, good until {}; when nothing uses it: psfca renew --prune",
            not_after.with_distance(now)
        ),
        Outcome::WouldPrune { not_after } => format!(
            "this host may no longer have it; its bundle, good until {}, would be removed",
            not_after.with_distance(now)
        ),
        Outcome::Pruned { removed } => {
            let removed: Vec<_> = removed.iter().map(|path| path.display().to_string()).collect();
            format!("removed, because this host may no longer have it: {}", removed.join(", "))
        }
        Outcome::NotPruned { error, .. } => {
            let error = cut(error, MAX_REMARK);
            format!("this host may no longer have it, and its bundle was not removed: {error}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_ascii_and_says_the_same() {
        let text = "a\u{9b}31m\u{202e}é\u{1f512}\u{1b}";
        let document = ascii(&serde_json::to_string(text).unwrap());
        assert!(document.bytes().all(|b| (0x20..0x7f).contains(&b)), "{document}");
        assert_eq!(serde_json::from_str::<String>(&document).unwrap(), text);
    }
}
