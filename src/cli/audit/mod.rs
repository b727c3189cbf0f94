//! What `psfca audit` says.

pub mod args;
pub mod csv;
pub mod verification;
pub mod why;

use std::io::{self, Write};

use super::table::align;
use crate::clock::Timestamp;
use crate::enrollment::{Enrollment, IdentityFork, KeyDecision, KeyRequest, SaltKeyChange};
use crate::grant::Rule;
use crate::root_statement::SignedRecovery;
use crate::terminal::{printable, printable_lines};
use crate::wire::{AuditCertificate, AuditEntry, AuditEvent, CertificateState, EventKind};

/// What stands where there is nothing.
const NOTHING: &str = "-";

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

/// A table for people; `next` is the cursor of the next page.
///
/// # Errors
/// When standard output is closed.
pub fn print_table(entries: &[AuditEntry], next: Option<u64>, now: Timestamp) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if entries.is_empty() {
        return writeln!(out, "Nothing matches.");
    }
    let header = ["INDEX", "TIME", "EVENT", "KIND", "NAME", "HOST", "UNTIL", "STATE", "SERIAL"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(header).chain(entries.iter().map(|entry| row(entry, now))).collect();
    out.write_all(printable_lines(&align(&rows, rows[0].len())).as_bytes())?;
    if let Some(next) = next {
        writeln!(out, "There are more: --before {next} goes on, --limit makes the page longer.")?;
    }
    Ok(())
}

fn row(entry: &AuditEntry, now: Timestamp) -> [String; 9] {
    let nothing = || NOTHING.to_owned();
    let head = |kind: EventKind| [entry.index.to_string(), entry.time.to_string(), kind.as_str().to_owned()];
    let (kind, rest) = match &entry.event {
        AuditEvent::Certificate(certificate) => {
            let host = certificate.host.as_ref().map_or_else(nothing, ToString::to_string);
            let (name, until) = (certificate.name.clone(), certificate.not_after.with_distance(now));
            let state = certificate.state.as_str().to_owned();
            let kind = certificate.kind.as_str().to_owned();
            (EventKind::Certificate, [kind, name, host, until, state, certificate.serial.to_string()])
        }
        AuditEvent::Declaration { names, .. } => {
            let names = if *names == 1 { "(1 name)".to_owned() } else { format!("({names} names)") };
            (EventKind::Declaration, [nothing(), names, nothing(), nothing(), nothing(), nothing()])
        }
        AuditEvent::TokenMade { host, expires, .. } => {
            let until = expires.with_distance(now);
            (EventKind::TokenMade, [nothing(), nothing(), host.to_string(), until, nothing(), nothing()])
        }
        AuditEvent::HostEnrolled(Enrollment { host, .. })
        | AuditEvent::HostFrozen(IdentityFork { host, .. })
        | AuditEvent::HostRequested(KeyRequest { host, .. })
        | AuditEvent::HostApproved(KeyDecision { host, .. })
        | AuditEvent::HostRejected(KeyDecision { host, .. })
        | AuditEvent::SaltKeyImported(SaltKeyChange { host, .. })
        | AuditEvent::SaltKeyRemoved(SaltKeyChange { host, .. }) => {
            (entry.event.kind(), [nothing(), nothing(), host.to_string(), nothing(), nothing(), nothing()])
        }
        AuditEvent::BodiesDropped { ended_before } => {
            let until = ended_before.with_distance(now);
            (EventKind::BodiesDropped, [nothing(), nothing(), nothing(), until, nothing(), nothing()])
        }
        AuditEvent::Refused(record) => {
            let name = record.name.as_ref().map_or_else(nothing, ToString::to_string);
            let who = record.host.as_ref().map_or_else(|| record.address.to_string(), ToString::to_string);
            let more = if record.repeated == 0 { nothing() } else { format!("{} repeated", record.repeated) };
            (EventKind::Refused, [record.reason.as_str().to_owned(), name, who, nothing(), more, nothing()])
        }
        AuditEvent::Recovered { statement, .. } => {
            let what = SignedRecovery::parse(statement).map_or_else(
                |_| "(unreadable)".to_owned(),
                |signed| format!("({} given up for {})", signed.claim().given_up, signed.claim().size),
            );
            (EventKind::Recovered, [nothing(), what, nothing(), nothing(), nothing(), nothing()])
        }
        AuditEvent::HostDisabled(change) | AuditEvent::HostEnabled(change) | AuditEvent::HostRemoved(change) => {
            let remark = change.remark.as_ref().map_or_else(nothing, |remark| shorten(remark.as_str()));
            (entry.event.kind(), [nothing(), remark, change.host.to_string(), nothing(), nothing(), nothing()])
        }
        AuditEvent::Restored(restoration) => {
            let size = format!("({} entries)", restoration.size);
            (EventKind::Restored, [nothing(), size, nothing(), nothing(), nothing(), nothing()])
        }
        AuditEvent::Reopened(confirmation) => {
            let hosts = match confirmation.hosts {
                1 => "(1 host)".to_owned(),
                hosts => format!("({hosts} hosts)"),
            };
            (EventKind::Reopened, [nothing(), hosts, nothing(), nothing(), nothing(), nothing()])
        }
    };
    let ([index, time, event], [b, c, d, e, f, g]) = (head(kind), rest);
    [index, time, event, b, c, d, e, f, g].map(|cell| if cell.is_empty() { nothing() } else { cell })
}

/// In a column there is room for the beginning of what somebody said.
fn shorten(text: &str) -> String {
    const ROOM: usize = 32;
    match text.char_indices().nth(ROOM) {
        Some((end, _)) => format!("({}…)", &text[..end]),
        None => format!("({text})"),
    }
}

/// One certificate whole, and why it was issued.
///
/// # Errors
/// When standard output is closed.
pub fn print_certificate(entry: &AuditEntry, certificate: &AuditCertificate, now: Timestamp) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write_head(&mut out, entry, certificate, now)?;
    let state = match certificate.state {
        CertificateState::Issued => "issued",
        CertificateState::Recorded => {
            "recorded: the daemon stopped before it stored a signature, or is storing it at this moment; the certificate may or may not exist"
        }
    };
    line(&mut out, "state", state)?;
    line(&mut out, "why", &reason(&certificate.rule))?;
    let made = if certificate.ca_made_key { ", made by the CA" } else { "" };
    line(&mut out, "key", &format!("SHA-256 {}{made}", certificate.key_sha256))?;
    line(&mut out, "ledger", &format!("entry {}, leaf hash {}", entry.index, entry.leaf_hash))?;
    if certificate.body_dropped {
        let what = "dropped, since it ended longer ago than ca.yaml's retention; the entry keeps the SHA-256 of what was signed";
        line(&mut out, "certificate", &format!("{what}, {}", certificate.tbs_sha256))?;
    }
    if let Some(certificate) = &certificate.certificate {
        write!(out, "{certificate}")?;
    }
    Ok(())
}

/// Any entry: a certificate's as [`print_certificate`], another's field by field.
///
/// # Errors
/// When standard output is closed.
pub fn print_entry(entry: &AuditEntry, now: Timestamp) -> io::Result<()> {
    if let AuditEvent::Certificate(certificate) = &entry.event {
        return print_certificate(entry, certificate, now);
    }
    let mut out = io::stdout().lock();
    line(&mut out, "recorded", &entry.time.with_distance(now))?;
    if let serde_json::Value::Object(fields) = serde_json::to_value(&entry.event)? {
        // A text of several lines comes last, as it is.
        let many = |value: &serde_json::Value| value.as_str().is_some_and(|text| text.contains('\n'));
        for (name, value) in fields.iter().filter(|(_, value)| !many(value)) {
            line(&mut out, name, &value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned))?;
        }
        line(&mut out, "ledger", &format!("entry {}, leaf hash {}", entry.index, entry.leaf_hash))?;
        for text in fields.values().filter(|value| many(value)).filter_map(serde_json::Value::as_str) {
            write!(out, "\n{text}")?;
        }
    }
    Ok(())
}

fn line(out: &mut impl Write, name: &str, value: &str) -> io::Result<()> {
    writeln!(out, "{name:<11} {}", printable(value))
}

/// Which certificate it is.
fn write_head(
    out: &mut impl Write,
    entry: &AuditEntry,
    certificate: &AuditCertificate,
    now: Timestamp,
) -> io::Result<()> {
    line(out, "serial", &certificate.serial.to_string())?;
    line(out, "kind", certificate.kind.as_str())?;
    line(out, "name", &certificate.name)?;
    if let Some(host) = &certificate.host {
        line(out, "host", host.as_str())?;
    }
    line(out, "recorded", &entry.time.with_distance(now))?;
    line(out, "valid", &format!("{} to {}", certificate.not_before, certificate.not_after.with_distance(now)))
}

fn reason(rule: &Rule) -> String {
    match rule {
        Rule::Declaration { declaration, listed, role, defined, pattern } => format!(
            "{listed} lists role {role}, and {defined} defines it as {pattern:?}, which the host matches \
             (declaration {declaration})"
        ),
        Rule::Token { token } => format!("the host spent the token with hash {token}"),
        Rule::Approval { operator_uid } => format!("uid {operator_uid} approved the fingerprint of the host's key"),
        Rule::SaltKey { salt_key } => format!("the host signed with its accepted Salt minion key, SHA-256 {salt_key}"),
        Rule::Identity { renewed: None } => "the host showed its identity and asked for the next".to_owned(),
        Rule::Identity { renewed: Some(serial) } => {
            format!("the host showed its identity with serial {serial} and asked for the next")
        }
        Rule::ServerNames => "the daemon's own certificate: server_names in ca.yaml".to_owned(),
        Rule::Init => "psfca init".to_owned(),
    }
}
