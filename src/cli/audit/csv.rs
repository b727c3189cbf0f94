//! `psfca audit list --csv` (RFC 4180, with plain line feeds).

use std::io::{self, Write};

use crate::enrollment::{EnrolledBy, Enrollment};
use crate::host::OperatorName;
use crate::wire::{AuditEntry, AuditEvent, EventKind};

/// The columns; what an event does not have stays empty.
const HEADER: [&str; 25] = [
    "index",
    "time",
    "event",
    "leaf_hash",
    "kind",
    "serial",
    "name",
    "host",
    "role",
    "not_before",
    "not_after",
    "state",
    "key_sha256",
    "ca_made_key",
    "declaration",
    "token",
    "operator_uid",
    "reason",
    "address",
    "repeated",
    "omitted",
    "remark",
    "operator_host",
    "other_key_sha256",
    "salt_key",
];

/// A header and one line for each entry.
///
/// # Errors
/// When standard output is closed.
pub fn print_csv(entries: &[AuditEntry]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", HEADER.join(","))?;
    for entry in entries {
        write_line(&mut out, &fields(entry))?;
    }
    Ok(())
}

fn fields(entry: &AuditEntry) -> [String; 25] {
    let mut row = [const { String::new() }; 25];
    let mut set = |column: &str, value: String| {
        if let Some(at) = HEADER.iter().position(|name| *name == column) {
            row[at] = value;
        }
    };
    set("index", entry.index.to_string());
    set("time", entry.time.to_string());
    set("leaf_hash", entry.leaf_hash.to_string());
    let kind = match &entry.event {
        AuditEvent::Certificate(certificate) => {
            set("kind", certificate.kind.as_str().to_owned());
            set("serial", certificate.serial.to_string());
            set("name", certificate.name.clone());
            set("host", certificate.host.as_ref().map(ToString::to_string).unwrap_or_default());
            set("role", certificate.rule.role().map(ToString::to_string).unwrap_or_default());
            set("not_before", certificate.not_before.to_string());
            set("not_after", certificate.not_after.to_string());
            set("state", certificate.state.as_str().to_owned());
            set("key_sha256", certificate.key_sha256.to_string());
            set("ca_made_key", certificate.ca_made_key.to_string());
            match &certificate.rule {
                crate::grant::Rule::Declaration { declaration, .. } => set("declaration", declaration.to_string()),
                crate::grant::Rule::Token { token } => set("token", token.to_string()),
                _ => {}
            }
            EventKind::Certificate
        }
        AuditEvent::Declaration { sha256, names: _ } => {
            set("declaration", sha256.to_string());
            EventKind::Declaration
        }
        AuditEvent::TokenMade { token, host, expires, replace: _, operator_uid } => {
            set("token", token.to_string());
            set("host", host.to_string());
            set("not_after", expires.to_string());
            set("operator_uid", operator_uid.to_string());
            EventKind::TokenMade
        }
        AuditEvent::HostEnrolled(Enrollment { host, by, key_sha256 }) => {
            set("host", host.to_string());
            set("key_sha256", key_sha256.to_string());
            match by {
                EnrolledBy::Token { token } => set("token", token.to_string()),
                EnrolledBy::SaltKey { salt_key } => set("salt_key", salt_key.to_string()),
                EnrolledBy::Approval { operator_uid } => set("operator_uid", operator_uid.to_string()),
            }
            EventKind::HostEnrolled
        }
        AuditEvent::HostRequested(request) => {
            set("host", request.host.to_string());
            set("key_sha256", request.key_sha256.to_string());
            set("address", request.address.to_string());
            EventKind::HostRequested
        }
        AuditEvent::HostApproved(decision) | AuditEvent::HostRejected(decision) => {
            set("host", decision.host.to_string());
            set("key_sha256", decision.key_sha256.to_string());
            set("operator_uid", decision.operator_uid.to_string());
            entry.event.kind()
        }
        AuditEvent::SaltKeyImported(change) | AuditEvent::SaltKeyRemoved(change) => {
            set("host", change.host.to_string());
            set("salt_key", change.salt_key.to_string());
            set("operator_uid", change.operator_uid.to_string());
            entry.event.kind()
        }
        AuditEvent::HostFrozen(fork) => {
            set("host", fork.host.to_string());
            set("serial", fork.serial.to_string());
            set("key_sha256", fork.key_sha256.to_string());
            set("other_key_sha256", fork.other_key_sha256.to_string());
            EventKind::HostFrozen
        }
        AuditEvent::BodiesDropped { ended_before } => {
            set("not_after", ended_before.to_string());
            EventKind::BodiesDropped
        }
        AuditEvent::Refused(record) => {
            set("host", record.host.as_ref().map(ToString::to_string).unwrap_or_default());
            set("name", record.name.as_ref().map(ToString::to_string).unwrap_or_default());
            set("reason", record.reason.as_str().to_owned());
            set("address", record.address.to_string());
            set("repeated", record.repeated.to_string());
            set("omitted", record.omitted.to_string());
            EventKind::Refused
        }
        AuditEvent::Recovered { statement: _, operator_uid } => {
            set("operator_uid", operator_uid.to_string());
            EventKind::Recovered
        }
        AuditEvent::HostDisabled(change) | AuditEvent::HostEnabled(change) | AuditEvent::HostRemoved(change) => {
            set("host", change.host.to_string());
            match &change.operator {
                OperatorName::OperatorUid(uid) => set("operator_uid", uid.to_string()),
                OperatorName::OperatorHost(host) => set("operator_host", host.to_string()),
            }
            set("remark", change.remark.as_ref().map(ToString::to_string).unwrap_or_default());
            entry.event.kind()
        }
        AuditEvent::Restored(restoration) => {
            set("operator_uid", restoration.operator_uid.to_string());
            set("remark", restoration.remark.as_ref().map(ToString::to_string).unwrap_or_default());
            EventKind::Restored
        }
        AuditEvent::Reopened(confirmation) => {
            set("operator_uid", confirmation.operator_uid.to_string());
            EventKind::Reopened
        }
    };
    set("event", kind.as_str().to_owned());
    row
}

fn write_line(out: &mut impl Write, fields: &[String]) -> io::Result<()> {
    for (at, field) in fields.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        if field.contains([',', '"', '\n', '\r']) {
            write!(out, "{comma}\"{}\"", field.replace('"', "\"\""))?;
        } else {
            write!(out, "{comma}{field}")?;
        }
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_a_line_is_quoted() {
        let mut out = Vec::new();
        write_line(&mut out, &["a".to_owned(), "b,c".to_owned(), "say \"d\"".to_owned(), String::new()]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a,\"b,c\",\"say \"\"d\"\"\",\n");
    }
}
