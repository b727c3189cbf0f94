//! What operators declare: names with their terms and roles, roles with their host patterns.
//!
//! Any number of files is read as one settled set. A [`Declaration`] exists only without mistakes,
//! and it never changes: a reload makes another one.

mod cross;
mod host_roles;
mod names;
mod roles;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::CaConfig;
use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile};
use crate::digest::Digest;
use crate::grant::{Place, ServiceTerms};
use crate::name::{DnsName, HostName, RoleName};
use crate::pattern::{Pattern, ProgramBudget};
use crate::profile::Lifetime;
use crate::token::ServerName;
use crate::yaml::reader::Reader;
use crate::yaml::{self, Node};

pub use host_roles::HostRoles;
pub use names::{LONGEST_NAME, canonical};

/// What `ca.yaml` demands of every declaration.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The longest lifetime a name may have.
    pub max_lifetime: Lifetime,
    /// The shortest outage of the CA that a name has to stand; none: any.
    pub min_outage: Option<Duration>,
    /// The CA's own names, which no declaration may give away.
    pub server_names: Vec<ServerName>,
}

impl Rules {
    /// What this `ca.yaml` demands.
    #[must_use]
    pub fn of(config: &CaConfig) -> Self {
        let CaConfig { max_lifetime, min_outage, server_names, .. } = config;
        Self { max_lifetime: *max_lifetime, min_outage: *min_outage, server_names: server_names.clone() }
    }
}

impl Default for Rules {
    /// Ninety days, any outage, and no names of the CA: what `psfca check FILE` assumes without a `ca.yaml`.
    fn default() -> Self {
        let max_lifetime = Lifetime::days(std::num::NonZeroU32::MIN.saturating_add(89));
        Self { max_lifetime, min_outage: None, server_names: Vec::new() }
    }
}

/// A role: which hosts have it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Role {
    /// What it is called.
    pub name: RoleName,
    /// Which hosts have it.
    pub pattern: Pattern,
    /// The pattern as written, for the record of each grant.
    pub text: Arc<str>,
    /// Where it is defined.
    pub place: Place,
}

/// A role as a name lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedRole {
    /// What it is called.
    pub name: RoleName,
    /// Where it is listed.
    pub place: Place,
    /// Its index among the roles; none when nothing defines it, and then it matches no host.
    role: Option<usize>,
}

/// A declared name: who may have a certificate for it, and on which terms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// The name.
    pub name: DnsName,
    /// Where it is declared.
    pub place: Place,
    /// What its certificates look like.
    pub terms: ServiceTerms,
    /// The roles of which a host needs one, in the order in which they are listed.
    pub roles: Vec<ListedRole>,
}

/// The key of the cipher list for every name that has none of its own.
const DEFAULT_CIPHERS: &str = "default";

/// A whole declaration without mistakes. Cloning it is cheap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Declaration(Arc<Inner>);

#[derive(PartialEq, Eq, Debug)]
struct Inner {
    services: BTreeMap<DnsName, Service>,
    roles: Vec<Role>,
    ciphers: BTreeMap<String, String>,
    digest: Digest,
}

impl Declaration {
    /// Reads `files` as one declaration. The second value of a good result holds warnings and notes.
    ///
    /// # Errors
    /// Every mistake in every file, with its place, and the warnings and notes besides.
    pub fn parse(files: &[SourceFile], rules: &Rules) -> Result<(Self, Diagnostics), Diagnostics> {
        let mut draft = Draft::default();
        let mut out = Diagnostics::new();
        // What is missing in one file may stand in another that could not be read.
        let mut complete = true;
        for file in files {
            match yaml::parse(file, &mut out) {
                Some(root) => read_file(&mut Reader { file, out: &mut out }, &root, rules, &mut draft),
                None => complete = false,
            }
        }
        cross::check(&draft, complete, &mut out);
        if complete && !out.has_errors() && draft.services.is_empty() {
            out.push(nothing_declared(files));
        }
        let declaration = Self(Arc::new(draft.finish(digest(files.iter().map(|file| (file.path(), file.text()))))));
        out.finish(Some(declaration))
    }

    /// Every declared name, in alphabetical order.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &Service> {
        self.0.services.values()
    }

    /// What is declared for `name`.
    #[must_use]
    pub fn service(&self, name: &DnsName) -> Option<&Service> {
        self.0.services.get(name)
    }

    /// Every role, in the order in which they are defined.
    #[must_use]
    pub fn roles(&self) -> &[Role] {
        &self.0.roles
    }

    /// The definition of a role that a name of this declaration lists.
    #[must_use]
    pub fn role(&self, listed: &ListedRole) -> Option<&Role> {
        self.0.roles.get(listed.role?)
    }

    /// Every role that `host` has. Asks every pattern: for explanations, not for verdicts.
    #[must_use]
    pub fn roles_of(&self, host: &HostName) -> Vec<&Role> {
        self.roles().iter().filter(|role| role.pattern.matches(host)).collect()
    }

    /// The cipher list for `name`: its own in `tls.ciphers`, or else `default`. It is for the
    /// configuration of services, and has no meaning to the CA.
    #[must_use]
    pub fn ciphers(&self, name: Option<&DnsName>) -> Option<&str> {
        let own = name.and_then(|name| self.0.ciphers.get(name.as_str()));
        own.or_else(|| self.0.ciphers.get(DEFAULT_CIPHERS)).map(String::as_str)
    }

    /// Whether `tls.ciphers` has a line for `name` itself.
    #[must_use]
    pub fn has_own_ciphers(&self, name: &DnsName) -> bool {
        self.0.ciphers.contains_key(name.as_str())
    }

    /// SHA-256 over the files' names and texts, in the order in which they were given.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.digest
    }
}

/// What [`Declaration::digest`] is for these files, each with its path and text. Lengths go before
/// both, so that no two sets of files give the same bytes.
pub fn digest<'f>(files: impl ExactSizeIterator<Item = (&'f str, &'f str)>) -> Digest {
    let length = |n: usize| (n as u64).to_be_bytes();
    let mut bytes = b"psfca declaration 1\0".to_vec();
    bytes.extend(length(files.len()));
    for part in files.flat_map(|(path, text)| [path, text]) {
        bytes.extend(length(part.len()));
        bytes.extend(part.as_bytes());
    }
    Digest::of(&bytes)
}

fn nothing_declared(files: &[SourceFile]) -> Diagnostic {
    let nowhere = SourceFile::new("(no file)", String::new());
    let file = files.first().unwrap_or(&nowhere);
    Diagnostic::error(file, 0..0, "no name is declared, so no host could get anything")
        .help("declare names under tls.gen_certs, in this file or in another of the same declaration")
}

/// What has been read so far, with the places that only messages need.
#[derive(Default)]
struct Draft {
    services: Vec<DraftService>,
    roles: Vec<DraftRole>,
    ciphers: BTreeMap<String, String>,
    programs: ProgramBudget,
}

struct DraftService {
    file: SourceFile,
    /// The name as written, which may differ from the canonical one.
    written: String,
    span: std::ops::Range<usize>,
    name: DnsName,
    terms: ServiceTerms,
    /// The aliases again, with their places.
    aliases: Vec<(DnsName, std::ops::Range<usize>)>,
    roles: Vec<(RoleName, std::ops::Range<usize>)>,
}

struct DraftRole {
    file: SourceFile,
    span: std::ops::Range<usize>,
    name: RoleName,
    /// Missing when the pattern has a mistake, which has been reported; the role is known all the same.
    pattern: Option<Pattern>,
}

impl Draft {
    /// Meant for a draft without errors; with errors the result is thrown away.
    fn finish(self, digest: Digest) -> Inner {
        let mut roles = Vec::with_capacity(self.roles.len());
        let mut index = std::collections::HashMap::with_capacity(self.roles.len());
        for DraftRole { file, span, name, pattern } in self.roles {
            if let Some(pattern) = pattern {
                index.insert(name.clone(), roles.len());
                roles.push(Role { name, text: pattern.as_str().into(), pattern, place: file.place(span.start) });
            }
        }
        let mut services = BTreeMap::new();
        for draft in self.services {
            let listed = draft.roles.into_iter().map(|(name, span)| ListedRole {
                role: index.get(&name).copied(),
                place: draft.file.place(span.start),
                name,
            });
            let service = Service {
                name: draft.name.clone(),
                place: draft.file.place(draft.span.start),
                terms: draft.terms,
                roles: listed.collect(),
            };
            services.insert(draft.name, service);
        }
        Inner { services, roles, ciphers: self.ciphers, digest }
    }
}

fn read_file(reader: &mut Reader<'_>, root: &Node, rules: &Rules, draft: &mut Draft) {
    let top = reader.fields(root, "a declaration file", &["tls", "roles"]);
    if let Some(node) = top.get("tls") {
        let tls = reader.fields(node, "tls", &["ciphers", "gen_certs", "acme_cert_configs"]);
        if let Some(node) = tls.get("ciphers") {
            read_ciphers(reader, node, draft);
        }
        if let Some(node) = tls.get("gen_certs") {
            for entry in reader.entries(node, "tls.gen_certs") {
                draft.services.extend(names::read(reader, entry, rules));
            }
        }
        if let Some(span) = tls.key_span("acme_cert_configs") {
            let help = "those certificates come from a public CA by ACME; nothing here issues them";
            let note = Diagnostic::note(reader.file, span, "tls.acme_cert_configs is ignored");
            reader.out.push(note.help(help));
        }
    }
    if let Some(node) = top.get("roles") {
        for entry in reader.entries(node, "roles") {
            draft.roles.extend(roles::read(reader, entry, &mut draft.programs));
        }
    }
}

fn read_ciphers(reader: &mut Reader<'_>, node: &Node, draft: &mut Draft) {
    for entry in reader.entries(node, "tls.ciphers") {
        let Some(text) = reader.text(&entry.value, "a cipher list") else { continue };
        // It ends up in a line of some service's configuration, and must not begin another one.
        if text.chars().any(char::is_control) {
            reader.error(&entry.value.span, "a cipher list is one line", "write it without line breaks");
        }
        if entry.key != DEFAULT_CIPHERS && DnsName::parse(&entry.key).is_err() {
            let message = format!("nobody can ask for the cipher list {:?}", entry.key);
            reader.warning(&entry.key_span, message, "cipher lists are for a DNS name in lower case, or for `default`");
        }
        if draft.ciphers.insert(entry.key.clone(), text.to_owned()).is_some() {
            let message = format!("the cipher list {:?} is also in another file", entry.key);
            reader.error(&entry.key_span, message, "remove one of the two");
        }
    }
}

#[cfg(test)]
mod tests;
