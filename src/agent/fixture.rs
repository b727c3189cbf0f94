//! For tests: a small daemon in this process with real TLS, HTTP and a ledger, whose answers the test
//! decides, so that every wrong one can be given; and a host that is enrolled with it.

use std::path::PathBuf;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::renew::{Options, renew};
use super::*;
use crate::ca::bundle::{Bundle, Leaf};
use crate::ca::fixture::{DAY, Fixed, Hierarchy, LeafSpec, dns, now};
use crate::ca::pem_file::certificates_to_pem;
use crate::digest::Digest;
use crate::grant::{CertificateKind, Rule};
use crate::ledger::CertificateRecord;
use crate::ledger::tree;
use crate::profile::{BACKDATE, SubjectAltNames, Usages};
use crate::random::SystemRandom;
use crate::report::Report;
use crate::token::{EnrollmentToken, TokenSecret};
use crate::wire::{Consistency, EnrollRequest, Entitlement, Entitlements};

mod ledger;

pub(super) use ledger::FakeLedger;

pub(super) const HOST: &str = "pg0.iad1.psf.io";
pub(super) const NAME: &str = "postgresql.psf.io";

/// What the daemon does wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Fault {
    None,
    OtherName,
    OtherKey,
    OtherCa,
    Expired,
    OtherSerial,
    Broken,
    Denied,
    OtherTrustBundle,
    AnotherAnchor,
    NoProof,
    ProofCutOff,
    ProofOfAnother,
    OtherNameRecorded,
    OtherKeyRecorded,
    OtherLedgerKey,
    WrongConsistency,
    NoConsistency,
    LedgerBusy,
    NoReports,
    ReportsBusy,
    /// An answer without what version 0.1.0 did not know, or with what no version knows yet.
    OldAnswer,
    NewAnswer,
    /// What another host may have.
    OfAnotherHost,
    /// 503 with `Retry-After` of so many seconds.
    Busy(u32),
    /// 500 to everything.
    Sick,
}

/// A clock that the test moves; the daemon's and the handshake's.
pub(super) struct Movable(Mutex<Timestamp>);
impl Clock for Movable {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

pub(super) struct Daemon {
    pub(super) ca: Arc<Hierarchy>,
    other: Arc<Hierarchy>,
    identities: Arc<Hierarchy>,
    pub(super) names: Mutex<Vec<&'static str>>,
    fault: Mutex<Fault>,
    pub(super) ledger: Arc<Mutex<FakeLedger>>,
    /// What `/v1/ledger/recovery` answers.
    pub(super) statement: Mutex<Option<String>>,
    clock: Arc<Movable>,
    pub(super) seen: Mutex<Vec<String>>,
}

impl Daemon {
    pub(super) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// The requests since the last call.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    /// A bundle of another CA for the same name.
    pub(super) fn other_bundle(&self) -> String {
        self.other.bundle(&LeafSpec::server(&dns(&[NAME]))).to_pem().to_string()
    }

    fn chain(&self, path: &str, csr: &str) -> String {
        let csr = rcgen::CertificateSigningRequestParams::from_pem(csr).unwrap();
        let now = self.clock.now();
        let (fault, uri) = (*self.fault.lock().unwrap(), Some(format!("spiffe://psf.io/host/{HOST}")));
        let identity = SubjectAltNames { uri, ..SubjectAltNames::default() };
        let names = dns(&[if fault == Fault::OtherName { "lb.psf.io" } else { NAME }]);
        let (not_before, mut not_after) = (now.minus(BACKDATE), now.plus(DAY));
        if !path.starts_with("/v1/certs/") {
            let spec = LeafSpec { names: &identity, usages: Usages::Client, not_before, not_after: now.plus(DAY * 30) };
            return self.identities.sign_by_root(&spec, &csr.public_key).to_pem();
        }
        if fault == Fault::Expired {
            not_after = now.minus(std::time::Duration::from_secs(60));
        }
        let spec = LeafSpec { names: &names, usages: Usages::Server, not_before, not_after };
        match fault {
            Fault::OtherKey => self.ca.sign(&spec, &rcgen::KeyPair::generate().unwrap()).to_pem(),
            Fault::OtherCa => self.other.sign(&spec, &csr.public_key).to_pem(),
            _ => self.ca.sign(&spec, &csr.public_key).to_pem(),
        }
    }

    /// The certificate, recorded, with the headers that say so.
    fn certificate(&self, path: &str, csr: &str) -> Response<Full<Bytes>> {
        let fault = *self.fault.lock().unwrap();
        let pem = self.chain(path, csr);
        let leaf = Leaf::read(&crate::ca::pem_file::certificates(pem.as_bytes()).unwrap()[0]).unwrap();
        let (kind, name) = match path.strip_prefix("/v1/certs/") {
            Some(name) => (CertificateKind::Service, name),
            None => (CertificateKind::Identity, HOST),
        };
        let record = CertificateRecord {
            kind,
            serial: leaf.serial,
            name: if fault == Fault::OtherNameRecorded { "lb.psf.io" } else { name }.to_owned(),
            host: Some(HOST.parse().unwrap()),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            key_sha256: Digest::of(if fault == Fault::OtherKeyRecorded { b"" } else { &leaf.spki }),
            ca_made_key: false,
            tbs_sha256: if fault == Fault::ProofOfAnother { Digest::of(b"") } else { leaf.tbs_sha256 },
            rule: Rule::ServerNames,
        };
        let mut ledger = self.ledger.lock().unwrap();
        let mut proof = ledger.record(record);
        if fault == Fault::OtherLedgerKey {
            proof.checkpoint = FakeLedger { leaves: ledger.leaves.clone(), ..FakeLedger::new() }.checkpoint();
        }
        let mut text = proof.to_text();
        if fault == Fault::ProofCutOff {
            text.truncate(text.find("\n\n").unwrap() - 45);
            text = text + "\n\n" + &proof.checkpoint;
        }
        let serial = if fault == Fault::OtherSerial { "07" } else { "0123456789ab" };
        let mut answer = Response::builder().header("psfca-serial", serial);
        if fault != Fault::NoProof {
            answer = answer.header("psfca-ledger-proof", STANDARD.encode(text));
        }
        if path == "/v1/enroll" {
            answer = answer.header("psfca-ledger-key", ledger.verifier().to_string());
        }
        answer.body(Full::from(pem)).unwrap()
    }

    fn consistency(&self, query: &str) -> String {
        let sizes: Vec<u64> = query.split('&').map(|pair| pair.split_once('=').unwrap().1.parse().unwrap()).collect();
        let ledger = self.ledger.lock().unwrap();
        let mut hashes = tree::consistency_proof(&mut &*ledger, sizes[0], sizes[1]).unwrap().unwrap();
        if *self.fault.lock().unwrap() == Fault::WrongConsistency {
            hashes[0] = Digest::of(b"");
        }
        serde_json::to_string(&Consistency { old: sizes[0], new: sizes[1], hashes }).unwrap()
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let body = request.into_body().collect().await?.to_bytes();
        self.seen.lock().unwrap().push(path.clone());
        let fault = *self.fault.lock().unwrap();
        let reply = |status: u16, body: String| Response::builder().status(status).body(Full::from(body)).unwrap();
        let problem = |status: u16, detail: &str| {
            reply(status, format!(r#"{{"type":"urn:x","title":"x","status":{status},"detail":"{detail}"}}"#))
        };
        Ok(match (path.as_str(), fault) {
            (_, Fault::Sick) => problem(500, "the daemon is sick"),
            ("/PSF_CA.pem", Fault::OtherTrustBundle) => reply(200, certificates_to_pem([&self.other.root_der()])),
            ("/PSF_CA.pem", Fault::AnotherAnchor) => {
                reply(200, certificates_to_pem([&self.ca.root_der(), &self.other.root_der()]))
            }
            ("/PSF_CA.pem", _) => reply(200, certificates_to_pem([&self.ca.root_der()])),
            ("/v1/certs", fault) => reply(200, self.entitlements(fault).to_string()),
            ("/v1/enroll", _) => {
                let ask: EnrollRequest = serde_json::from_slice(&body).unwrap();
                self.certificate("/v1/enroll", &ask.csr)
            }
            ("/v1/ledger/consistency", Fault::NoConsistency) => problem(404, "the ledger has no such size"),
            ("/v1/ledger/consistency", Fault::LedgerBusy) => problem(503, "the store is gone"),
            ("/v1/ledger/consistency", _) => reply(200, self.consistency(&query)),
            ("/v1/ledger/checkpoint", _) => reply(200, self.ledger.lock().unwrap().checkpoint()),
            ("/v1/ledger/recovery", _) => match &*self.statement.lock().unwrap() {
                Some(statement) => reply(200, statement.clone()),
                None => problem(404, "nothing was ever given up"),
            },
            ("/v1/report", Fault::NoReports) => problem(404, "there is nothing at this path"),
            ("/v1/report", Fault::ReportsBusy) => problem(429, "too often"),
            ("/v1/report", _) => reply(200, r#"{"kept":1,"unknown":0}"#.to_owned()),
            (_, Fault::Broken) => problem(503, "the store is gone"),
            (_, Fault::Busy(seconds)) => {
                let mut busy = problem(503, "too much to do");
                busy.headers_mut().insert("retry-after", seconds.into());
                busy
            }
            (_, Fault::Denied) => problem(403, "pg0.iad1.psf.io may not have it"),
            (path, _) => self.certificate(path, std::str::from_utf8(&body).unwrap()),
        })
    }

    fn entitlements(&self, fault: Fault) -> serde_json::Value {
        let entitlement = |name: &&str| Entitlement {
            name: name.parse().unwrap(),
            dns: vec![name.parse().unwrap()],
            ip: Vec::new(),
            usages: Usages::Server,
            lifetime_seconds: 86_400,
            key: if *name == NAME { KeyKind::EcdsaP256 } else { KeyKind::Rsa },
            ca_made_key: false,
            role: crate::name::RoleName::parse("postgresql").unwrap(),
        };
        let certs = self.names.lock().unwrap().iter().map(entitlement).collect();
        let roots = match fault {
            Fault::OldAnswer => Vec::new(),
            Fault::OtherTrustBundle => vec![Digest::of(&self.other.root_der())],
            _ => vec![Digest::of(&self.ca.root_der())],
        };
        let host = if fault == Fault::OfAnotherHost { "pg1.iad1.psf.io" } else { HOST };
        let answer = Entitlements { host: host.parse().unwrap(), certs, roots };
        let mut answer = serde_json::to_value(&answer).unwrap();
        if fault == Fault::NewAnswer {
            answer["weather"] = "fine".into();
            answer["certs"][0]["colour"] = "blue".into();
        }
        answer
    }
}

pub(super) struct World {
    pub(super) daemon: Arc<Daemon>,
    address: ServerAddress,
    pub(super) directory: tempfile::TempDir,
    pub(super) settings: Settings,
    pub(super) serving: tokio::task::JoinHandle<()>,
}

pub(super) async fn world() -> World {
    let daemon = Arc::new(Daemon {
        ca: Arc::new(Hierarchy::new("PSF_CA")),
        other: Arc::new(Hierarchy::new("PSF_CA")),
        identities: Arc::new(Hierarchy::new("identities")),
        names: Mutex::new(vec![NAME]),
        fault: Mutex::new(Fault::None),
        ledger: Arc::new(Mutex::new(FakeLedger::new())),
        statement: Mutex::default(),
        clock: Arc::new(Movable(Mutex::new(now()))),
        seen: Mutex::default(),
    });
    let (address, serving) = listen(&daemon).await;
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("host.yaml");
    std::fs::write(&config, "state: state\nbundles: private\nhooks: hooks.d\ntrust_bundle: certs/PSF_CA.pem\n")
        .unwrap();
    let settings = Settings::read(Some(&config)).unwrap();
    World { daemon, address, directory, settings, serving }
}

async fn listen(daemon: &Arc<Daemon>) -> (ServerAddress, tokio::task::JoinHandle<()>) {
    let names = SubjectAltNames { ip: vec!["127.0.0.1".parse().unwrap()], ..SubjectAltNames::default() };
    let own = daemon.ca.bundle(&LeafSpec { not_after: now().plus(DAY * 90), ..LeafSpec::server(&names) });
    let mut chain = own.chain().certificates().to_vec();
    chain.push(daemon.ca.root_der());
    let roots = [daemon.identities.root_der()];
    let tls = tls::server_config(chain, own.key().to_rustls(), &roots, daemon.clock.clone(), DAY * 7).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = ServerAddress::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    (address, tokio::spawn(serve(listener, tls, daemon.clone())))
}

async fn serve(listener: tokio::net::TcpListener, tls: Arc<rustls::ServerConfig>, daemon: Arc<Daemon>) {
    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, daemon) = (acceptor.clone(), daemon.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(|request| daemon.answer(request));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl World {
    pub(super) fn agent(&self, at: Timestamp) -> Agent<'_> {
        *self.daemon.clock.0.lock().unwrap() = at;
        Agent { settings: &self.settings, clock: Arc::new(Fixed(at)), random: &SystemRandom, privileged: false }
    }

    pub(super) fn token(&self, root: Digest) -> EnrollmentToken {
        EnrollmentToken { address: self.address.clone(), root, secret: TokenSecret::generate(&SystemRandom).unwrap() }
    }

    pub(super) async fn enrolled() -> Self {
        let world = world().await;
        let token = world.token(Digest::of(&world.daemon.ca.root_der()));
        enroll::enroll(&world.agent(now()), &token, false).await.unwrap().trust.unwrap();
        world
    }

    pub(super) async fn renew(&self, at: Timestamp) -> Report {
        renew(&self.agent(at), Options::default()).await.unwrap()
    }

    pub(super) fn bundle_path(&self) -> PathBuf {
        self.directory.path().join(format!("private/{NAME}.pem"))
    }

    pub(super) fn bundle(&self) -> Bundle {
        Bundle::parse(&std::fs::read(self.bundle_path()).unwrap()).unwrap()
    }

    pub(super) fn set(&self, fault: Fault) {
        self.daemon.set(fault);
    }

    pub(super) fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// Another daemon of the same CA.
    pub(super) async fn second_daemon(&self) -> (ServerAddress, Arc<Daemon>) {
        let Daemon { ca, other, identities, ledger, clock, .. } = &*self.daemon;
        let daemon = Arc::new(Daemon {
            ca: ca.clone(),
            other: other.clone(),
            identities: identities.clone(),
            names: Mutex::new(vec![NAME]),
            fault: Mutex::new(Fault::None),
            ledger: ledger.clone(),
            statement: Mutex::default(),
            clock: clock.clone(),
            seen: Mutex::default(),
        });
        (listen(&daemon).await.0, daemon)
    }
}
