//! `psfca audit`: what the daemon has recorded, and whether it holds.

mod export;
mod verify;
mod why;

use std::process::ExitCode;

pub(super) use verify::checkpoint as checkpoint_in;

use anyhow::{Context as _, bail};
use hyper::Method;

use crate::cli::{self, AuditCommand};
use crate::client::{Client, ClientError};
use crate::clock::{Clock as _, SystemClock};
use crate::serial::Serial;
use crate::wire::{AuditCertificate, AuditEntry, AuditEvent, AuditPage, AuditQuery, LEDGER_KEY_HEADER};

/// Most entries that one request asks for.
const PAGE: u32 = 1_000;

/// Does what the words say.
pub(super) fn run(args: &cli::Audit) -> anyhow::Result<ExitCode> {
    match &args.command {
        AuditCommand::List(args) => list(args),
        AuditCommand::Show(args) => show(args),
        AuditCommand::Why(args) => why::run(args),
        AuditCommand::Checkpoint(args) => checkpoint(args),
        AuditCommand::Verify(args) => verify::run(args),
        AuditCommand::Export(args) => export::run(args),
    }
}

fn list(args: &cli::AuditList) -> anyhow::Result<ExitCode> {
    let now = SystemClock.now();
    let query = AuditQuery {
        event: args.event.map(Into::into),
        name: args.name.clone(),
        host: args.host.clone(),
        role: args.role.clone(),
        serial: args.serial.clone(),
        state: args.state.map(Into::into),
        since: args.since.map(|since| since.from(now)),
        until: args.until.map(|until| until.from(now)),
        expiring_before: args.expiring_within.map(|span| now.plus(span)),
        before: args.before,
        limit: None,
    };
    let config = super::config(&args.config.config)?;
    let (entries, next) = super::runtime()?.block_on(async {
        let mut client = Client::connect_unix(&config.admin_socket).await?;
        fetch(&mut client, query, args.limit).await
    })?;
    if args.json {
        cli::audit::print_json(&entries)?;
    } else if args.csv {
        cli::audit::csv::print_csv(&entries)?;
    } else {
        cli::audit::print_table(&entries, next, now)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(args: &cli::AuditShow) -> anyhow::Result<ExitCode> {
    let config = super::config(&args.config.config)?;
    let entry = super::runtime()?.block_on(async {
        let mut client = Client::connect_unix(&config.admin_socket).await?;
        match (&args.serial, args.entry) {
            (Some(serial), _) => Ok(certificate(&mut client, serial).await?.0),
            (None, Some(index)) => entry(&mut client, index).await,
            (None, None) => bail!("say which: a certificate's serial number, or --entry INDEX"),
        }
    })?;
    if args.json {
        cli::audit::print_json(&[entry])?;
    } else {
        cli::audit::print_entry(&entry, SystemClock.now())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn checkpoint(args: &cli::AuditCheckpoint) -> anyhow::Result<ExitCode> {
    let config = super::config(&args.config.config)?;
    let (note, key) = super::runtime()?.block_on(async {
        let mut client = Client::connect_unix(&config.admin_socket).await?;
        newest_checkpoint(&mut client).await
    })?;
    super::check::write_out(&if args.key { key + "\n" } else { note })?;
    Ok(ExitCode::SUCCESS)
}

/// The newest signed checkpoint, and the key that verifies it.
async fn newest_checkpoint(client: &mut Client) -> anyhow::Result<(String, String)> {
    let answer = client.send(Method::GET, "/v1/ledger/checkpoint", "", "", "").await?.ok()?;
    let key = answer.header(LEDGER_KEY_HEADER).context("the daemon does not say by which key it signs")?.to_owned();
    Ok((String::from_utf8(answer.body.to_vec()).context("the daemon's checkpoint is no text")?, key))
}

/// The entry of the certificate with this serial.
async fn certificate(client: &mut Client, serial: &Serial) -> anyhow::Result<(AuditEntry, AuditCertificate)> {
    let query = AuditQuery { serial: Some(serial.clone()), ..AuditQuery::default() };
    let found = fetch(client, query, 1).await?.0.pop();
    let Some(entry) = found else { bail!("no certificate with serial {serial} was ever recorded here") };
    let AuditEvent::Certificate(certificate) = &entry.event else { bail!("entry {} is no certificate's", entry.index) };
    let certificate = AuditCertificate::clone(certificate);
    Ok((entry, certificate))
}

/// The entry with this index.
async fn entry(client: &mut Client, index: u64) -> anyhow::Result<AuditEntry> {
    let query = AuditQuery { before: Some(index.saturating_add(1)), ..AuditQuery::default() };
    let found = fetch(client, query, 1).await?.0.pop();
    found.filter(|entry| entry.index == index).with_context(|| format!("the ledger has no entry {index}"))
}

/// Pages through the listing until `limit` entries are there; the cursor of what follows them.
async fn fetch(
    client: &mut Client,
    mut query: AuditQuery,
    limit: u32,
) -> Result<(Vec<AuditEntry>, Option<u64>), ClientError> {
    let mut entries = Vec::new();
    loop {
        let missing = limit.saturating_sub(u32::try_from(entries.len()).unwrap_or(u32::MAX));
        query.limit = Some(missing.clamp(1, PAGE));
        let page: AuditPage = page(client, &query).await?;
        entries.extend(page.entries);
        query.before = page.next;
        if entries.len() >= limit as usize || query.before.is_none() {
            return Ok((entries, query.before));
        }
    }
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
