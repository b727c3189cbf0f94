//! One entry of `tls.gen_certs`.

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use super::{DraftService, Rules};
use crate::grant::ServiceTerms;
use crate::name::{DnsName, NameError, RoleName};
use crate::outage;
use crate::profile::{KeyKind, Lifetime, SHORTEST_LIFETIME, Usages};
use crate::token::ServerName;
use crate::yaml::reader::{Fields, Reader};
use crate::yaml::{Entry, Node};

const KEYS: [&str; 7] = ["roles", "days", "aliases", "ip", "usages", "key", "ca_made_key"];
/// Most DNS names, and most addresses, on one certificate; larger ones break clients and handshakes.
const MAX_NAMES: usize = 100;
/// Most roles that one name may list.
const MAX_ROLES: usize = 100;
/// The most characters of a declared name. File systems allow 255 bytes, and while a host installs a bundle
/// its file is called `.NAME.pem.psfca-` with 16 digits.
pub const LONGEST_NAME: usize = 227;
const DAY: f64 = 86_400.0;

/// The one spelling of a DNS name: lower case, without a trailing dot.
///
/// # Errors
/// [`NameError`] when no spelling would make it a DNS name.
pub fn canonical(text: &str) -> Result<DnsName, NameError> {
    DnsName::parse(&text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase())
}

/// Reads a name and its terms; `None` when the name itself is none.
pub(super) fn read(reader: &mut Reader<'_>, entry: &Entry, rules: &Rules) -> Option<DraftService> {
    let name = dns_name(reader, &entry.key, &entry.key_span);
    if let Some(name) = &name {
        report_long_file_name(reader, name, &entry.key_span);
        report_server_name(reader, name, &entry.key_span, rules);
    }
    let fields = reader.fields(&entry.value, "a name", &KEYS);
    let aliases = aliases(reader, fields, rules);
    let terms = ServiceTerms {
        aliases: aliases.iter().map(|(alias, _)| alias.clone()).collect(),
        ip: addresses(reader, fields, rules),
        usages: usages(reader, fields),
        lifetime: lasting(reader, fields, entry, rules),
        key: key(reader, fields),
        ca_made_key: ca_made_key(reader, fields),
    };
    let roles = roles(reader, fields, entry);
    let (file, written, span) = (reader.file.clone(), entry.key.clone(), entry.key_span.clone());
    Some(DraftService { file, written, span, name: name?, terms, aliases, roles })
}

fn dns_name(reader: &mut Reader<'_>, text: &str, span: &Range<usize>) -> Option<DnsName> {
    match canonical(text) {
        Ok(name) => {
            if name.as_str() != text {
                reader.warning(
                    span,
                    format!("{text:?} is read as {name}"),
                    "write it in lower case, without a dot at the end",
                );
            }
            Some(name)
        }
        Err(error) => {
            let help = match error {
                NameError::Character('*') => "wildcards are not issued; list the names under aliases",
                NameError::Character('_') => "an underscore is not allowed in a host's name (RFC 1123)",
                NameError::Numeric => "addresses go under the key \"ip\" of a name",
                _ => "write a DNS name such as postgresql.psf.io",
            };
            reader.error(span, format!("{text:?} is no DNS name: {error}"), help);
            None
        }
    }
}

fn report_long_file_name(reader: &mut Reader<'_>, name: &DnsName, span: &Range<usize>) {
    let length = name.as_str().len();
    if length > LONGEST_NAME {
        let message = format!("the name has {length} characters, too many for the name of its bundle's file");
        reader.error(
            span,
            message,
            format!("use at most {LONGEST_NAME} characters, or make it an alias of a shorter name"),
        );
    }
}

fn report_server_name(reader: &mut Reader<'_>, name: &DnsName, span: &Range<usize>, rules: &Rules) {
    if rules.server_names.iter().any(|own| matches!(own, ServerName::Dns(own) if own == name)) {
        report_own(reader, name.as_str(), span);
    }
}

fn report_own(reader: &mut Reader<'_>, own: &str, span: &Range<usize>) {
    let message = format!("{own} is one of the CA's own server_names; whoever had it could pose as the CA");
    reader.error(span, message, "remove it here; the daemon issues its own certificate");
}

fn aliases(reader: &mut Reader<'_>, fields: Fields<'_>, rules: &Rules) -> Vec<(DnsName, Range<usize>)> {
    let mut out: Vec<(DnsName, Range<usize>)> = Vec::new();
    for item in limited(reader, fields, "aliases", MAX_NAMES - 1) {
        let Some(text) = reader.text(item, "an alias") else { continue };
        let Some(alias) = dns_name(reader, text, &item.span) else { continue };
        report_server_name(reader, &alias, &item.span, rules);
        if out.iter().any(|(earlier, _)| *earlier == alias) {
            reader.warning(&item.span, format!("the alias {alias} is listed twice"), "remove one of the two");
        } else {
            out.push((alias, item.span.clone()));
        }
    }
    out
}

fn addresses(reader: &mut Reader<'_>, fields: Fields<'_>, rules: &Rules) -> Vec<IpAddr> {
    let mut out = Vec::new();
    for item in limited(reader, fields, "ip", MAX_NAMES) {
        let help = "write an address such as 10.0.0.1 or fd00::1, without a port or a prefix length";
        let Some(ip) = reader.parsed(item, "an address", help, str::parse::<IpAddr>) else { continue };
        if rules.server_names.contains(&ServerName::Ip(ip)) {
            report_own(reader, &ip.to_string(), &item.span);
        }
        if out.contains(&ip) {
            reader.warning(&item.span, format!("the address {ip} is listed twice"), "remove one of the two");
        } else {
            out.push(ip);
        }
    }
    out
}

fn roles(reader: &mut Reader<'_>, fields: Fields<'_>, entry: &Entry) -> Vec<(RoleName, Range<usize>)> {
    let mut out: Vec<(RoleName, Range<usize>)> = Vec::new();
    for item in limited(reader, fields, "roles", MAX_ROLES) {
        let help = "write the name of a role that is defined under roles";
        let Some(role) = reader.parsed(item, "a role", help, RoleName::parse) else { continue };
        if out.iter().any(|(earlier, _)| *earlier == role) {
            reader.warning(&item.span, format!("the role {role} is listed twice"), "remove one of the two");
        } else {
            out.push((role, item.span.clone()));
        }
    }
    if fields
        .get("roles")
        .is_none_or(|node| matches!(&node.value, crate::yaml::Value::Sequence(items) if items.is_empty()))
    {
        let message = format!("{} lists no roles, so no host can get it", entry.key);
        reader.warning(&entry.key_span, message, "list under \"roles\" who may have it");
    }
    out
}

fn limited<'n>(reader: &mut Reader<'_>, fields: Fields<'n>, key: &str, most: usize) -> &'n [Node] {
    let Some(node) = fields.get(key) else { return &[] };
    let items = reader.list_or_one(node, key);
    if items.len() > most {
        reader.error(
            &node.span,
            format!("{key} has {} entries; {most} is the most", items.len()),
            "divide the name into several",
        );
    }
    &items[..items.len().min(most)]
}

fn usages(reader: &mut Reader<'_>, fields: Fields<'_>) -> Usages {
    let (mut server, mut client) = (false, false);
    for item in limited(reader, fields, "usages", 2) {
        match reader.text(item, "a usage") {
            Some("server") => server = true,
            Some("client") => client = true,
            Some(other) => {
                let help = "it may be server, client, or a list of both";
                reader.error(&item.span, format!("there is no usage {other:?}"), help);
            }
            None => {}
        }
    }
    match (server, client) {
        (true, true) => Usages::Both,
        (false, true) => Usages::Client,
        _ => Usages::Server,
    }
}

/// A lifetime that stands the outages that it has to; an error has the place of the days.
fn lasting(reader: &mut Reader<'_>, fields: Fields<'_>, entry: &Entry, rules: &Rules) -> Lifetime {
    let lifetime = lifetime(reader, fields, entry, rules);
    let stands = outage::of_life(lifetime.as_duration());
    if let Some(least) = rules.min_outage.filter(|least| stands < *least) {
        let span = fields.get("days").map_or(&entry.key_span, |node| &node.span);
        let [stands, least] = [stands, least].map(outage::in_words);
        let message = format!(
            "{} with {lifetime} stands an outage of the CA of {stands}, and min_outage in ca.yaml is {least}",
            entry.key
        );
        reader.error(span, message, "set days to more, or lower min_outage");
    }
    lifetime
}

/// One day where nothing is written, and where a mistake has been reported.
fn lifetime(reader: &mut Reader<'_>, fields: Fields<'_>, entry: &Entry, rules: &Rules) -> Lifetime {
    let day = Lifetime::days(std::num::NonZeroU32::MIN);
    let ceiling = rules.max_lifetime;
    let Some(node) = fields.get("days") else {
        if day > ceiling {
            let message = format!("{} has no days, which means 1 day, above the ceiling of {ceiling}", entry.key);
            reader.error(&entry.key_span, message, "set days to less, or raise max_days in ca.yaml");
        }
        return day;
    };
    let Some(days) = reader.decimal(node, "days") else { return day };
    let length = Duration::try_from_secs_f64((days * DAY).round()).ok();
    match length.and_then(Lifetime::new) {
        Some(lifetime) if lifetime <= ceiling => return lifetime,
        None if days < 1.0 => {
            let hours = SHORTEST_LIFETIME.as_secs() / 3_600;
            let message = format!("days: {days} is too short: a certificate has to live {hours} hours at least");
            reader.error(&node.span, message, "write 0.0834 (two hours) or more");
        }
        _ => {
            let message = format!("days: {days} is above the ceiling of {ceiling}");
            reader.error(&node.span, message, "write less; the ceiling is max_days in ca.yaml (90 without it)");
        }
    }
    day
}

fn key(reader: &mut Reader<'_>, fields: Fields<'_>) -> KeyKind {
    let Some(node) = fields.get("key") else { return KeyKind::default() };
    let help = format!("it may be {}", KeyKind::ALL.map(KeyKind::as_str).join(", "));
    reader
        .parsed(node, "key", &help, |text| KeyKind::parse(text).ok_or("there is no such kind of key"))
        .unwrap_or_default()
}

fn ca_made_key(reader: &mut Reader<'_>, fields: Fields<'_>) -> bool {
    let Some(node) = fields.get("ca_made_key") else { return false };
    let allowed = reader.flag(node, "ca_made_key").unwrap_or(false);
    if allowed && key_is_rsa(fields) {
        let help = "choose an ecdsa key, or remove ca_made_key and let the host send its request";
        reader.error(&node.span, "the CA cannot make RSA keys", help);
    }
    allowed
}

fn key_is_rsa(fields: Fields<'_>) -> bool {
    use crate::yaml::Value;
    fields
        .get("key")
        .is_some_and(|node| matches!(&node.value, Value::Scalar { text, .. } if text == KeyKind::Rsa.as_str()))
}
