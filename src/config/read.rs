//! From the YAML tree of `ca.yaml` to [`CaConfig`].

use std::collections::HashSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::subject::subject;
use super::{CaConfig, CaKeyKind, CaName, IDENTITY_GRACE, Limits, WitnessConfig, WitnessUrl};
use crate::diagnostic::{Diagnostics, SourceFile};
use crate::ledger::cosignature::WitnessKey;
use crate::name::{DnsName, HostName};
use crate::outage;
use crate::profile::{Lifetime, SHORTEST_LIFETIME};
use crate::rate::Rate;
use crate::token::{ServerAddress, ServerName};
use crate::yaml::reader::{Fields, Reader};
use crate::yaml::{self, Node};

const KEYS: [&str; 19] = [
    "name",
    "cert_opts",
    "trust_domain",
    "ca_key",
    "declaration",
    "listen",
    "server_names",
    "address",
    "state",
    "trust_bundle",
    "admin_socket",
    "admin_group",
    "operators",
    "max_days",
    "min_outage",
    "retention",
    "identity_grace_days",
    "limits",
    "witness",
];
/// Most files in a declaration.
const MAX_FILES: usize = 1_000;
/// Most names on the daemon's own certificate.
const MAX_SERVER_NAMES: usize = 100;
/// Most hosts that may look after hosts.
const MAX_OPERATORS: usize = 100;
/// Lifetime ceiling when `ca.yaml` names none.
const DEFAULT_MAX_DAYS: u64 = 90;
/// For how many days after its end an identity can be renewed at most.
const MAX_IDENTITY_GRACE_DAYS: u64 = 30;
/// Highest ceiling: well inside the three years of an issuing CA (rule R5).
const HIGHEST_MAX_DAYS: f64 = 825.0;
/// Days that bodies are kept when `ca.yaml` does not say.
const DEFAULT_RETENTION_DAYS: u64 = 400;
/// A hundred years.
const HIGHEST_RETENTION_DAYS: u64 = 36_500;

pub(super) fn config(file: &SourceFile) -> Result<(CaConfig, Diagnostics), Diagnostics> {
    let mut out = Diagnostics::new();
    let Some(root) = yaml::parse(file, &mut out) else { return Err(out) };
    let mut reader = Reader { file, out: &mut out };
    let fields = reader.fields(&root, "ca.yaml", &KEYS);
    let config = read(&mut reader, &root, fields);
    out.finish(config)
}

fn read(reader: &mut Reader<'_>, root: &Node, fields: Fields<'_>) -> Option<CaConfig> {
    // Each part is read before any `?`, so that one mistake hides no other.
    let name = required(reader, root, fields, "name", "write for example: name: PSF_CA")
        .and_then(|node| reader.parsed(node, "name", "write for example: name: PSF_CA", CaName::parse));
    let subject = fields.get("cert_opts").map(|node| subject(reader, node)).unwrap_or_default();
    let server_names = server_names(reader, root, fields);
    let trust_domain = trust_domain(reader, root, fields, server_names.as_deref());
    let declaration = declaration(reader, root, fields);
    let listen = fields.get("listen").map_or(Some(SocketAddr::from(([0, 0, 0, 0], 8443))), |node| {
        reader.parsed(node, "listen", "write an IP address and a port, such as 0.0.0.0:8443 or [::]:8443", |text| {
            text.parse::<SocketAddr>()
        })
    });
    let address = fields.get("address").and_then(|node| {
        reader.parsed(node, "address", "write what hosts connect to, such as ca.psf.io:8443", ServerAddress::parse)
    });
    report_unverifiable_address(reader, fields, address.as_ref(), server_names.as_deref());
    let paths = paths(reader, fields, name.as_ref());
    let admin_group =
        fields.get("admin_group").and_then(|node| reader.parsed(node, "admin_group", "name a Unix group", group_name));
    let operators = fields.get("operators").map(|node| operators(reader, node)).unwrap_or_default();
    let max_lifetime = max_lifetime(reader, fields);
    let retention = retention(reader, fields);
    let grace = fields.get("identity_grace_days").map_or(Some(IDENTITY_GRACE.as_secs() / 86_400), |node| {
        reader.integer(node, "identity_grace_days", 0..=MAX_IDENTITY_GRACE_DAYS)
    });
    let min_outage = min_outage(reader, fields, grace);
    let limits = fields.get("limits").map(|node| limits(reader, node)).unwrap_or_default();
    let witness = fields.get("witness").map(|node| witness(reader, node));
    let ca_key = fields.get("ca_key").map_or(CaKeyKind::default(), |node| ca_key(reader, node));
    Some(CaConfig {
        name: name?,
        subject,
        trust_domain: trust_domain?,
        ca_key,
        declaration: declaration?,
        listen: listen?,
        server_names: server_names?,
        address,
        state_dir: paths.state,
        trust_bundle: paths.trust_bundle,
        admin_socket: paths.admin_socket,
        admin_group,
        operators,
        max_lifetime: max_lifetime?,
        min_outage: min_outage?,
        retention: retention?,
        identity_grace: Duration::from_secs(grace? * 86_400),
        limits,
        // Half a witness is a mistake that was reported, and not none.
        witness: witness.map_or(Some(None), |read| read.map(Some))?,
    })
}

fn witness(reader: &mut Reader<'_>, node: &Node) -> Option<WitnessConfig> {
    const URL: &str = "write where it answers, such as http://witness.psf.io:8444";
    const KEY: &str = "write what psfca witness --key prints on the witness' machine";
    let fields = reader.fields(node, "witness", &["url", "key"]);
    let url = required(reader, node, fields, "url", URL);
    let url = url.and_then(|node| reader.parsed(node, "url", URL, WitnessUrl::parse));
    let key = required(reader, node, fields, "key", KEY);
    let key = key.and_then(|node| reader.parsed(node, "key", KEY, WitnessKey::parse));
    Some(WitnessConfig { url: url?, key: key? })
}

fn required<'n>(reader: &mut Reader<'_>, root: &Node, fields: Fields<'n>, key: &str, help: &str) -> Option<&'n Node> {
    let node = fields.get(key);
    if node.is_none() {
        reader.error(&(root.span.start..root.span.start), format!("the key {key:?} is missing"), help);
    }
    node
}

fn ca_key(reader: &mut Reader<'_>, node: &Node) -> CaKeyKind {
    let kinds = [CaKeyKind::EcdsaP256, CaKeyKind::EcdsaP384];
    let read = reader.parsed(node, "ca_key", "it may be ecdsa-p256 or ecdsa-p384", |text| {
        kinds.into_iter().find(|kind| kind.as_str() == text).ok_or("the CA makes no such keys for itself")
    });
    read.unwrap_or_default()
}

fn operators(reader: &mut Reader<'_>, node: &Node) -> Vec<HostName> {
    const HELP: &str = "write the names of enrolled hosts, such as [ops0.psf.io]";
    let listed = reader.list(node, "operators");
    if listed.len() > MAX_OPERATORS {
        reader.error(&node.span, format!("there are more than {MAX_OPERATORS} operators"), "name fewer hosts");
    }
    listed.iter().filter_map(|node| reader.parsed(node, "operators", HELP, HostName::parse)).collect()
}

fn group_name(text: &str) -> Result<String, &'static str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let fits = (1..=32).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-');
    fits.then(|| text.to_owned()).ok_or("that is not the name of a Unix group")
}

fn server_names(reader: &mut Reader<'_>, root: &Node, fields: Fields<'_>) -> Option<Vec<ServerName>> {
    const HELP: &str = "list the DNS names or IP addresses by which hosts reach this CA, such as ca.psf.io";
    let node = required(reader, root, fields, "server_names", HELP)?;
    let items = reader.list_or_one(node, "server_names");
    if items.is_empty() || items.len() > MAX_SERVER_NAMES {
        reader.error(
            &node.span,
            format!("server_names has {} entries; it may have 1 to {MAX_SERVER_NAMES}", items.len()),
            HELP,
        );
    }
    let mut seen = HashSet::new();
    let mut names = Vec::new();
    for item in items {
        let read = reader.parsed(item, "a server name", HELP, |text| {
            ServerName::parse(text).ok_or("it is neither a DNS name in lower case nor an IP address")
        });
        if let Some(name) = read {
            if seen.insert(name.to_string()) {
                names.push(name);
            } else {
                reader.warning(&item.span, format!("{name} is listed twice"), "remove one of the two");
            }
        }
    }
    (!names.is_empty()).then_some(names)
}

/// Hosts verify the daemon's certificate by the name in the address, and it carries the server names.
fn report_unverifiable_address(
    reader: &mut Reader<'_>,
    fields: Fields<'_>,
    address: Option<&ServerAddress>,
    server_names: Option<&[ServerName]>,
) {
    if let (Some(node), Some(address), Some(names)) = (fields.get("address"), address, server_names)
        && !names.contains(&address.name)
    {
        let message = format!("address is {address}, but {} is not among the server_names", address.name);
        reader.error(&node.span, message, "add it to server_names, or hosts could not verify whom they reached");
    }
}

fn trust_domain(
    reader: &mut Reader<'_>,
    root: &Node,
    fields: Fields<'_>,
    server_names: Option<&[ServerName]>,
) -> Option<DnsName> {
    const HELP: &str = "write the domain that host identities belong to, such as psf.io";
    if let Some(node) = fields.get("trust_domain") {
        return reader.parsed(node, "trust_domain", HELP, DnsName::parse);
    }
    let first = server_names?.iter().find_map(|name| match name {
        ServerName::Dns(name) => Some(name.as_str()),
        ServerName::Ip(_) => None,
    });
    let Some(first) = first else {
        let span = root.span.start..root.span.start;
        reader.error(
            &span,
            "the key \"trust_domain\" is missing, and no server name is a DNS name to take it from",
            HELP,
        );
        return None;
    };
    let labels: Vec<_> = first.rsplitn(3, '.').take(2).collect();
    let domain: Vec<_> = labels.into_iter().rev().collect();
    DnsName::parse(&domain.join(".")).ok()
}

fn declaration(reader: &mut Reader<'_>, root: &Node, fields: Fields<'_>) -> Option<Vec<PathBuf>> {
    const HELP: &str = "list the files with tls.gen_certs and roles, such as [tls.yaml, roles.yaml]";
    let node = required(reader, root, fields, "declaration", HELP)?;
    let items = reader.list_or_one(node, "declaration");
    if items.is_empty() || items.len() > MAX_FILES {
        reader.error(&node.span, format!("declaration has {} files; it may have 1 to {MAX_FILES}", items.len()), HELP);
    }
    let mut paths = Vec::new();
    for item in items {
        if let Some(path) = path(reader, item, "a declaration file") {
            if paths.contains(&path) {
                reader.error(&item.span, format!("{} is listed twice", path.display()), "remove one of the two");
            }
            paths.push(path);
        }
    }
    (!paths.is_empty()).then_some(paths)
}

/// Relative paths lie beside `ca.yaml`, wherever the daemon was started.
fn path(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<PathBuf> {
    let directory = Path::new(reader.file.path()).parent().unwrap_or(Path::new("")).to_owned();
    reader.parsed(node, what, "write a path, absolute or relative to the directory of ca.yaml", |text| {
        if text.contains('\0') { Err("a path holds no NUL") } else { Ok(directory.join(text)) }
    })
}

struct Paths {
    state: PathBuf,
    trust_bundle: PathBuf,
    admin_socket: PathBuf,
}

fn paths(reader: &mut Reader<'_>, fields: Fields<'_>, name: Option<&CaName>) -> Paths {
    let mut given = |key: &str| fields.get(key).and_then(|node| path(reader, node, key));
    let state = given("state").unwrap_or_else(|| PathBuf::from("/var/lib/psfca"));
    let file = format!("{}.pem", name.map_or("CA", CaName::as_str));
    let trust_bundle = given("trust_bundle").unwrap_or_else(|| state.join(file));
    let admin_socket = given("admin_socket").unwrap_or_else(|| PathBuf::from("/run/psfca/admin.sock"));
    Paths { state, trust_bundle, admin_socket }
}

fn max_lifetime(reader: &mut Reader<'_>, fields: Fields<'_>) -> Option<Lifetime> {
    let Some(node) = fields.get("max_days") else {
        return Lifetime::new(Duration::from_secs(DEFAULT_MAX_DAYS * 86_400));
    };
    let days = reader.decimal(node, "max_days")?;
    let lifetime = (days <= HIGHEST_MAX_DAYS).then(|| Duration::from_secs_f64((days * 86_400.0).round()));
    let lifetime = lifetime.and_then(Lifetime::new);
    if lifetime.is_none() {
        let least = SHORTEST_LIFETIME.as_secs() / 3_600;
        reader.error(
            &node.span,
            format!("max_days cannot be {days}"),
            format!("it may be {least} hours (0.0834) to {HIGHEST_MAX_DAYS} days"),
        );
    }
    lifetime
}

/// None inside stands for any outage. One that the hosts' own identities do not stand is a mistake here: no
/// declaration could make up for it.
fn min_outage(
    reader: &mut Reader<'_>,
    fields: Fields<'_>,
    identity_grace_days: Option<u64>,
) -> Option<Option<Duration>> {
    let Some(node) = fields.get("min_outage") else { return Some(None) };
    let length = reader.parsed(node, "min_outage", "write a span of time such as 9h or 2d", |text| {
        humantime::parse_duration(text).map_err(|_| "that is no span of time")
    })?;
    let most = outage::of_identity(Duration::from_secs(identity_grace_days? * 86_400));
    if length > most {
        let [length, most] = [length, most].map(outage::in_words);
        let message = format!("min_outage cannot be {length}: the hosts' identities stand an outage of {most}");
        reader.error(&node.span, message, "write less, or raise identity_grace_days");
        return None;
    }
    Some(Some(length))
}

/// None inside stands for ever.
fn retention(reader: &mut Reader<'_>, fields: Fields<'_>) -> Option<Option<Duration>> {
    let days = match fields.get("retention") {
        None => DEFAULT_RETENTION_DAYS,
        Some(node) => {
            let help = format!("write 1 to {HIGHEST_RETENTION_DAYS}, or forever");
            let read = reader.parsed(node, "retention", &help, |text| match text.parse() {
                _ if text == "forever" => Ok(None),
                Ok(days @ 1..=HIGHEST_RETENTION_DAYS) => Ok(Some(days)),
                _ => Err("it is neither a whole number of days, at least one, nor forever"),
            });
            match read? {
                Some(days) => days,
                None => return Some(None),
            }
        }
    };
    Some(Some(Duration::from_secs(days * 86_400)))
}

fn limits(reader: &mut Reader<'_>, node: &Node) -> Limits {
    const KNOWN: [&str; 10] = [
        "connections",
        "connections_each",
        "body_kib",
        "handshake_seconds",
        "header_seconds",
        "request_seconds",
        "issue_burst",
        "issue_per_second",
        "enroll_burst",
        "enroll_per_minute",
    ];
    let fields = reader.fields(node, "limits", &KNOWN);
    let mut number =
        |key: &str, range: RangeInclusive<u64>| fields.get(key).and_then(|node| reader.integer(node, key, range));
    let default = Limits::default();
    let size = |given: Option<u64>, unit: usize, default: usize| {
        given.and_then(|n| usize::try_from(n).ok()).map_or(default, |n| n * unit)
    };
    let count = |given: Option<u64>| given.and_then(|n| u32::try_from(n).ok()).and_then(NonZeroU32::new);
    Limits {
        connections: size(number("connections", 1..=100_000), 1, default.connections),
        connections_each: size(number("connections_each", 1..=100_000), 1, default.connections_each),
        // A request for an RSA-8192 key has 3 KiB; below that nothing would work.
        body_bytes: size(number("body_kib", 4..=1_024), 1_024, default.body_bytes),
        handshake: number("handshake_seconds", 1..=300).map_or(default.handshake, Duration::from_secs),
        header: number("header_seconds", 1..=300).map_or(default.header, Duration::from_secs),
        request: number("request_seconds", 1..=600).map_or(default.request, Duration::from_secs),
        issue: Rate {
            burst: count(number("issue_burst", 1..=10_000)).unwrap_or(default.issue.burst),
            count: count(number("issue_per_second", 1..=10_000)).unwrap_or(default.issue.count),
            ..default.issue
        },
        enroll: Rate {
            burst: count(number("enroll_burst", 1..=10_000)).unwrap_or(default.enroll.burst),
            count: count(number("enroll_per_minute", 1..=10_000)).unwrap_or(default.enroll.count),
            ..default.enroll
        },
    }
}
