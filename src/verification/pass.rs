//! One pass over the entries, in their order.

use super::signatures::{Issuers, Workers};
use super::tables::Tables;
use super::{Finding, Summary, backup, unreadable};
use crate::ca::authorities::CaCertificates;
use crate::ca::statement::recovery_by;
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::grant::CertificateKind;
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::frontier::Frontier;
use crate::ledger::tree::{TILE_HEIGHT, TILE_WIDTH};
use crate::ledger::{CertificateView, Entry, Event, leaf_hash};
use crate::name::HostName;
use crate::root_statement::SignedRecovery;
use crate::store::{CopiedBody, CopiedCertificate, CopiedEntry, CopiedEvent, LedgerCopy, Octets, StoreError};
use crate::wire::EventKind;

/// What is known after the entries so far.
pub(super) struct Pass<'p, 's> {
    copy: &'p LedgerCopy,
    against: Option<&'p Checkpoint>,
    tell: &'p mut dyn FnMut(Finding),
    frontier: Frontier,
    /// The index that the next entry must have.
    next: u64,
    drops: Drops,
    tables: Tables,
    issuers: Issuers,
    workers: Workers<'s>,
    certificates: u64,
    unreleased: u64,
    dropped: u64,
}

impl<'p, 's> Pass<'p, 's> {
    pub(super) fn new(
        copy: &'p LedgerCopy,
        against: Option<&'p Checkpoint>,
        workers: Workers<'s>,
        tell: &'p mut dyn FnMut(Finding),
    ) -> Self {
        let drops = Drops::read(copy).unwrap_or_else(|error| {
            tell(unreadable(None, &error));
            Drops::default()
        });
        let (frontier, tables, issuers) = (Frontier::default(), Tables::default(), Issuers::default());
        let (next, certificates, unreleased, dropped) = (0, 0, 0, 0);
        Self { copy, against, tell, frontier, next, drops, tables, issuers, workers, certificates, unreleased, dropped }
    }

    pub(super) const fn size(&self) -> u64 {
        self.frontier.size()
    }

    fn find(&mut self, index: u64, what: impl Into<String>) {
        (self.tell)(Finding { index: Some(index), what: what.into() });
    }

    /// A row of a table beside the entries without an entry.
    pub(super) fn stray(&mut self, table: &str, index: i64) {
        let index_if_one = u64::try_from(index).ok();
        let what = format!("the table {table} has a row {index}, and there is no such entry");
        (self.tell)(Finding { index: index_if_one, what });
    }

    /// A row with a cell of another type than its column's.
    pub(super) fn mistyped(&mut self, table: &str, index: i64) {
        let what = format!("the row of {table} has a cell that is not of its column's type");
        (self.tell)(Finding { index: u64::try_from(index).ok(), what });
    }

    /// A row whose record is none.
    pub(super) fn unreadable(&mut self, table: &str, index: i64) {
        let what = format!("the row of {table} cannot be read");
        (self.tell)(Finding { index: u64::try_from(index).ok(), what });
    }

    /// The next entry, with what lies beside it.
    pub(super) fn entry(&mut self, row: &CopiedEntry<'_>) {
        let Ok(index) = u64::try_from(row.index) else {
            (self.tell)(Finding { index: None, what: format!("an entry has the index {}", row.index) });
            return;
        };
        match index.checked_sub(self.next) {
            Some(0) => {}
            Some(1) => self.find(self.next, "1 entry is missing from here".to_owned()),
            Some(missing) => self.find(self.next, format!("{missing} entries are missing from here")),
            None => self.find(index, format!("the entry comes after entry {}", self.next - 1)),
        }
        self.next = index + 1;
        let leaf = leaf_hash(row.bytes);
        if row.leaf_hash != leaf.as_bytes() {
            self.find(index, "the stored leaf hash is not that of the entry");
        }
        if let Some(entry) = CertificateView::read(row.bytes) {
            self.grow(index, leaf);
            return self.certificate(index, &entry, row);
        }
        let decoded = Entry::decode(row.bytes);
        if let Ok(Entry { event: Event::Recovered { statement, .. }, .. }) = &decoded {
            self.recovery(index, statement);
        }
        self.grow(index, leaf);
        match decoded {
            Ok(entry) => self.beside(index, entry, row),
            Err(error) => self.find(index, error.to_string()),
        }
    }

    /// Adds a leaf to the tree; checks the tiles that it completes and the head that is looked for.
    fn grow(&mut self, index: u64, leaf: Digest) {
        let (copy, tell) = (self.copy, &mut self.tell);
        self.frontier.push(leaf, |node, hash| {
            if !node.level.is_multiple_of(TILE_HEIGHT) {
                return;
            }
            let level = node.level / TILE_HEIGHT;
            let what = match copy.tile_hash(level, node.index) {
                Ok(Some(stored)) if stored == hash => return,
                Ok(Some(_)) => {
                    format!("the stored hash of tile {} at level {level} is not that of its entries", node.index)
                }
                Ok(None) => format!("the hash of tile {} at level {level} is missing", node.index),
                Err(error) => format!("the hash of tile {} at level {level} cannot be read: {error}", node.index),
            };
            tell(Finding { index: Some(index), what });
        });
        if self.against.is_some_and(|checkpoint| checkpoint.size == self.frontier.size()) {
            self.compare_head();
        }
    }

    fn compare_head(&mut self) {
        let Some(Checkpoint { size, root, .. }) = self.against else { return };
        let here = self.frontier.root();
        if here != *root {
            let what = format!(
                "the first {size} entries are not those of the checkpoint: their root is {here}, the checkpoint's is {root}"
            );
            (self.tell)(Finding { index: None, what });
        }
    }

    /// Compares the rows beside an entry with what it says.
    fn beside(&mut self, index: u64, entry: Entry, row: &CopiedEntry<'_>) {
        let Entry { time, event, .. } = entry;
        if let Event::Certificate(record) = &event {
            return self.certificate(index, &CertificateView::of(time, record), row);
        }
        self.tables.note_times(index, time, None);
        if row.certificate.is_some() || row.body.is_some() {
            self.find(index, "the entry is no certificate's, but has a row in certificate or body");
        }
        match &row.event {
            Some(stored) => self.event(index, time, event.kind(), event.host(), stored),
            None => self.find(index, "its row in event is missing"),
        }
        if let Err(what) = self.tables.apply(index, time, event) {
            self.find(index, what);
        }
    }

    /// A recovery names the head that it follows, and is signed by a root of this ledger.
    fn recovery(&mut self, index: u64, statement: &str) {
        let signed = match SignedRecovery::parse(statement) {
            Ok(signed) => signed,
            Err(error) => return self.find(index, format!("the recovery's statement cannot be read: {error}")),
        };
        let claim = signed.claim();
        if (claim.size, claim.root) != (self.frontier.size(), self.frontier.root()) {
            self.find(index, "the recovery is not of the entries before it");
        }
        if !self.workers.are_idle()
            && let Err(error) = recovery_by(statement, self.issuers.roots())
        {
            self.find(index, format!("the recovery's statement is not to be believed: {error}"));
        }
    }

    fn event(&mut self, index: u64, time: Timestamp, kind: EventKind, host: Option<&HostName>, row: &CopiedEvent<'_>) {
        self.text(index, "event.event", row.event, Some(kind.as_str()));
        self.text(index, "event.host", row.host, host.map(HostName::as_str));
        self.number(index, "event.recorded", row.recorded, time.unix());
    }

    /// Compares the rows beside a certificate's entry with what it says.
    fn certificate(&mut self, index: u64, entry: &CertificateView<'_>, row: &CopiedEntry<'_>) {
        self.tables.note_times(index, entry.time, Some(entry.not_after));
        if row.event.is_some() {
            self.find(index, "a certificate's entry has a row in event");
        }
        match &row.certificate {
            Some(stored) => self.certificate_row(index, entry, stored, row.body),
            None => self.find(index, "its row in certificate is missing"),
        }
        if let Err(what) = self.tables.identity(index, entry) {
            self.find(index, what);
        }
    }

    fn certificate_row(
        &mut self,
        index: u64,
        entry: &CertificateView<'_>,
        row: &CopiedCertificate<'_>,
        body: Option<CopiedBody<'_>>,
    ) {
        self.certificates += 1;
        if row.serial != Some(entry.serial.octets()) {
            self.find(index, format!("certificate.serial is not the entry's, {}", entry.serial));
        }
        self.text(index, "certificate.name", row.name, Some(entry.name));
        self.text(index, "certificate.host", row.host, entry.host);
        self.text(index, "certificate.role", row.role, entry.role);
        self.number(index, "certificate.recorded", row.recorded, entry.time.unix());
        self.number(index, "certificate.not_after", row.not_after, entry.not_after.unix());
        if row.dropped != Some(body.is_none().into()) {
            let there = if body.is_some() { "there" } else { "missing" };
            self.find(index, format!("certificate.dropped is not what it is where the body is {there}"));
        }
        match body {
            Some(body) => {
                if row.released != Some(body.signature.is_some().into()) {
                    self.find(index, "certificate.released does not say whether there is a signature");
                }
                self.body(index, entry, body);
            }
            None => self.without_body(index, entry, row),
        }
    }

    fn body(&mut self, index: u64, entry: &CertificateView<'_>, body: CopiedBody<'_>) {
        let Some(tbs) = body.tbs.filter(|tbs| Digest::of(tbs) == entry.tbs_sha256) else {
            return self.find(index, "the to-be-signed bytes in body.tbs do not have the entry's hash");
        };
        match body.signature {
            Some(signature) => self.signature(index, entry.kind, tbs, signature),
            None => {
                self.unreleased += 1;
                if entry.kind.is_ca() {
                    self.find(index, "a CA certificate has no signature, so nothing that it signed can be checked");
                }
            }
        }
    }

    /// A body may be missing where a later entry says so.
    fn without_body(&mut self, index: u64, entry: &CertificateView<'_>, row: &CopiedCertificate<'_>) {
        if entry.kind.is_ca() {
            self.find(index, "the CA certificate's body is missing, and those are never dropped");
        } else if !self.drops.cover(index, entry.not_after) {
            self.find(index, "the certificate's body is missing, and no entry says that it was dropped");
        }
        self.dropped += 1;
        match row.released {
            Some(0) => self.unreleased += 1,
            Some(1) => {}
            _ => self.find(index, "certificate.released is neither yes nor no"),
        }
    }

    fn signature(&mut self, index: u64, kind: CertificateKind, tbs: &[u8], signature: &[u8]) {
        if self.workers.are_idle() {
            return;
        }
        if kind.is_ca() {
            self.workers.count(1);
            if let Err(what) = self.issuers.add(kind, tbs, signature) {
                self.find(index, what);
            }
        } else {
            self.workers.check(&self.issuers, index, kind, tbs, signature);
        }
    }

    fn text(&mut self, index: u64, column: &str, stored: Octets<'_>, expected: Option<&str>) {
        if stored != expected.map(str::as_bytes) {
            let stored =
                stored.map_or_else(|| "nothing".to_owned(), |text| format!("{:?}", String::from_utf8_lossy(text)));
            let expected = expected.map_or_else(|| "nothing".to_owned(), |text| format!("{text:?}"));
            self.find(index, format!("{column} is {stored}, by the entry it is {expected}"));
        }
    }

    fn number(&mut self, index: u64, column: &str, stored: Option<i64>, expected: i64) {
        if stored != Some(expected) {
            let stored = stored.map_or_else(|| "no number".to_owned(), |number| number.to_string());
            self.find(index, format!("{column} is {stored}, by the entry it is {expected}"));
        }
    }

    /// The entries are over, or cannot be read further: everything that only the end shows.
    pub(super) fn end(self, outcome: Result<(), StoreError>) -> (Summary, Option<CaCertificates>) {
        let Self {
            copy,
            against,
            tell,
            frontier,
            next,
            tables,
            issuers,
            workers,
            certificates,
            unreleased,
            dropped,
            ..
        } = self;
        if let Err(error) = outcome {
            tell(unreadable(Some(next), &error));
        }
        let size = frontier.size();
        let mut find = |index, what| tell(Finding { index, what });
        match against {
            Some(checkpoint) if checkpoint.size > size => {
                let what = format!(
                    "the checkpoint is of {} entries, and here are {size}: this ledger is older, or was cut",
                    checkpoint.size
                );
                find(None, what);
            }
            // No entry precedes this head, so no entry led to the comparison.
            Some(checkpoint) if checkpoint.size == 0 && checkpoint.root != Frontier::default().root() => {
                find(None, "the checkpoint has no entries and yet another root".to_owned());
            }
            _ => {}
        }
        let (signatures, wrong) = workers.finish();
        for index in wrong {
            find(Some(index), "the stored signature is not by a CA of this ledger".to_owned());
        }
        tables.compare(copy, size / TILE_WIDTH, &mut find);
        let root = frontier.root();
        backup::compare(copy, size, root, &mut find);
        let summary = Summary { entries: size, root, certificates, unreleased, dropped, signatures, differences: 0 };
        (summary, issuers.newest())
    }
}

/// The entries that say which bodies need not be there.
#[derive(Debug, Default)]
struct Drops {
    /// The index of each, rising, and the latest end that it or one after it names.
    latest: Vec<(u64, Timestamp)>,
}

impl Drops {
    /// Reads them before the pass comes to them, by which they are then hashed like every entry.
    fn read(copy: &LedgerCopy) -> Result<Self, StoreError> {
        let mut latest = Vec::new();
        for (index, bytes) in copy.events(EventKind::BodiesDropped)? {
            // What cannot be read is found by the pass.
            if let (Ok(index), Ok(Entry { event: Event::BodiesDropped { ended_before }, .. })) =
                (u64::try_from(index), Entry::decode(&bytes))
            {
                latest.push((index, ended_before));
            }
        }
        latest.sort_unstable_by_key(|(index, _)| *index);
        let mut end = Timestamp::from_unix(0);
        for (_, ended_before) in latest.iter_mut().rev() {
            end = end.max(*ended_before);
            *ended_before = end;
        }
        Ok(Self { latest })
    }

    /// Whether the body of the certificate at `index`, which ended at `end`, need not be there.
    fn cover(&self, index: u64, end: Timestamp) -> bool {
        let later = self.latest.partition_point(|(drop, _)| *drop < index);
        self.latest.get(later).is_some_and(|(_, ended_before)| end < *ended_before)
    }
}
