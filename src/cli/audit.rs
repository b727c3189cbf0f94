//! What `psfca audit` says.

use std::io::{self, Write};

use super::table::align;
use crate::clock::Timestamp;
use crate::grant::Rule;
use crate::wire::{AuditEntry, CertificateState};

/// One JSON object per line.
///
/// # Errors
/// When standard output is closed.
pub fn print_json(entries: &[AuditEntry]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for entry in entries {
        serde_json::to_writer(&mut out, entry)?;
        writeln!(out)?;
    }
    Ok(())
}

/// A table for people, newest first.
///
/// # Errors
/// When standard output is closed.
pub fn print_table(entries: &[AuditEntry], more: bool, now: Timestamp) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if entries.is_empty() {
        return writeln!(out, "No certificate matches.");
    }
    let header = ["INDEX", "RECORDED", "KIND", "NAME", "HOST", "UNTIL", "STATE", "SERIAL"].map(str::to_owned);
    let rows = entries.iter().map(|entry| {
        [
            entry.index.to_string(),
            entry.recorded.to_string(),
            entry.kind.as_str().to_owned(),
            entry.name.clone(),
            entry.host.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            entry.not_after.with_distance(now),
            state(entry.state).to_owned(),
            entry.serial.to_string(),
        ]
    });
    let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
    out.write_all(align(&rows, rows[0].len()).as_bytes())?;
    if more {
        writeln!(out, "There are more; --limit shows them.")?;
    }
    Ok(())
}

/// One certificate whole, and why it was issued.
///
/// # Errors
/// When standard output is closed.
pub fn print_entry(entry: &AuditEntry, now: Timestamp) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut line = |name: &str, value: &str| writeln!(out, "{name:<12}{value}");
    line("serial", &entry.serial.to_string())?;
    line("kind", entry.kind.as_str())?;
    line("name", &entry.name)?;
    if let Some(host) = &entry.host {
        line("host", host.as_str())?;
    }
    line("recorded", &entry.recorded.with_distance(now))?;
    line("valid", &format!("{} to {}", entry.not_before, entry.not_after.with_distance(now)))?;
    let state = match entry.state {
        CertificateState::Issued => "issued",
        CertificateState::Recorded => {
            "recorded: the daemon stopped before it stored a signature; the certificate may or may not exist"
        }
    };
    line("state", state)?;
    line("why", &why(&entry.rule))?;
    line("key", &format!("SHA-256 {}{}", entry.key_sha256, if entry.ca_made_key { ", made by the CA" } else { "" }))?;
    line("ledger", &format!("entry {}, leaf hash {}", entry.index, entry.leaf_hash))?;
    if let Some(certificate) = &entry.certificate {
        write!(out, "{certificate}")?;
    }
    Ok(())
}

const fn state(state: CertificateState) -> &'static str {
    match state {
        CertificateState::Recorded => "recorded",
        CertificateState::Issued => "issued",
    }
}

fn why(rule: &Rule) -> String {
    match rule {
        Rule::Declaration { declaration, listed, role, defined, pattern } => format!(
            "{listed} lists role {role}, and {defined} defines it as {pattern:?}, which the host matches \
             (declaration {declaration})"
        ),
        Rule::Token { token } => format!("the host spent the token with hash {token}"),
        Rule::Identity => "the host showed its identity, still valid, and asked for the next".to_owned(),
        Rule::ServerNames => "the daemon's own certificate: server_names in ca.yaml".to_owned(),
        Rule::Init => "psfca init".to_owned(),
    }
}
