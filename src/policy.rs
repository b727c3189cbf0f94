//! The verdict: may this host have this name? Deny is the default (rule R2).

use std::fmt;
use std::sync::Arc;

use crate::declaration::{Declaration, HostRoles, ListedRole, Role, Service};
use crate::grant::{Grant, Rule};
use crate::name::{DnsName, HostName};

/// Most roles of a host that an answer names.
const MAX_ROLES_TOLD: usize = 12;

/// What the declaration says about one host and one name.
#[must_use]
#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a verdict is taken apart at once; boxing would cost each grant an allocation"
)]
pub enum Verdict {
    /// The host may have it, on these terms.
    Granted(Grant),
    /// The host may not have it.
    Denied(Denial),
}

/// Why a host may not have a name; its text is for people. Made cheaply: the reasons are worked out
/// when they are asked for.
#[derive(Clone, Debug)]
pub struct Denial {
    host: HostName,
    name: DnsName,
    declaration: Declaration,
}

/// How much may be looked at to explain a denial, in comparisons of characters, about. A denial is for
/// whoever asks, as often as they ask, so an answer must not cost more than a certificate.
#[derive(Debug)]
pub struct Effort {
    most: usize,
    spent: usize,
}

impl Effort {
    /// What an answer of the daemon is worth: enough for some hundred names or some thousand roles.
    #[must_use]
    pub const fn of_an_answer() -> Self {
        Self { most: 250_000, spent: 0 }
    }

    /// For a person who asked `psfca why`.
    #[must_use]
    pub const fn without_limit() -> Self {
        Self { most: usize::MAX, spent: 0 }
    }

    /// What was spent.
    #[must_use]
    pub const fn spent(&self) -> usize {
        self.spent
    }

    /// Whether there is so much left, which then is spent.
    const fn spend(&mut self, effort: usize) -> bool {
        let enough = effort <= self.most - self.spent;
        if enough {
            self.spent += effort;
        }
        enough
    }
}

/// The reasons for a denial.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DenialReason<'d> {
    /// The declaration has no such name.
    NoSuchName {
        /// A declared name that was perhaps meant; none too where the effort did not do to look at all names.
        closest: Option<&'d str>,
    },
    /// The name stands on the certificates of another, and is none that could be asked for.
    Alias {
        /// What is declared for the other; the first of them where there are several.
        of: &'d Service,
    },
    /// The name is declared, and none of the roles that it lists matches the host.
    NoRole {
        /// What is declared for the name.
        service: &'d Service,
        /// The roles that the host does have.
        host_roles: Vec<&'d Role>,
        /// Whether every role was asked; the rest is not known then.
        complete: bool,
    },
}

/// Judges by the declaration alone whether `host` may have a certificate for `name`. The caller has
/// made sure that `host` is who it says it is.
pub fn judge(declaration: &Declaration, host: &HostName, name: &DnsName) -> Verdict {
    match declaration.service(name).and_then(|service| granted_alone(declaration, host, service)) {
        Some(grant) => Verdict::Granted(grant),
        None => Verdict::Denied(Denial { host: host.clone(), name: name.clone(), declaration: declaration.clone() }),
    }
}

/// Every grant that `host` can have, in the order of the names. Each role is asked at most once, however many names
/// list it.
#[must_use]
pub fn entitlements(declaration: &Declaration, host: &HostName) -> Vec<Grant> {
    let mut roles = HostRoles::new(declaration, host);
    declaration
        .services()
        .filter_map(|service| granted(declaration, host, service, |listed| roles.role(listed)))
        .collect()
}

/// Those of `hosts` that may have what `service` declares.
#[must_use]
pub fn hosts_of<'h>(declaration: &Declaration, service: &Service, hosts: &'h [HostName]) -> Vec<&'h HostName> {
    hosts.iter().filter(|host| granted_alone(declaration, host, service).is_some()).collect()
}

fn granted_alone(declaration: &Declaration, host: &HostName, service: &Service) -> Option<Grant> {
    let has = |listed: &_| declaration.role(listed).filter(|role| role.pattern.matches(host));
    granted(declaration, host, service, has)
}

/// The first listed role decides that the host has, by what `has` says.
fn granted<'d>(
    declaration: &Declaration,
    host: &HostName,
    service: &Service,
    mut has: impl FnMut(&ListedRole) -> Option<&'d Role>,
) -> Option<Grant> {
    service.roles.iter().find_map(|listed| {
        let role = has(listed)?;
        let rule = Rule::Declaration {
            declaration: declaration.digest(),
            listed: listed.place.clone(),
            role: role.name.clone(),
            defined: role.place.clone(),
            pattern: Arc::clone(&role.text),
        };
        Some(Grant::service(host, &service.name, &service.terms, rule))
    })
}

impl Denial {
    /// The host that asked.
    #[must_use]
    pub const fn host(&self) -> &HostName {
        &self.host
    }

    /// The name it asked for.
    #[must_use]
    pub const fn name(&self) -> &DnsName {
        &self.name
    }

    /// The declaration that was judged by.
    #[must_use]
    pub const fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    /// Why, as far as `effort` goes.
    #[must_use]
    pub fn reason(&self, effort: &mut Effort) -> DenialReason<'_> {
        let Some(service) = self.declaration.service(&self.name) else { return self.undeclared(effort) };
        let length = self.host.as_str().len();
        let (mut host_roles, mut complete) = (Vec::new(), true);
        for role in self.declaration.roles() {
            if !effort.spend(role.pattern.size().saturating_mul(length)) {
                complete = false;
                break;
            }
            if role.pattern.matches(&self.host) {
                host_roles.push(role);
            }
        }
        DenialReason::NoRole { service, host_roles, complete }
    }

    fn undeclared(&self, effort: &mut Effort) -> DenialReason<'_> {
        let word = self.name.as_str();
        for service in self.declaration.services() {
            let mut characters = service.terms.aliases.iter().map(|alias| alias.as_str().len()).sum::<usize>();
            characters += service.name.as_str().len() * word.len();
            if !effort.spend(characters) {
                return DenialReason::NoSuchName { closest: None };
            }
            if service.terms.aliases.contains(&self.name) {
                return DenialReason::Alias { of: service };
            }
        }
        DenialReason::NoSuchName { closest: similar(word, self.declaration.services().map(|service| &service.name)) }
    }

    /// The text for a person who can wait: what the text for an answer leaves out is in it.
    #[must_use]
    pub fn in_full(&self) -> String {
        self.describe(&mut Effort::without_limit(), usize::MAX)
    }

    fn describe(&self, effort: &mut Effort, most_roles: usize) -> String {
        let reason = match self.reason(effort) {
            DenialReason::NoSuchName { closest: None } => "no such name is declared".to_owned(),
            DenialReason::NoSuchName { closest: Some(near) } => {
                format!("no such name is declared; did you mean {near}?")
            }
            DenialReason::Alias { of } => format!("{} is an alias of {}; ask for that name", self.name, of.name),
            DenialReason::NoRole { service, host_roles, complete } => {
                let names: Vec<_> = host_roles.iter().take(most_roles).map(|role| role.name.as_str()).collect();
                let more = match host_roles.len() - names.len() {
                    0 if complete => String::new(),
                    0 => " and perhaps others".to_owned(),
                    more => format!(" and {more} more"),
                };
                let roles = match (names.is_empty(), complete) {
                    (true, true) => "it has no role".to_owned(),
                    (true, false) => "it has none of the roles that the name lists".to_owned(),
                    (false, _) => format!("its roles are {}{more}", names.join(", ")),
                };
                roles + &self.listed(service)
            }
        };
        format!("{} may not have {}: {reason}", self.host, self.name)
    }

    fn listed(&self, service: &Service) -> String {
        let listed = service.roles.iter().map(|listed| match self.declaration.role(listed) {
            Some(_) => listed.name.to_string(),
            None => format!("{} (which is defined nowhere)", listed.name),
        });
        let listed: Vec<_> = listed.collect();
        let place = service.roles.first().map_or(&service.place, |first| &first.place);
        let listed = if listed.is_empty() { "no roles".to_owned() } else { listed.join(", ") };
        format!("; {} lists {listed} ({place})", service.name)
    }
}

/// The declared name that was probably meant. All of them end alike, so the first label has to tell: with no more
/// than a third of it mistyped.
fn similar<'d>(word: &str, names: impl Iterator<Item = &'d DnsName>) -> Option<&'d str> {
    let parts = |name| str::split_once(name, '.').unwrap_or((name, ""));
    let (label, rest) = parts(word);
    let scored = names.map(|name| {
        let (its_label, its_rest) = parts(name.as_str());
        ((strsim::osa_distance(label, its_label), its_rest != rest), name.as_str())
    });
    let near = scored.filter(|((distance, _), _)| *distance <= label.len() / 3);
    near.min_by_key(|(score, _)| *score).map(|(_, name)| name)
}

impl fmt::Display for Denial {
    /// For an answer: `lb0.iad1.psf.io may not have postgresql.psf.io: its roles are loadbalancer;
    /// postgresql.psf.io lists postgresql (ca-config/tls.yaml:31)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe(&mut Effort::of_an_answer(), MAX_ROLES_TOLD))
    }
}

#[cfg(test)]
mod tests;
