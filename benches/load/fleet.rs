//! The CA and its hosts. Both are made by the library, before the daemon starts on that state directory: ten thousand
//! enrolments by the API would take longer than what is measured.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use psfca::ca::authorities::{Authorities, CaFiles};
use psfca::ca::key_file::load_ledger_key;
use psfca::ca::template::LeafTemplates;
use psfca::challenge::Challenges;
use psfca::checkpoints::Checkpoints;
use psfca::clock::{Clock, SystemClock, Timestamp};
use psfca::config::CaConfig;
use psfca::declaration::{Declaration, Rules};
use psfca::diagnostic::SourceFile;
use psfca::in_force::{DeclarationSlot, InForce};
use psfca::init::{Founding, RootKeyPlace, found, ledger_path};
use psfca::issue::CertificateAuthority;
use psfca::name::HostName;
use psfca::profile::KeyKind;
use psfca::random::SystemRandom;
use psfca::store::Store;
use rustls::ClientConfig;

use crate::exchange;
use crate::support::Ca;

/// Names in the declaration; every host may have each of them.
const NAMES: usize = 500;
/// All of them, [`MADE`] included.
pub(crate) const DECLARED: usize = NAMES + 1;
/// The name whose key the CA makes.
pub(crate) const MADE: &str = "made.psf.io";
/// Certificate requests that are made before anything is measured; each has a key of its own.
const REQUESTS: usize = 4_096;
/// Enrolments at one time.
const AT_ONCE: usize = 256;
/// An identity lives 30 days; that of the urgent host was issued so many days ago.
const URGENT_SINCE: u64 = 29;

/// One host.
pub(crate) struct Host {
    pub(crate) name: String,
    /// It connects from here: limits count by address.
    pub(crate) address: Ipv4Addr,
    /// With its identity.
    pub(crate) tls: Arc<ClientConfig>,
}

/// A certificate request.
pub(crate) struct Csr {
    pub(crate) pem: String,
    /// Its public key, DER.
    pub(crate) spki: Vec<u8>,
}

/// All hosts, and what they ask with.
pub(crate) struct Fleet {
    pub(crate) hosts: Vec<Host>,
    /// Its identity is about to end.
    pub(crate) urgent: Host,
    requests: Vec<Csr>,
    next: AtomicUsize,
}

impl Fleet {
    /// The next of the certificate requests, over and over.
    pub(crate) fn csr(&self) -> &Csr {
        &self.requests[self.next.fetch_add(1, Ordering::Relaxed) % self.requests.len()]
    }
}

/// One of the declared names.
pub(crate) fn name(number: usize) -> String {
    format!("service{}.psf.io", number % NAMES)
}

/// Tells the time as it was so many seconds ago.
struct Ago(AtomicU64);

impl Clock for Ago {
    fn now(&self) -> Timestamp {
        SystemClock.now().minus(Duration::from_secs(self.0.load(Ordering::Relaxed)))
    }
}

/// A CA with so many hosts and the urgent one; its daemon does not run.
pub(crate) async fn found_and_enrol(count: usize) -> (Ca, Fleet) {
    let ca = Ca::unmade("");
    std::fs::write(ca.dir().join("tls.yaml"), names_yaml()).unwrap();
    std::fs::write(ca.dir().join("roles.yaml"), roles_yaml()).unwrap();
    let clock = Arc::new(Ago(AtomicU64::new(URGENT_SINCE * 86_400)));
    let authority = Arc::new(authority(&ca, &clock).await);
    let urgent = enrol(&authority, "hurry.iad1.psf.io".to_owned(), Ipv4Addr::new(127, 200, 0, 1)).await;
    clock.0.store(0, Ordering::Relaxed);

    let (mut hosts, mut tasks) = (Vec::new(), tokio::task::JoinSet::new());
    for number in 0..count {
        let authority = Arc::clone(&authority);
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number as u32);
        tasks.spawn(async move { enrol(&authority, format!("h{number}.iad1.psf.io"), address).await });
        if tasks.len() >= AT_ONCE {
            hosts.push(tasks.join_next().await.unwrap().unwrap());
        }
    }
    hosts.extend(tasks.join_all().await);
    authority.store.close();
    let requests = (0..REQUESTS).map(|_| request()).collect();
    (ca, Fleet { hosts, urgent, requests, next: AtomicUsize::new(0) })
}

/// The declared names.
pub(crate) fn names_yaml() -> String {
    let mut text = format!("tls:\n  gen_certs:\n    {MADE}:\n      ca_made_key: true\n      roles: [fleet]\n");
    for number in 0..NAMES {
        text += &format!("    {}:\n      roles: [fleet]\n", name(number));
    }
    text
}

/// The role of all hosts.
pub(crate) fn roles_yaml() -> String {
    "roles:\n  fleet: \"h*.iad1.psf.io\"\n".to_owned()
}

async fn authority(ca: &Ca, clock: &Arc<Ago>) -> CertificateAuthority {
    let source = |path: &str| SourceFile::new(path, std::fs::read_to_string(ca.dir().join(path)).unwrap());
    let (config, _) = CaConfig::parse(&source("ca.yaml")).unwrap();
    let sources = [source("tls.yaml"), source("roles.yaml")];
    let (declaration, _) = Declaration::parse(&sources, &Rules::of(&config)).unwrap();
    std::fs::create_dir(ca.state()).unwrap();
    let founding = Founding {
        name: config.name.as_str(),
        subject: &config.subject,
        key: KeyKind::EcdsaP256,
        state: &ca.state(),
        root_key: RootKeyPlace::InState,
        clock: &**clock,
        random: &SystemRandom,
    };
    found(&founding).await.unwrap();
    let files = CaFiles::in_state(&ca.state());
    CertificateAuthority {
        authorities: Authorities::load(&files).unwrap(),
        store: Arc::new(Store::open(&ledger_path(&ca.state())).unwrap()),
        subject: config.subject.clone(),
        templates: LeafTemplates::default(),
        trust_domain: config.trust_domain.clone(),
        declaration: DeclarationSlot::new(InForce { declaration, since: clock.now() }),
        challenges: Challenges::new(&SystemRandom).unwrap(),
        identity_grace: config.identity_grace,
        checkpoints: Checkpoints::new(load_ledger_key(&files.ledger_key(), &config.ledger_origin()).unwrap()),
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        random: Arc::new(SystemRandom),
    }
}

async fn enrol(authority: &CertificateAuthority, name: String, address: Ipv4Addr) -> Host {
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let (secret, _) = authority.make_token(&HostName::parse(&name).unwrap(), false, 0).await.unwrap();
    let (issued, _) = authority.enroll(&secret, csr.der()).await.unwrap();
    let tls = exchange::client(&issued.chain_pem, key.serialize_der());
    Host { name, address, tls }
}

fn request() -> Csr {
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    Csr { pem: csr.pem().unwrap(), spki: rcgen::PublicKeyData::subject_public_key_info(&key) }
}
