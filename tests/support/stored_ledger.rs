//! A CA as the library makes one, without a daemon: a ledger of any length, quickly, at a fixed time.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use psfca::ca::authorities::{Authorities, CaFiles};
use psfca::ca::identity::HostIdentity;
use psfca::ca::key_file::load_ledger_key;
use psfca::ca::template::LeafTemplates;
use psfca::challenge::Challenges;
use psfca::checkpoints::Checkpoints;
use psfca::clock::{Clock, Timestamp};
use psfca::declaration::{Declaration, Rules};
use psfca::diagnostic::SourceFile;
use psfca::digest::Digest;
use psfca::enroll::Approval;
use psfca::enrollment::{KeyDecision, RequestAction};
use psfca::grant::{CertificateKind, Rule};
use psfca::host::{HostAction, HostChange, OperatorName, Remark};
use psfca::in_force::{DeclarationSlot, InForce};
use psfca::init::{Founding, RootKeyPlace, found, ledger_path};
use psfca::issue::{CertificateAuthority, KeySource};
use psfca::ledger::CertificateRecord;
use psfca::name::{DnsName, HostName};
use psfca::profile::{KeyKind, Lifetime, SubjectFields};
use psfca::random::SystemRandom;
use psfca::serial::Serial;
use psfca::source::Source;
use psfca::store::{Condition, Draft, NewDecision, NewDeclaration, NewHostState, NewSaltKeys, Store, Sweep};

use super::{ROLES_YAML, TLS_YAML};

/// When it all begins.
pub const BEGIN: i64 = 1_795_255_200;
/// The ledger's name.
pub const ORIGIN: &str = "psf.io/PSF_CA";

/// Begins at [`BEGIN`] and stands still until it is set.
#[derive(Default)]
pub struct Standing(AtomicI64);

impl Standing {
    /// So many seconds after the beginning.
    pub fn set(&self, seconds: i64) {
        self.0.store(seconds, Ordering::Relaxed);
    }
}

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix(BEGIN + self.0.load(Ordering::Relaxed))
    }
}

/// The CA, its ledger open.
pub struct Books {
    pub dir: tempfile::TempDir,
    pub ca: Arc<CertificateAuthority>,
    pub clock: Arc<Standing>,
    request: Vec<u8>,
}

impl Books {
    /// A new CA with a declaration in force.
    pub async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(Standing::default());
        let (state, subject) = (dir.path().join("state"), subject());
        std::fs::create_dir(&state).unwrap();
        found(&Founding {
            name: "PSF_CA",
            subject: &subject,
            key: KeyKind::EcdsaP256,
            state: &state,
            root_key: RootKeyPlace::InState,
            clock: &*clock,
            random: &SystemRandom,
        })
        .await
        .unwrap();
        let files = CaFiles::in_state(&state);
        let store = Arc::new(Store::open(&ledger_path(&state)).unwrap());
        let ca = CertificateAuthority {
            authorities: Authorities::load(&files).unwrap(),
            store,
            subject,
            templates: LeafTemplates::default(),
            trust_domain: DnsName::parse("psf.io").unwrap(),
            declaration: DeclarationSlot::new(InForce { declaration: declaration(""), since: clock.now() }),
            challenges: Challenges::new(&SystemRandom).unwrap(),
            identity_grace: Duration::from_secs(7 * 86_400),
            checkpoints: Checkpoints::new(load_ledger_key(&files.ledger_key(), ORIGIN).unwrap()),
            clock: clock.clone(),
            random: Arc::new(SystemRandom),
        };
        let key = rcgen::KeyPair::generate().unwrap();
        let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        let request = request.der().to_vec();
        let books = Self { dir, ca: Arc::new(ca), clock, request };
        books.declare("").await;
        books
    }

    /// Puts the declaration in force, with `remark` at its end.
    pub async fn declare(&self, remark: &str) {
        let declaration = declaration(remark);
        let files = sources(remark).iter().map(|file| (file.path().to_owned(), file.text().to_owned())).collect();
        let (at, sha256) = (self.clock.now(), declaration.digest());
        let new = NewDeclaration { at, sha256, names: declaration.services().len(), files };
        self.ca.store.put_in_force(new).await.unwrap();
        drop(self.ca.declaration.replace(InForce { declaration, since: at }));
    }

    /// Enrols a host: three entries.
    pub async fn enroll(&self, host: &str) -> HostIdentity {
        let host = HostName::parse(host).unwrap();
        let (secret, _) = self.ca.make_token(&host, false, 0).await.unwrap();
        let (issued, _) = self.ca.enroll(&secret, &self.request).await.unwrap();
        HostIdentity { host, issued: self.clock.now(), not_after: issued.not_after, serial: issued.serial }
    }

    /// Asks to be `host`, and has an operator decide, if that is wanted. The key that is approved enrols where `enrolls`.
    pub async fn ask_to_be(&self, host: &str, action: Option<RequestAction>, enrolls: bool) {
        let host = HostName::parse(host).unwrap();
        let from = Source::from(IpAddr::from(Ipv4Addr::LOCALHOST));
        let asked = self.ca.enroll_approved(&host, &self.request, from).await.unwrap();
        let Approval::Waiting { key_sha256, .. } = asked else { panic!("approved already") };
        if let Some(action) = action {
            let decision = KeyDecision { host: host.clone(), key_sha256, operator_uid: 0 };
            self.ca.store.decide_request(NewDecision { at: self.clock.now(), action, decision }).await.unwrap();
        }
        if enrolls {
            let answer = self.ca.enroll_approved(&host, &self.request, from).await.unwrap();
            assert!(matches!(answer, Approval::Issued(_)));
        }
    }

    /// Imports these Salt keys, of which none can sign anything.
    pub async fn import_salt_keys(&self, hosts: &[&str]) {
        let keys = hosts.iter().map(|host| (HostName::parse(host).unwrap(), host.as_bytes().to_vec())).collect();
        let new = NewSaltKeys { at: self.clock.now(), keys, operator_uid: 0 };
        self.ca.store.import_salt_keys(new).await.unwrap();
    }

    /// Renews an identity, with the key of all hosts here; one more entry.
    pub async fn renew(&self, identity: &HostIdentity) -> HostIdentity {
        let issued = self.ca.renew_identity(identity, &self.request).await.unwrap();
        let (issued_at, host) = (self.clock.now(), identity.host.clone());
        HostIdentity { host, issued: issued_at, not_after: issued.not_after, serial: issued.serial }
    }

    /// Somebody else asks to renew an identity that was renewed; its host is frozen.
    pub async fn fork(&self, identity: &HostIdentity) {
        let key = rcgen::KeyPair::generate().unwrap();
        let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        self.ca.renew_identity(identity, request.der()).await.unwrap_err();
    }

    /// Does what an operator does to a host.
    pub async fn change(&self, host: &str, action: HostAction) {
        let remark = Some(Remark::parse("because").unwrap());
        let change =
            HostChange { host: HostName::parse(host).unwrap(), operator: OperatorName::OperatorUid(0), remark };
        self.ca.store.change_host(NewHostState { at: self.clock.now(), action, change }).await.unwrap();
    }

    /// Issues so many service certificates, many at a time.
    pub async fn issue(&self, hosts: &[HostIdentity], count: usize) {
        let names = ["postgresql.psf.io", "app.psf.io"].map(|name| DnsName::parse(name).unwrap());
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..count {
            let (ca, host, name) = (Arc::clone(&self.ca), hosts[n % hosts.len()].clone(), names[n % 2].clone());
            let request = self.request.clone();
            tasks.spawn(async move { ca.issue(&host, &name, KeySource::Request(&request)).await.unwrap() });
            if tasks.len() >= 64 {
                let _ = tasks.join_next().await.unwrap().unwrap();
            }
        }
        let _ = tasks.join_all().await;
    }

    /// Records so many certificates that are never signed, as if crashes had come between.
    pub async fn record_only(&self, count: usize) {
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..count {
            let (store, now) = (Arc::clone(&self.ca.store), self.clock.now());
            let draft = unsigned(now, n);
            tasks.spawn(async move {
                let _ = store.record(draft).await.unwrap();
            });
            if tasks.len() >= 2_000 {
                tasks.join_next().await.unwrap().unwrap();
            }
        }
        tasks.join_all().await;
    }

    /// Drops the bodies of what ends within so many seconds after the beginning; how many.
    pub async fn drop_bodies(&self, seconds: i64) -> u64 {
        let mut sweep = Sweep::new(Timestamp::from_unix(BEGIN + seconds));
        while self.ca.store.sweep(&mut sweep, self.clock.now()).await.unwrap() {}
        sweep.dropped()
    }

    /// The newest signed checkpoint.
    pub fn checkpoint(&self) -> String {
        self.ca.checkpoints.sign(self.ca.store.head())
    }

    /// Writes everything out, so that the file alone is the ledger.
    pub fn close(&self) -> PathBuf {
        self.ca.store.close();
        // The reading connection of the store stays open, so the log has to be emptied by hand.
        let path = ledger_path(&self.state());
        let sql = rusqlite::Connection::open(&path).unwrap();
        sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        path
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }
}

/// That of the sample in `ca-config/`.
fn subject() -> SubjectFields {
    let text = |text: &str| Some(text.to_owned());
    SubjectFields {
        country: text("US"),
        state: text("NH"),
        locality: text("Wolfeboro"),
        organization: text("Python Software Foundation"),
        organizational_unit: text("Infrastructure Team"),
        email: text("infrastructure-staff@python.org"),
    }
}

fn sources(remark: &str) -> [SourceFile; 2] {
    let roles = format!("{ROLES_YAML}{remark}");
    [SourceFile::new("tls.yaml", TLS_YAML.to_owned()), SourceFile::new("roles.yaml", roles)]
}

fn declaration(remark: &str) -> Declaration {
    let max_lifetime = Lifetime::days(std::num::NonZero::new(90).unwrap());
    Declaration::parse(&sources(remark), &Rules { max_lifetime, ..Rules::default() }).unwrap().0
}

/// A record of a certificate that nobody signed, of about the size of a true one.
pub fn unsigned(now: Timestamp, n: usize) -> Draft {
    let tbs: Vec<u8> = n.to_be_bytes().repeat(75);
    let place = |line| psfca::grant::Place { file: "salt/ca-config/tls.yaml".into(), line };
    let record = CertificateRecord {
        kind: CertificateKind::Service,
        serial: Serial::generate(now, &SystemRandom).unwrap(),
        name: format!("service{}.psf.io", n % 500),
        host: Some(HostName::parse(&format!("pg{}.iad1.psf.io", n % 20_011)).unwrap()),
        not_before: now,
        not_after: now.plus(Duration::from_secs(86_400 * (1 + n as u64 % 90))),
        key_sha256: Digest::of(b"key"),
        ca_made_key: false,
        tbs_sha256: Digest::of(&tbs),
        rule: Rule::Declaration {
            declaration: Digest::of(b"declaration"),
            listed: place(31),
            role: psfca::name::RoleName::parse(["postgresql", "loadbalancer", "web"][n % 3]).unwrap(),
            defined: place(7),
            pattern: "pg*.iad1.psf.io".into(),
        },
    };
    Draft::new(now, record, tbs.into(), Condition::Always).unwrap()
}
