//! The verdict: may this host have this name? Deny is the default (rule R2).

use std::fmt;
use std::sync::Arc;

use crate::declaration::{Declaration, Role, Service};
use crate::diagnostic::closest;
use crate::grant::{Grant, Rule};
use crate::name::{DnsName, HostName};

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

/// The two reasons for a denial.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DenialReason<'d> {
    /// The declaration has no such name.
    NoSuchName {
        /// A declared name that was perhaps meant.
        closest: Option<&'d str>,
    },
    /// The name is declared, and none of the roles that it lists matches the host.
    NoRole {
        /// What is declared for the name.
        service: &'d Service,
        /// The roles that the host does have.
        host_roles: Vec<&'d Role>,
    },
}

/// Judges by the declaration alone whether `host` may have a certificate for `name`. The caller has
/// made sure that `host` is who it says it is.
pub fn judge(declaration: &Declaration, host: &HostName, name: &DnsName) -> Verdict {
    match declaration.service(name).and_then(|service| granted(declaration, host, service)) {
        Some(grant) => Verdict::Granted(grant),
        None => Verdict::Denied(Denial { host: host.clone(), name: name.clone(), declaration: declaration.clone() }),
    }
}

/// Every grant that `host` can have, in the order of the names.
#[must_use]
pub fn entitlements(declaration: &Declaration, host: &HostName) -> Vec<Grant> {
    declaration.services().filter_map(|service| granted(declaration, host, service)).collect()
}

/// Those of `hosts` that may have what `service` declares.
#[must_use]
pub fn hosts_of<'h>(declaration: &Declaration, service: &Service, hosts: &'h [HostName]) -> Vec<&'h HostName> {
    hosts.iter().filter(|host| granted(declaration, host, service).is_some()).collect()
}

/// The first listed role that matches decides.
fn granted(declaration: &Declaration, host: &HostName, service: &Service) -> Option<Grant> {
    service.roles.iter().find_map(|listed| {
        let role = declaration.role(listed).filter(|role| role.pattern.matches(host))?;
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

    /// Why; asks the pattern of every role.
    #[must_use]
    pub fn reason(&self) -> DenialReason<'_> {
        match self.declaration.service(&self.name) {
            Some(service) => DenialReason::NoRole { service, host_roles: self.declaration.roles_of(&self.host) },
            None => {
                let names = self.declaration.services().map(|service| service.name.as_str());
                DenialReason::NoSuchName { closest: closest(self.name.as_str(), names) }
            }
        }
    }
}

impl fmt::Display for Denial {
    /// `lb0.iad1.psf.io may not have postgresql.psf.io: its roles are loadbalancer; postgresql.psf.io
    /// lists postgresql (ca-config/tls.yaml:31)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} may not have {}: ", self.host, self.name)?;
        match self.reason() {
            DenialReason::NoSuchName { closest: None } => f.write_str("no such name is declared"),
            DenialReason::NoSuchName { closest: Some(near) } => {
                write!(f, "no such name is declared; did you mean {near}?")
            }
            DenialReason::NoRole { service, host_roles } => {
                let names: Vec<_> = host_roles.iter().map(|role| role.name.as_str()).collect();
                if names.is_empty() {
                    f.write_str("it has no role")?;
                } else {
                    write!(f, "its roles are {}", names.join(", "))?;
                }
                self.write_listed(f, service)
            }
        }
    }
}

impl Denial {
    fn write_listed(&self, f: &mut fmt::Formatter<'_>, service: &Service) -> fmt::Result {
        let listed = service.roles.iter().map(|listed| match self.declaration.role(listed) {
            Some(_) => listed.name.to_string(),
            None => format!("{} (which is defined nowhere)", listed.name),
        });
        let listed: Vec<_> = listed.collect();
        let place = service.roles.first().map_or(&service.place, |first| &first.place);
        let listed = if listed.is_empty() { "no roles".to_owned() } else { listed.join(", ") };
        write!(f, "; {} lists {listed} ({place})", service.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declaration::Rules;
    use crate::diagnostic::SourceFile;
    use crate::profile::Usages;

    const TEXT: &str = "\
tls:
  gen_certs:
    lb.psf.io: {roles: [loadbalancer]}
    postgresql.psf.io:
      days: 2
      aliases: [db.psf.io]
      usages: [server, client]
      roles:
        - gone
        - postgresql
    nobody.psf.io: {}
roles:
  loadbalancer: lb*.iad1.psf.io
  postgresql: pg*.iad1.psf.io
  primary: pg0.iad1.psf.io
";

    fn declaration() -> Declaration {
        let file = SourceFile::new("ca-config/tls.yaml", TEXT.into());
        Declaration::parse(&[file], &Rules::default()).unwrap().0
    }

    fn verdict(host: &str, name: &str) -> Result<Grant, String> {
        match judge(&declaration(), &HostName::parse(host).unwrap(), &DnsName::parse(name).unwrap()) {
            Verdict::Granted(grant) => Ok(grant),
            Verdict::Denied(denial) => Err(denial.to_string()),
        }
    }

    #[test]
    fn a_grant_carries_the_terms_and_the_lines_that_gave_it() {
        let grant = verdict("pg0.iad1.psf.io", "postgresql.psf.io").unwrap();
        assert_eq!(grant.lifetime().to_string(), "2 days");
        assert_eq!(grant.usages(), Usages::Both);
        let dns: Vec<_> = grant.alt_names().dns.iter().map(DnsName::as_str).collect();
        assert_eq!(dns, ["postgresql.psf.io", "db.psf.io"]);
        let Rule::Declaration { listed, role, defined, pattern, declaration: digest } = grant.rule() else {
            panic!("by the declaration")
        };
        assert_eq!((listed.line, role.as_str(), defined.line), (10, "postgresql", 14));
        assert_eq!((&**pattern, *digest), ("pg*.iad1.psf.io", declaration().digest()));
    }

    #[test]
    fn deny_is_the_default_and_says_why() {
        assert_eq!(
            verdict("lb0.iad1.psf.io", "postgresql.psf.io").unwrap_err(),
            "lb0.iad1.psf.io may not have postgresql.psf.io: its roles are loadbalancer; postgresql.psf.io \
             lists gone (which is defined nowhere), postgresql (ca-config/tls.yaml:9)"
        );
        assert_eq!(
            verdict("pg0.iad1.psf.io", "lb.psf.io").unwrap_err(),
            "pg0.iad1.psf.io may not have lb.psf.io: its roles are postgresql, primary; lb.psf.io lists \
             loadbalancer (ca-config/tls.yaml:3)"
        );
        assert_eq!(
            verdict("x.io", "nobody.psf.io").unwrap_err(),
            "x.io may not have nobody.psf.io: it has no role; nobody.psf.io lists no roles (ca-config/tls.yaml:11)"
        );
        assert_eq!(
            verdict("pg0.iad1.psf.io", "postgres.psf.io").unwrap_err(),
            "pg0.iad1.psf.io may not have postgres.psf.io: no such name is declared; did you mean postgresql.psf.io?"
        );
        // An alias is no name of its own.
        assert!(verdict("pg0.iad1.psf.io", "db.psf.io").is_err());
    }

    #[test]
    fn entitlements_are_exactly_the_names_that_would_be_granted() {
        let declaration = declaration();
        for host in ["pg0.iad1.psf.io", "lb0.iad1.psf.io", "x.io"].map(|host| HostName::parse(host).unwrap()) {
            let names: Vec<_> = entitlements(&declaration, &host).iter().map(|grant| grant.name().to_owned()).collect();
            let judged = declaration.services().map(|service| &service.name);
            let judged = judged.filter(|name| matches!(judge(&declaration, &host, name), Verdict::Granted(_)));
            assert_eq!(names, judged.map(ToString::to_string).collect::<Vec<_>>());
        }
    }
}
