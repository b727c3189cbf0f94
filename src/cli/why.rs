//! What `psfca why` prints: the verdict, then the lines that decided it.

use serde::Serialize;

use crate::declaration::{Declaration, Role, Service};
use crate::grant::{Grant, Place};
use crate::name::{DnsName, HostName, RoleName};
use crate::policy::Verdict;
use crate::profile::{KeyKind, Usages};

/// A role that the name lists, and whether the host has it.
#[derive(Serialize)]
struct Step<'a> {
    role: &'a RoleName,
    listed: &'a Place,
    defined: Option<&'a Place>,
    pattern: Option<&'a str>,
    matches: bool,
}

#[derive(Serialize)]
struct HostRole<'a> {
    role: &'a RoleName,
    defined: &'a Place,
    pattern: &'a str,
}

#[derive(Serialize)]
struct Terms<'a> {
    dns: &'a [DnsName],
    ip: &'a [std::net::IpAddr],
    usages: Usages,
    lifetime_seconds: u64,
    key: KeyKind,
    ca_made_key: bool,
}

/// A verdict and everything that led to it.
#[derive(Serialize)]
pub struct Explanation<'a> {
    host: &'a HostName,
    name: &'a DnsName,
    granted: bool,
    /// The denial in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    terms: Option<Terms<'a>>,
    declared: Option<&'a Place>,
    listed_roles: Vec<Step<'a>>,
    host_roles: Vec<HostRole<'a>>,
    #[serde(skip)]
    grant: Option<&'a Grant>,
}

impl<'a> Explanation<'a> {
    /// Gathers what `verdict` about `host` and `name` rests on.
    #[must_use]
    pub fn new(declaration: &'a Declaration, host: &'a HostName, name: &'a DnsName, verdict: &'a Verdict) -> Self {
        let service = declaration.service(name);
        let (grant, reason) = match verdict {
            Verdict::Granted(grant) => (Some(grant), None),
            Verdict::Denied(denial) => (None, Some(denial.in_full())),
        };
        let host_roles = declaration.roles_of(host);
        Self {
            host,
            name,
            granted: grant.is_some(),
            reason,
            terms: grant.map(terms),
            declared: service.map(|service| &service.place),
            listed_roles: service.map(|service| steps(declaration, service, host)).unwrap_or_default(),
            host_roles: host_roles.into_iter().map(host_role).collect(),
            grant,
        }
    }

    /// One JSON object with a line break.
    ///
    /// # Errors
    /// None that can happen with these types; `serde_json` cannot promise it.
    pub fn json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = match (&self.reason, self.grant) {
            (None, Some(grant)) => format!("yes: {} may have {}: {}\n", self.host, self.name, describe(grant)),
            (reason, _) => format!("no: {}\n", reason.as_deref().unwrap_or("denied")),
        };
        if let Some(place) = self.declared {
            out.push_str(&format!("\n  {place}: {} is declared\n", self.name));
        }
        for step in &self.listed_roles {
            out.push_str(&format!("  {}: it lists the role {}\n", step.listed, step.role));
            match (step.defined, step.pattern) {
                (Some(place), Some(pattern)) => {
                    let verdict = if step.matches { "matches" } else { "does not match" };
                    out.push_str(&format!("  {place}: {} is {pattern:?}, which {verdict} {}\n", step.role, self.host));
                }
                _ => out.push_str(&format!("  (no file defines {}, so no host has it)\n", step.role)),
            }
        }
        if !self.granted {
            self.write_host_roles(&mut out);
        }
        out
    }

    fn write_host_roles(&self, out: &mut String) {
        if self.host_roles.is_empty() {
            out.push_str(&format!("\n{} has no role: no pattern matches it\n", self.host));
            return;
        }
        out.push_str(&format!("\n{} has these roles:\n", self.host));
        for role in &self.host_roles {
            out.push_str(&format!("  {}: {} is {:?}\n", role.defined, role.role, role.pattern));
        }
    }
}

fn steps<'a>(declaration: &'a Declaration, service: &'a Service, host: &HostName) -> Vec<Step<'a>> {
    let steps = service.roles.iter().map(|listed| {
        let role = declaration.role(listed);
        Step {
            role: &listed.name,
            listed: &listed.place,
            defined: role.map(|role| &role.place),
            pattern: role.map(|role| role.pattern.as_str()),
            matches: role.is_some_and(|role| role.pattern.matches(host)),
        }
    });
    steps.collect()
}

fn host_role(role: &Role) -> HostRole<'_> {
    HostRole { role: &role.name, defined: &role.place, pattern: role.pattern.as_str() }
}

fn terms(grant: &Grant) -> Terms<'_> {
    Terms {
        dns: &grant.alt_names().dns,
        ip: &grant.alt_names().ip,
        usages: grant.usages(),
        lifetime_seconds: grant.lifetime().as_duration().as_secs(),
        key: grant.key(),
        ca_made_key: grant.ca_made_key(),
    }
}

fn describe(grant: &Grant) -> String {
    let alt_names = grant.alt_names();
    let more = alt_names.dns.iter().skip(1).map(ToString::to_string);
    let more: Vec<_> = more.chain(alt_names.ip.iter().map(ToString::to_string)).collect();
    let also = if more.is_empty() { String::new() } else { format!(", also for {}", more.join(", ")) };
    let maker = if grant.ca_made_key() { ", the CA may make the key" } else { "" };
    format!("{}, {}, {}{also}{maker}", grant.lifetime(), grant.usages(), grant.key())
}
