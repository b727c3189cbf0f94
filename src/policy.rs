//! The verdict: may this host have this name? Deny is the default (rule R2).

use std::fmt;
use std::sync::Arc;

use crate::declaration::{Declaration, Role, Service};
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
        assert_eq!(
            verdict("pg0.iad1.psf.io", "db.psf.io").unwrap_err(),
            "pg0.iad1.psf.io may not have db.psf.io: db.psf.io is an alias of postgresql.psf.io; ask for that name"
        );
    }

    #[test]
    fn a_name_is_suggested_only_where_it_was_probably_meant() {
        for (word, meant) in [
            ("postgres.psf.io", Some("postgresql.psf.io")),
            ("postgersql.psf.io", Some("postgresql.psf.io")),
            ("postgresql", Some("postgresql.psf.io")),
            ("postgresql.iad1.psf.io", Some("postgresql.psf.io")),
            ("lb.psf.i", Some("lb.psf.io")),
            ("nosuch.psf.io", None),
            ("consul.psf.io", None),
            ("lc.psf.io", None),
            ("x.psf.io", None),
        ] {
            let said = verdict("pg0.iad1.psf.io", word).unwrap_err();
            let expected = meant.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
            assert_eq!(said, format!("pg0.iad1.psf.io may not have {word}: no such name is declared{expected}"));
        }
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

    /// A denial by a declaration with ten thousand names and roles.
    fn denied(name: &str) -> Denial {
        let names = (0..10_000).map(|n| format!("    name-{n}.psf.io: {{roles: [r{n}]}}\n")).collect::<String>();
        let roles = (0..10_000).map(|n| format!("  r{n}: \"host-*.iad{n}.psf.io or *\"\n")).collect::<String>();
        let text = format!("tls:\n  gen_certs:\n{names}    closed.psf.io: {{}}\nroles:\n{roles}");
        let file = SourceFile::new("t.yaml", text);
        let declaration = Declaration::parse(&[file], &Rules::default()).unwrap().0;
        match judge(&declaration, &HostName::parse("host-1.psf.io").unwrap(), &DnsName::parse(name).unwrap()) {
            Verdict::Denied(denial) => denial,
            Verdict::Granted(_) => panic!("{name} is granted"),
        }
    }

    #[test]
    fn an_answer_that_denies_costs_no_more_for_a_large_declaration() {
        let long = format!("{}.io", vec!["abcdefghij".repeat(6); 4].join(".").split_at(240).0);
        for name in [long.as_str(), "name-77.psf.i", "closed.psf.io"] {
            let denial = denied(name);
            let (mut answer, mut full) = (Effort::of_an_answer(), Effort::without_limit());
            let _ = (denial.reason(&mut answer), denial.reason(&mut full));
            assert!(answer.spent() <= 250_000, "{name}: {}", answer.spent());
            assert!(full.spent() > 5 * answer.spent(), "{name}: {}", full.spent());
            assert!(denial.to_string().len() < 1_000, "{denial}");
        }
    }

    #[test]
    fn what_an_answer_leaves_out_a_person_is_told_all_the_same() {
        let denial = denied("name-77.psf.i");
        assert!(denial.to_string().ends_with("no such name is declared"), "{denial}");
        assert!(denial.in_full().ends_with("did you mean name-77.psf.io?"), "{}", denial.in_full());
        let denial = denied("closed.psf.io");
        assert!(denial.to_string().contains("r10, r11 and "), "{denial}");
        assert!(denial.in_full().contains("r9998, r9999; closed.psf.io lists no roles"));
    }
}
