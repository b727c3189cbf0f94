//! `psfca audit list` and `psfca audit show`

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::cli;
use crate::client::{Client, ClientError};
use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::wire::{AuditEntry, AuditPage, AuditQuery};

/// Most entries that one request asks for.
const PAGE: u32 = 1_000;

/// Lists or shows what the daemon has recorded.
pub(super) fn run(args: &cli::Audit) -> anyhow::Result<ExitCode> {
    match &args.command {
        cli::AuditCommand::List(args) => list(args),
        cli::AuditCommand::Show(args) => show(args),
    }
}

fn list(args: &cli::AuditList) -> anyhow::Result<ExitCode> {
    let now = SystemClock.now();
    let moment = |text: &Option<String>| text.as_deref().map(|text| moment(text, now)).transpose();
    let query = AuditQuery {
        name: args.name.clone(),
        host: args.host.clone(),
        since: moment(&args.since)?,
        until: moment(&args.until)?,
        expiring_before: args.expiring_within.as_deref().map(span).transpose()?.map(|span| now.plus(span)),
        ..AuditQuery::default()
    };
    let (entries, more) = fetch(&args.config.config, query, args.limit)?;
    if args.json {
        cli::audit::print_json(&entries)?;
    } else {
        cli::audit::print_table(&entries, more, now)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(args: &cli::AuditShow) -> anyhow::Result<ExitCode> {
    let query = AuditQuery { serial: Some(args.serial.clone()), ..AuditQuery::default() };
    let (entries, _) = fetch(&args.config.config, query, 1)?;
    let Some(entry) = entries.first() else {
        bail!("no certificate with serial {} was ever recorded here", args.serial);
    };
    if args.json {
        cli::audit::print_json(&entries)?;
    } else {
        cli::audit::print_entry(entry, SystemClock.now())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Pages through the listing until `limit` entries are there; says whether there are more.
fn fetch(config: &Path, mut query: AuditQuery, limit: u32) -> anyhow::Result<(Vec<AuditEntry>, bool)> {
    let config = super::config(config)?;
    super::runtime()?.block_on(async {
        let mut client = Client::connect_unix(&config.admin_socket).await?;
        let mut entries = Vec::new();
        loop {
            let missing = limit.saturating_sub(u32::try_from(entries.len()).unwrap_or(u32::MAX));
            query.limit = Some(missing.clamp(1, PAGE));
            let page: AuditPage = page(&mut client, &query).await?;
            entries.extend(page.entries);
            query.before = page.next;
            let full = entries.len() >= limit as usize;
            if full || query.before.is_none() {
                entries.truncate(limit as usize);
                return Ok((entries, full && query.before.is_some()));
            }
        }
    })
}

async fn page(client: &mut Client, query: &AuditQuery) -> Result<AuditPage, ClientError> {
    let mut fields = Vec::new();
    // Through JSON, so that the names of the fields are written in one place only.
    if let Ok(serde_json::Value::Object(object)) = serde_json::to_value(query) {
        for (name, value) in object {
            let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            fields.push(format!("{name}={}", percent_encode(&value)));
        }
    }
    client.get_json(&format!("/v1/audit?{}", fields.join("&"))).await
}

/// RFC 3986, section 2.3: everything but unreserved characters is encoded.
fn percent_encode(text: &str) -> String {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|b| if unreserved(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// A time, or an age before `now`.
fn moment(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    if let Ok(time) = Timestamp::parse(text) {
        return Ok(time);
    }
    let age =
        span(text).with_context(|| format!("{text:?} is neither a time (2026-11-21T00:00:00Z) nor an age (7d)"))?;
    Ok(now.minus(age))
}

fn span(text: &str) -> anyhow::Result<std::time::Duration> {
    humantime::parse_duration(text).with_context(|| format!("{text:?} is no span of time like 36h or 7d"))
}
