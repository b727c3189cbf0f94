//! What `psfca check` prints.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::table::align;
use crate::clock::Timestamp;
use crate::config::IDENTITY_GRACE;
use crate::declaration::{Declaration, Service};
use crate::diagnostic::{Diagnostic, Diagnostics, Severity};
use crate::digest::Digest;
use crate::grant::Place;
use crate::name::{DnsName, HostName, RoleName};
use crate::outage;
use crate::policy;
use crate::profile::{KeyKind, Usages};
use crate::wire::CaHealth;

/// Most hosts that one line of the table names.
const MAX_HOSTS: usize = 4;

/// What is known beside the declaration.
#[derive(Debug)]
pub struct Known {
    /// The hosts of `--hosts`, or the enrolled ones; none when neither could be read.
    pub hosts: Option<Vec<HostName>>,
    /// For how long after its end an identity can be renewed, by ca.yaml.
    pub identity_grace: Duration,
    /// The CA's certificates; empty without a CA, or when it could not be asked.
    pub ca: Vec<CaHealth>,
    /// Why the daemon could not be asked for its hosts; none where nobody tried.
    pub unasked: Option<String>,
}

/// Nothing.
impl Default for Known {
    fn default() -> Self {
        Self { hosts: None, identity_grace: IDENTITY_GRACE, ca: Vec::new(), unasked: None }
    }
}

/// One message, for programs.
#[derive(Debug, Serialize)]
pub struct Message<'a> {
    severity: String,
    file: &'a str,
    line: u32,
    column: u32,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
}

impl<'a> From<&'a Diagnostic> for Message<'a> {
    fn from(from: &'a Diagnostic) -> Self {
        let (line, column) = from.file.line_column(from.span.start);
        Self {
            severity: from.severity.to_string(),
            file: from.file.path(),
            line,
            column,
            message: &from.message,
            help: from.help.as_deref(),
        }
    }
}

/// One declared name, for programs.
#[derive(Debug, Serialize)]
struct Name<'a> {
    name: &'a DnsName,
    place: &'a Place,
    aliases: &'a [DnsName],
    ip: &'a [IpAddr],
    usages: Usages,
    lifetime_seconds: u64,
    key: KeyKind,
    ca_made_key: bool,
    roles: Vec<&'a RoleName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hosts: Option<Vec<&'a HostName>>,
}

/// For how long the CA may be gone before the first certificate of a fleet ends.
#[derive(Debug, Serialize)]
struct Outage<'a> {
    seconds: u64,
    /// What ends first; absent where it is the identities.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a DnsName>,
}

fn outage<'d>(declaration: &'d Declaration, known: &Known) -> (Duration, Option<&'d Service>) {
    let lives = declaration.services().map(|service| (service, service.terms.lifetime.as_duration()));
    outage::of_all(lives, known.identity_grace)
}

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    declaration: Option<Digest>,
    names: Vec<Name<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outage: Option<Outage<'a>>,
    ca: &'a [CaHealth],
    messages: Vec<Message<'a>>,
    /// Messages that were counted and left out.
    #[serde(skip_serializing_if = "is_none_at_all")]
    omitted: usize,
}

const fn is_none_at_all(count: &usize) -> bool {
    *count == 0
}

/// The whole result as one JSON object with a line break; `declaration` is absent when it has mistakes.
///
/// # Errors
/// None that can happen with these types; `serde_json` cannot promise it.
pub fn json(declaration: Option<&Declaration>, known: &Known, messages: &Diagnostics) -> serde_json::Result<String> {
    let hosts = known.hosts.as_deref();
    let services = declaration.into_iter().flat_map(Declaration::services);
    let names = services.map(|service| Name {
        name: &service.name,
        place: &service.place,
        aliases: &service.terms.aliases,
        ip: &service.terms.ip,
        usages: service.terms.usages,
        lifetime_seconds: service.terms.lifetime.as_duration().as_secs(),
        key: service.terms.key,
        ca_made_key: service.terms.ca_made_key,
        roles: service.roles.iter().map(|listed| &listed.name).collect(),
        hosts: declaration.zip(hosts).map(|(declaration, hosts)| policy::hosts_of(declaration, service, hosts)),
    });
    let report = Report {
        ok: declaration.is_some(),
        declaration: declaration.map(Declaration::digest),
        names: names.collect(),
        outage: declaration.map(|declaration| {
            let (length, service) = outage(declaration, known);
            Outage { seconds: length.as_secs(), name: service.map(|service| &service.name) }
        }),
        ca: &known.ca,
        messages: messages.iter().map(Message::from).collect(),
        omitted: messages.omitted(),
    };
    Ok(serde_json::to_string_pretty(&report)? + "\n")
}

/// Who gets what, as a table with one line per name, and the counts below it.
#[must_use]
pub fn table(declaration: &Declaration, known: &Known, messages: &Diagnostics, now: Timestamp) -> String {
    let hosts = known.hosts.as_deref();
    let mut rows = vec![["NAME", "LIFETIME", "ROLES", "HOSTS"].map(str::to_owned)];
    for service in declaration.services() {
        rows.push(row(declaration, service, hosts));
    }
    let columns = if hosts.is_some() { 4 } else { 3 };
    let mut out = align(&rows, columns);
    out.push('\n');
    if !known.ca.is_empty() {
        out.push_str(&ends(&known.ca, now));
        out.push('\n');
    }
    let (length, service) = outage(declaration, known);
    let first = service.map_or_else(
        || "the hosts' identities".to_owned(),
        |service| format!("{}, {}", service.name, service.terms.lifetime),
    );
    let length = outage::in_words(length);
    out.push_str(&format!("The CA may be gone for {length} before a certificate ends ({first}).\n"));
    out.push_str(&summary(declaration, known, messages));
    out
}

/// When each CA certificate ends.
fn ends(ca: &[CaHealth], now: Timestamp) -> String {
    let header = ["CA", "UNTIL", ""].map(str::to_owned);
    let rows = ca.iter().map(|ca| {
        let warning = ca.warning.as_ref().map(|warning| format!("warning: {warning}"));
        [ca.ca.clone(), ca.not_after.with_distance(now), warning.unwrap_or_default()]
    });
    align(&std::iter::once(header).chain(rows).collect::<Vec<_>>(), 3)
}

fn row(declaration: &Declaration, service: &Service, hosts: Option<&[HostName]>) -> [String; 4] {
    let roles: Vec<_> = service.roles.iter().map(|listed| listed.name.as_str()).collect();
    let hosts = policy::hosts_of(declaration, service, hosts.unwrap_or_default());
    let mut shown: Vec<_> = hosts.iter().take(MAX_HOSTS).map(|host| host.as_str().to_owned()).collect();
    if hosts.len() > MAX_HOSTS {
        shown.push(format!("{} more", hosts.len() - MAX_HOSTS));
    }
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    [service.name.to_string(), service.terms.lifetime.to_string(), or_dash(roles.join(", ")), or_dash(shown.join(", "))]
}

fn summary(declaration: &Declaration, known: &Known, messages: &Diagnostics) -> String {
    let hosts = match (&known.hosts, &known.unasked) {
        (Some(hosts), _) => counted(hosts.len(), "host"),
        (None, Some(why)) => format!("no hosts known (the daemon was not asked: {why})"),
        (None, None) => "no hosts known (name them with --hosts FILE)".to_owned(),
    };
    let (names, roles) = (declaration.services().len(), declaration.roles().len());
    let warnings = counted(messages.count(Severity::Warning), "warning");
    format!("{}, {}, {hosts}; no mistakes, {warnings}\n", counted(names, "name"), counted(roles, "role"))
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
