//! What only the whole set shows: collisions, unknown and unused roles, overlapping aliases.

use std::collections::{HashMap, HashSet};

use super::{Draft, DraftRole, DraftService};
use crate::diagnostic::{Diagnostic, Diagnostics, closest};
use crate::name::{DnsName, RoleName};

/// Most unknown roles for which a near name is looked up; the search goes over all roles.
const MAX_SUGGESTIONS: usize = 100;
/// Most unused roles that a message names.
const MAX_LISTED: usize = 12;

/// `complete` is false when a file could not be read: then nothing can be called missing.
pub(super) fn check(draft: &Draft, complete: bool, out: &mut Diagnostics) {
    same_name_twice(&draft.services, out);
    same_role_twice(&draft.roles, out);
    overlapping_aliases(&draft.services, out);
    if complete {
        unknown_roles(draft, out);
        unused_roles(draft, out);
    }
}

fn same_name_twice(services: &[DraftService], out: &mut Diagnostics) {
    let mut seen: HashMap<&DnsName, &DraftService> = HashMap::with_capacity(services.len());
    for service in services {
        let Some(first) = seen.get(&service.name) else {
            seen.insert(&service.name, service);
            continue;
        };
        // Two equal keys of one mapping have been reported as such.
        if first.file == service.file && first.written == service.written {
            continue;
        }
        let message = format!("{} is declared twice: both bundles would be {}.pem", service.written, service.name);
        out.push(
            Diagnostic::error(&service.file, service.span.clone(), message)
                .related(&first.file, first.span.clone(), "first here")
                .help("merge the two, or rename one"),
        );
    }
}

fn same_role_twice(roles: &[DraftRole], out: &mut Diagnostics) {
    let mut seen: HashMap<&RoleName, &DraftRole> = HashMap::with_capacity(roles.len());
    for role in roles {
        let Some(first) = seen.get(&role.name) else {
            seen.insert(&role.name, role);
            continue;
        };
        if first.file == role.file {
            continue;
        }
        let message = format!("the role {:?} is defined in two files", role.name.as_str());
        out.push(
            Diagnostic::error(&role.file, role.span.clone(), message)
                .related(&first.file, first.span.clone(), "first here")
                .help("keep one; roles of two environments (dev and prod) belong to two declarations"),
        );
    }
}

fn overlapping_aliases(services: &[DraftService], out: &mut Diagnostics) {
    let mut owners: HashMap<&DnsName, (&DraftService, std::ops::Range<usize>)> = HashMap::new();
    for service in services {
        owners.entry(&service.name).or_insert((service, service.span.clone()));
    }
    for service in services {
        for (alias, span) in &service.aliases {
            match owners.get(alias) {
                None => {
                    owners.insert(alias, (service, span.clone()));
                }
                Some((owner, first)) if owner.name != service.name => out.push(
                    Diagnostic::warning(
                        &service.file,
                        span.clone(),
                        format!("{alias} is on the certificates of both {} and {}", owner.name, service.name),
                    )
                    .related(&owner.file, first.clone(), "also here")
                    .help("hosts of either can pose as it; keep it on one, unless that is meant"),
                ),
                Some(_) if service.name == *alias => out.push(
                    Diagnostic::warning(&service.file, span.clone(), format!("{alias} is an alias of itself"))
                        .help("remove it; a certificate always carries its own name"),
                ),
                Some(_) => {}
            }
        }
    }
}

fn unknown_roles(draft: &Draft, out: &mut Diagnostics) {
    let known: HashSet<&RoleName> = draft.roles.iter().map(|role| &role.name).collect();
    let mut suggestions = 0;
    for service in &draft.services {
        for (role, span) in service.roles.iter().filter(|(role, _)| !known.contains(role)) {
            suggestions += 1;
            let near = (suggestions <= MAX_SUGGESTIONS)
                .then(|| closest(role.as_str(), draft.roles.iter().map(|role| role.name.as_str())))
                .flatten();
            let help = near.map_or_else(
                || "define it under roles, or remove it; until then it matches no host".to_owned(),
                |near| format!("did you mean {near:?}? as it stands it matches no host"),
            );
            let message = format!("unknown role {:?}", role.as_str());
            out.push(Diagnostic::warning(&service.file, span.clone(), message).help(help));
        }
    }
}

/// One message per file: the roles of a Salt tree serve other ends too, and then many are unused.
fn unused_roles(draft: &Draft, out: &mut Diagnostics) {
    let listed: HashSet<&RoleName> =
        draft.services.iter().flat_map(|service| service.roles.iter().map(|(role, _)| role)).collect();
    let unused: Vec<_> = draft.roles.iter().filter(|role| !listed.contains(&role.name)).collect();
    for group in unused.chunk_by(|a, b| a.file == b.file) {
        let names: Vec<_> = group.iter().take(MAX_LISTED).map(|role| role.name.as_str()).collect();
        let (noun, more) = (if group.len() == 1 { "role is" } else { "roles are" }, group.len() - names.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let message = format!("{} {noun} listed by no name: {}{more}", group.len(), names.join(", "));
        let help = "remove them, or list them under a name; nothing is wrong if only Salt needs them";
        out.push(Diagnostic::warning(&group[0].file, group[0].span.clone(), message).help(help));
    }
}
