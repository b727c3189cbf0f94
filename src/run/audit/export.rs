//! `psfca audit export`: the ledger as files that anyone can verify (C2SP tlog-tiles).
//!
//! The checkpoint is written last, so whatever it covers is there. A tile that is whole never
//! changes, so one that exists is not fetched again and an interrupted export goes on where it was.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use hyper::Method;

use crate::ca::authorities::CaFiles;
use crate::ca::key_file::load_ledger_key;
use crate::checkpoints::Checkpoints;
use crate::cli::AuditExport;
use crate::client::Client;
use crate::config::CaConfig;
use crate::digest::Digest;
use crate::durable;
use crate::init::ledger_path;
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::note::NoteVerifier;
use crate::ledger::tile::{TileKind, TilePath};
use crate::ledger::tree::{TILE_HEIGHT, TILE_WIDTH, verify_consistency};
use crate::store::{Head, LedgerCopy};
use crate::wire::Consistency;

/// Where the tiles come from.
enum Source {
    Daemon { client: Box<Client>, runtime: tokio::runtime::Runtime },
    State { copy: LedgerCopy, head: Head },
}

/// Writes what is missing, then the checkpoint.
pub(super) fn run(args: &AuditExport) -> anyhow::Result<ExitCode> {
    let config = crate::run::config(&args.config.config)?;
    let (mut source, note, key) = match &args.state {
        Some(state) => open_state(state, &config)?,
        None => connect(&config)?,
    };
    let head = Checkpoint::open(&note, &key).context("the checkpoint cannot be used")?;
    let before = earlier(&args.directory, &key)?;
    if let Some(before) = &before {
        continues(&mut source, before, &head)
            .with_context(|| format!("{} holds another ledger's export", args.directory.display()))?;
    }
    let mut written = 0;
    for path in tiles(head.size) {
        let file = args.directory.join(path.to_string());
        if !file.exists() {
            write(&file, &source.tile(path, head.size)?)?;
            written += 1;
        }
    }
    write(&args.directory.join("checkpoint"), note.as_bytes())?;
    if let Some(before) = before {
        remove_partial(&args.directory, before.size, head.size);
    }
    let directory = args.directory.display();
    let entries = head.size;
    crate::run::check::write_out(&format!(
        "{directory}: {entries} entries, root {}, {written} new tiles\n",
        head.root
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn connect(config: &CaConfig) -> anyhow::Result<(Source, String, NoteVerifier)> {
    let runtime = crate::run::runtime()?;
    let (client, (note, key)) = runtime.block_on(async {
        let mut client = Client::connect_unix(&config.admin_socket).await?;
        let newest = super::newest_checkpoint(&mut client).await?;
        anyhow::Ok((client, newest))
    })?;
    Ok((Source::Daemon { client: Box::new(client), runtime }, note, NoteVerifier::parse(&key)?))
}

/// Signs the head itself: it is committed, so it contradicts nothing that the daemon signs.
fn open_state(state: &Path, config: &CaConfig) -> anyhow::Result<(Source, String, NoteVerifier)> {
    let copy = LedgerCopy::open(&ledger_path(state))?;
    let head = copy.head()?;
    let checkpoints =
        Checkpoints::new(load_ledger_key(&CaFiles::in_state(state).ledger_key(), &config.ledger_origin())?);
    Ok((Source::State { copy, head }, checkpoints.sign(head), checkpoints.verifier().clone()))
}

impl Source {
    fn tile(&mut self, path: TilePath, size: u64) -> anyhow::Result<Vec<u8>> {
        let octets = match self {
            Self::Daemon { client, runtime } => {
                let path = format!("/v1/ledger/{path}");
                Vec::from(runtime.block_on(client.send(Method::GET, &path, "", "", ""))?.ok()?.body)
            }
            Self::State { copy, .. } => copy.tile(path, size)?.with_context(|| format!("the ledger has no {path}"))?,
        };
        let expected = usize::from(path.width) * 32;
        ensure!(path.kind == TileKind::Entries || octets.len() == expected, "{path} has {} octets", octets.len());
        Ok(octets)
    }

    fn consistency(&mut self, old: u64, new: u64) -> anyhow::Result<Vec<Digest>> {
        match self {
            Self::Daemon { client, runtime } => {
                let path = format!("/v1/ledger/consistency?old={old}&new={new}");
                Ok(runtime.block_on(client.get_json::<Consistency>(&path))?.hashes)
            }
            Self::State { copy, head } => {
                ensure!(new <= head.size, "the ledger has {} entries", head.size);
                copy.consistency(old, new)?.context("the ledger never had these sizes")
            }
        }
    }
}

/// The checkpoint of an export that is there already.
fn earlier(directory: &Path, key: &NoteVerifier) -> anyhow::Result<Option<Checkpoint>> {
    let path = directory.join("checkpoint");
    let note = match std::fs::read_to_string(&path) {
        Ok(note) => note,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    let found = Checkpoint::open(&note, key);
    Ok(Some(found.with_context(|| format!("{} is not by this ledger's key", path.display()))?))
}

fn continues(source: &mut Source, before: &Checkpoint, head: &Checkpoint) -> anyhow::Result<()> {
    if before.size > head.size {
        bail!("it has {} entries, and this ledger only {}", before.size, head.size);
    }
    if before.size == 0 {
        return Ok(());
    }
    let proof = source.consistency(before.size, head.size)?;
    ensure!(
        verify_consistency(before.size, before.root, head.size, head.root, &proof),
        "its {} entries are not the beginning of this ledger",
        before.size
    );
    Ok(())
}

/// Every tile of a ledger of `size` entries; those at the right edge as far as they are filled.
fn tiles(size: u64) -> impl Iterator<Item = TilePath> {
    let levels = (0u32..8).map(move |level| (TileKind::Hashes(level), size >> (TILE_HEIGHT * level)));
    let kinds = std::iter::once((TileKind::Entries, size)).chain(levels);
    kinds.flat_map(|(kind, count)| {
        (0..count.div_ceil(TILE_WIDTH)).map(move |index| {
            let width = (count - index * TILE_WIDTH).min(TILE_WIDTH);
            TilePath { kind, index, width: u16::try_from(width).unwrap_or(u16::MAX) }
        })
    })
}

/// Takes away the tiles that were at the edge before and are not any more; what remains of them is
/// in the tiles that took their place. Leftovers are harmless, so an error is none.
fn remove_partial(directory: &Path, before: u64, now: u64) {
    let current: Vec<PathBuf> = edge(directory, now).collect();
    for old in edge(directory, before).filter(|old| !current.contains(old)) {
        let _ = std::fs::remove_file(&old);
        // The directory goes with the last of them.
        let _ = old.parent().map(std::fs::remove_dir);
    }
}

fn edge(directory: &Path, size: u64) -> impl Iterator<Item = PathBuf> {
    let partial = tiles(size).filter(|path| u64::from(path.width) < TILE_WIDTH);
    partial.map(|path| directory.join(path.to_string()))
}

fn write(path: &Path, octets: &[u8]) -> anyhow::Result<()> {
    let failed = || format!("{} cannot be written", path.display());
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).with_context(failed)?;
    }
    durable::replace(path, octets, 0o644).with_context(failed)
}
