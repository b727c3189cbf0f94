//! Entries by the million, through the store's own verbs: what a CA with a few thousand hosts, certificates
//! of a day or a month and a declaration that changes now and then records in 800 days.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use psfca::clock::{Clock as _, Timestamp};
use psfca::declaration;
use psfca::digest::Digest;
use psfca::enrollment::EnrolledBy;
use psfca::grant::{CertificateKind, Place, Rule};
use psfca::ledger::CertificateRecord;
use psfca::name::{HostName, RoleName};
use psfca::random::SystemRandom;
use psfca::serial::Serial;
use psfca::store::{Condition, Draft, NewDeclaration, NewToken, Store};

use crate::measure::Times;
use crate::support::stored_ledger::{BEGIN, Books};

const DAY: u64 = 86_400;
/// From the first entry to the last.
const SPAN: u64 = 800 * DAY;
/// Requests at one time.
const AT_ONCE: usize = 512;
/// Requests that are timed alone.
const ALONE: usize = 100;
/// Names; each has a role of its own third.
const NAMES: u64 = 500;
/// Among the first certificates, those with names, hosts and roles that come never again.
const OLD: u64 = 1_000;

pub(crate) struct Filler {
    path: PathBuf,
    store: Arc<Store>,
    begin: Timestamp,
    entries: u64,
    hosts: u64,
    /// Names of each host.
    names_each: u64,
    /// The to-be-signed bytes of a real certificate, and where its serial lies in them.
    template: (Vec<u8>, usize),
    drafted: u64,
}

impl Filler {
    /// A new ledger.
    pub(crate) async fn begin(path: &Path, entries: u64, names_each: u64) -> Self {
        let template = found(path).await;
        let store = Arc::new(Store::open(path).unwrap());
        let begin = Timestamp::from_unix(BEGIN).minus(Duration::from_secs(SPAN));
        let hosts = (entries / 400).min(5_000);
        Self { path: path.to_owned(), store, begin, entries, hosts, names_each, template, drafted: 0 }
    }

    /// Appends until there are so many entries; how many a second, and what one alone took.
    pub(crate) async fn fill_to(&mut self, mark: u64) -> (f64, Times) {
        let (before, begin) = (self.store.head().size, Instant::now());
        let most = mark.saturating_sub(ALONE as u64);
        while self.store.head().size < most {
            let count = (most - self.store.head().size).min(AT_ONCE as u64);
            let mut tasks = Vec::new();
            for _ in 0..count {
                tasks.push(tokio::spawn(self.append()));
            }
            for task in tasks {
                task.await.unwrap();
            }
        }
        let rate = (self.store.head().size - before) as f64 / begin.elapsed().as_secs_f64();
        let mut alone = Vec::new();
        while self.store.head().size < mark {
            let begin = Instant::now();
            self.append().await;
            alone.push(begin.elapsed());
        }
        (rate, Times::of(alone))
    }

    /// The next entry: nearly always a certificate, now and then a declaration or what enrols a host.
    fn append(&mut self) -> impl Future<Output = ()> + use<> {
        let number = self.drafted;
        self.drafted += 1;
        let at = self.begin.plus(Duration::from_secs(SPAN * number / self.entries));
        let store = Arc::clone(&self.store);
        // The hosts come one by one in the first half.
        let (host, rest) = (number / (self.entries / 2 / self.hosts), number % (self.entries / 2 / self.hosts));
        let declared = number % (self.entries / 50) == self.entries / 100;
        let declaration = declared.then(|| {
            let text = format!("# declaration {number}");
            let sha256 = declaration::digest([("tls.yaml", text.as_str())].into_iter());
            NewDeclaration { at, sha256, names: 1, files: vec![("tls.yaml".to_owned(), text)] }
        });
        let token = (rest == 0 && host < self.hosts).then(|| Digest::of(&host.to_be_bytes()));
        let made = token.map(|hash| {
            let expires = at.plus(Duration::from_secs(3_600));
            NewToken { at, hash, host: self.host(host), expires, replaces: false, operator_uid: 0 }
        });
        let draft = match token {
            Some(token) => self.enrolment(at, host, token),
            None => self.draft(self.record(at, number), at, Condition::Always),
        };
        async move {
            if let Some(declaration) = declaration {
                return store.put_in_force(declaration).await.unwrap();
            }
            if let Some(made) = made {
                store.make_token(made).await.unwrap();
            }
            let recorded = store.record(draft).await.unwrap();
            // Of the old ones a few were never released.
            if number >= 50 {
                store.release(&recorded, signature(number));
            }
        }
    }

    fn enrolment(&self, at: Timestamp, host: u64, token: Digest) -> Draft {
        let mut record = self.record(at, host);
        let host = self.host(host);
        (record.kind, record.name, record.host) = (CertificateKind::Identity, host.to_string(), Some(host));
        (record.not_after, record.rule) = (at.plus(Duration::from_secs(30 * DAY)), Rule::Token { token });
        self.draft(record, at, Condition::Enrollment { by: EnrolledBy::Token { token } })
    }

    fn draft(&self, mut record: CertificateRecord, at: Timestamp, condition: Condition) -> Draft {
        let tbs = self.tbs(&record.serial);
        record.tbs_sha256 = Digest::of(&tbs);
        Draft::new(at, record, tbs, condition).unwrap()
    }

    fn host(&self, number: u64) -> HostName {
        HostName::parse(&format!("pg{}.iad1.psf.io", number % self.hosts)).unwrap()
    }

    fn record(&self, at: Timestamp, number: u64) -> CertificateRecord {
        // Spreads the hosts; each has names of its own.
        let host = (number.wrapping_mul(2_654_435_761) >> 7) % self.hosts;
        let name = (host + number / 20 % self.names_each) % NAMES;
        let place = |line| Place { file: "salt/ca-config/tls.yaml".into(), line };
        let old = number < OLD;
        let role = match name {
            _ if old => "retired",
            0..300 => "web",
            300..499 => "loadbalancer",
            _ => "postgresql",
        };
        let days = match number % 20 {
            0..16 => 1,
            16..19 => 30,
            _ => 90,
        };
        CertificateRecord {
            kind: CertificateKind::Service,
            serial: Serial::generate(at, &SystemRandom).unwrap(),
            name: if old { "old.psf.io".to_owned() } else { format!("service{name}.psf.io") },
            host: Some(if old { HostName::parse("old.iad1.psf.io").unwrap() } else { self.host(host) }),
            not_before: at.minus(Duration::from_secs(3_600)),
            not_after: at.plus(Duration::from_secs(days * DAY)),
            key_sha256: Digest::of(&number.to_be_bytes()),
            ca_made_key: false,
            tbs_sha256: Digest::of(b""),
            rule: Rule::Declaration {
                declaration: Digest::of(b"declaration"),
                listed: place(31),
                role: RoleName::parse(role).unwrap(),
                defined: place(7),
                pattern: "pg*.iad1.psf.io".into(),
            },
        }
    }

    fn tbs(&self, serial: &Serial) -> Arc<[u8]> {
        let (template, at) = &self.template;
        let mut tbs = template.clone();
        tbs[*at..*at + serial.octets().len()].copy_from_slice(serial.octets());
        tbs.into()
    }

    /// Closes the ledger, so that its file is everything.
    pub(crate) fn end(self) {
        self.store.close();
        drop(self.store);
        whole(&self.path);
    }
}

/// Writes what the log holds into the file.
pub(crate) fn whole(path: &Path) {
    let sql = rusqlite::Connection::open(path).unwrap();
    sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

/// Makes the ledger of a new CA; what a real certificate has before its signature, and where its serial is.
async fn found(path: &Path) -> (Vec<u8>, usize) {
    let new = Books::open().await;
    std::fs::copy(new.close(), path).unwrap();
    let other = Books::open().await;
    let host = other.enroll("pg0.iad1.psf.io").await;
    other.issue(&[host], 1).await;
    let newest = other.ca.store.head().size - 1;
    let tbs = other.ca.store.body(newest).await.unwrap().unwrap().tbs;
    let query = psfca::wire::AuditQuery { limit: Some(1), ..psfca::wire::AuditQuery::default() };
    let (page, _) = other.ca.store.entries(query, other.clock.now()).await.unwrap();
    let psfca::ledger::Event::Certificate(record) = &page[0].event else { panic!("the newest is a certificate") };
    let serial = record.serial.octets();
    let at = tbs.windows(serial.len()).position(|octets| octets == serial).unwrap();
    (tbs, at)
}

/// As long as one, and by nobody.
fn signature(number: u64) -> Vec<u8> {
    Digest::of(&number.to_be_bytes()).as_bytes().repeat(3)[..71].to_vec()
}
