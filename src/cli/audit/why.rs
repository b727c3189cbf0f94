//! What `psfca audit why` prints: which certificate, which declaration, and the very lines.

use std::fmt::Write as _;

use serde::Serialize;

use super::reason;
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::grant::{Place, Rule};
use crate::name::{HostName, RoleName};
use crate::serial::Serial;
use crate::wire::{AuditCertificate, AuditEntry, DeclarationText, Deployment, FleetReport};

/// A line of a declaration as it was recorded.
#[derive(Debug, Serialize)]
struct Line<'a> {
    file: &'a str,
    line: u32,
    /// Absent when the recorded text has no such line.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct ByDeclaration<'a> {
    sha256: Digest,
    in_force: bool,
    since: Timestamp,
    role: &'a RoleName,
    pattern: &'a str,
    listed: Line<'a>,
    defined: Line<'a>,
}

/// Why a certificate was issued.
#[derive(Debug, Serialize)]
pub struct Reason<'a> {
    index: u64,
    time: Timestamp,
    serial: &'a Serial,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a HostName>,
    rule: &'a Rule,
    #[serde(skip_serializing_if = "Option::is_none")]
    declaration: Option<ByDeclaration<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<&'a FleetReport>,
}

impl<'a> Reason<'a> {
    /// Puts together what the ledger says and the declaration that it names.
    #[must_use]
    pub fn new(
        entry: &'a AuditEntry,
        certificate: &'a AuditCertificate,
        declaration: Option<&'a DeclarationText>,
    ) -> Self {
        let by = match (&certificate.rule, declaration) {
            (Rule::Declaration { declaration: sha256, listed, role, defined, pattern }, Some(text)) => {
                Some(ByDeclaration {
                    sha256: *sha256,
                    in_force: text.in_force,
                    since: text.since,
                    role,
                    pattern,
                    listed: line(text, listed),
                    defined: line(text, defined),
                })
            }
            _ => None,
        };
        Self {
            index: entry.index,
            time: entry.time,
            serial: &certificate.serial,
            name: &certificate.name,
            host: certificate.host.as_ref(),
            rule: &certificate.rule,
            declaration: by,
            report: certificate.report.as_ref(),
        }
    }

    /// For programs.
    ///
    /// # Errors
    /// None that can happen: everything in it is text.
    pub fn json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// For people.
    #[must_use]
    pub fn text(&self, now: Timestamp) -> String {
        let host = self.host.map_or_else(|| "the CA itself".to_owned(), ToString::to_string);
        let (serial, name) = (self.serial, self.name);
        // By the declaration a host is given names; by all else, itself.
        let what = match (self.rule, self.host) {
            (Rule::Declaration { .. }, _) | (_, None) => name,
            _ => "its identity",
        };
        let mut out =
            format!("{host} got {what} (serial {serial}, entry {}), {}:\n", self.index, self.time.with_distance(now));
        // Writing to a String cannot fail.
        let Some(by) = &self.declaration else {
            let _ = writeln!(out, "  {}", reason(self.rule));
            return out;
        };
        let lines = [
            (&by.listed, format!("{name} lists role {}", by.role)),
            (&by.defined, format!("{} is {:?}, which {host} matches", by.role, by.pattern)),
        ];
        for (line, says) in lines {
            let _ = writeln!(out, "  {}:{}: {says}", line.file, line.line);
            let _ = writeln!(out, "    | {}", line.text.unwrap_or("(the recorded text has no such line)"));
        }
        let standing = if by.in_force { "it is in force" } else { "another is in force now" };
        let _ = writeln!(out, "  declaration {}, last put in force {}; {standing}", by.sha256, by.since);
        if let Some(report) = self.report {
            let _ = writeln!(out, "  {host} said {}: {}", report.at.with_distance(now), said(&report.deployment));
        }
        out
    }
}

fn said(deployment: &Deployment) -> String {
    match deployment {
        Deployment::Installed => "it is installed".to_owned(),
        Deployment::Owed { since, .. } => format!("it is installed, and owed to its service since {since}"),
        Deployment::Hooked { since } => format!("it is installed, and its hooks succeeded at {since}"),
        Deployment::Served { since } => format!("it is served since {since}"),
    }
}

fn line<'a>(declaration: &'a DeclarationText, place: &'a Place) -> Line<'a> {
    let file = declaration.files.iter().find(|file| *file.path == *place.file);
    let index = usize::try_from(place.line).ok().and_then(|line| line.checked_sub(1));
    let text = file.zip(index).and_then(|(file, index)| file.text.lines().nth(index));
    Line { file: &place.file, line: place.line, text }
}
