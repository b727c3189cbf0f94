//! The agent against a small daemon in this process: real TLS and HTTP, and answers that the test
//! decides, so that every wrong one can be given.

use std::path::PathBuf;
use std::sync::Mutex;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::renew::{Options, renew};
use super::*;
use crate::ca::bundle::Bundle;
use crate::ca::fixture::{DAY, Fixed, Hierarchy, LeafSpec, dns, now};
use crate::ca::pem_file::certificates_to_pem;
use crate::digest::Digest;
use crate::name::DnsName;
use crate::profile::{BACKDATE, SubjectAltNames, Usages};
use crate::random::SystemRandom;
use crate::report::{Outcome, Report};
use crate::token::{EnrollmentToken, TokenSecret};
use crate::wire::{EnrollRequest, Entitlement, Entitlements};

const NAME: &str = "postgresql.psf.io";

/// What the daemon does wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    None,
    OtherName,
    OtherKey,
    OtherCa,
    Expired,
    OtherSerial,
    Broken,
    Denied,
    OtherTrustBundle,
}

/// A clock that the test moves; the daemon's and the handshake's.
struct Movable(Mutex<Timestamp>);
impl Clock for Movable {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

struct Daemon {
    ca: Hierarchy,
    other: Hierarchy,
    identities: Hierarchy,
    names: Mutex<Vec<&'static str>>,
    fault: Mutex<Fault>,
    clock: Arc<Movable>,
    seen: Mutex<Vec<String>>,
}

impl Daemon {
    fn chain(&self, path: &str, csr: &str) -> String {
        let csr = rcgen::CertificateSigningRequestParams::from_pem(csr).unwrap();
        let now = self.clock.now();
        let (fault, uri) = (*self.fault.lock().unwrap(), Some("spiffe://psf.io/host/pg0.iad1.psf.io".to_owned()));
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

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await?.to_bytes();
        self.seen.lock().unwrap().push(path.clone());
        let fault = *self.fault.lock().unwrap();
        let reply = |status: u16, body: String| {
            let serial = if fault == Fault::OtherSerial { "07" } else { "0123456789ab" };
            Response::builder().status(status).header("psfca-serial", serial).body(Full::from(body)).unwrap()
        };
        let problem = |status: u16, detail: &str| {
            reply(status, format!(r#"{{"type":"urn:x","title":"x","status":{status},"detail":"{detail}"}}"#))
        };
        Ok(match (path.as_str(), fault) {
            ("/PSF_CA.pem", Fault::OtherTrustBundle) => reply(200, certificates_to_pem([&self.other.root_der()])),
            ("/PSF_CA.pem", _) => reply(200, certificates_to_pem([&self.ca.root_der()])),
            ("/v1/certs", _) => reply(200, serde_json::to_string(&self.entitlements()).unwrap()),
            ("/v1/enroll", _) => {
                let ask: EnrollRequest = serde_json::from_slice(&body).unwrap();
                reply(200, self.chain("/v1/enroll", &ask.csr))
            }
            (_, Fault::Broken) => problem(503, "the store is gone"),
            (_, Fault::Denied) => problem(403, "pg0.iad1.psf.io may not have it"),
            (path, _) => reply(200, self.chain(path, std::str::from_utf8(&body).unwrap())),
        })
    }

    fn entitlements(&self) -> Entitlements {
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
        Entitlements { host: "pg0.iad1.psf.io".parse().unwrap(), certs }
    }
}

struct World {
    daemon: Arc<Daemon>,
    address: ServerAddress,
    directory: tempfile::TempDir,
    settings: Settings,
    serving: tokio::task::JoinHandle<()>,
}

async fn world() -> World {
    let daemon = Arc::new(Daemon {
        ca: Hierarchy::new("PSF_CA"),
        other: Hierarchy::new("PSF_CA"),
        identities: Hierarchy::new("identities"),
        names: Mutex::new(vec![NAME]),
        fault: Mutex::new(Fault::None),
        clock: Arc::new(Movable(Mutex::new(now()))),
        seen: Mutex::default(),
    });
    let names = SubjectAltNames { ip: vec!["127.0.0.1".parse().unwrap()], ..SubjectAltNames::default() };
    let own = daemon.ca.bundle(&LeafSpec { not_after: now().plus(DAY * 90), ..LeafSpec::server(&names) });
    let mut chain = own.chain().certificates().to_vec();
    chain.push(daemon.ca.root_der());
    let roots = [daemon.identities.root_der()];
    let tls = tls::server_config(chain, own.key().to_rustls(), &roots, daemon.clock.clone()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = ServerAddress::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    let serving = tokio::spawn(serve(listener, tls, daemon.clone()));
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("host.yaml");
    std::fs::write(&config, "state: state\nbundles: private\ntrust_bundle: certs/PSF_CA.pem\n").unwrap();
    let settings = Settings::read(Some(&config)).unwrap();
    World { daemon, address, directory, settings, serving }
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
    fn agent(&self, at: Timestamp) -> Agent<'_> {
        *self.daemon.clock.0.lock().unwrap() = at;
        Agent { settings: &self.settings, clock: Arc::new(Fixed(at)), random: &SystemRandom, privileged: false }
    }

    fn token(&self, root: Digest) -> EnrollmentToken {
        EnrollmentToken { address: self.address.clone(), root, secret: TokenSecret::generate(&SystemRandom).unwrap() }
    }

    async fn enrolled() -> Self {
        let world = world().await;
        let token = world.token(Digest::of(&world.daemon.ca.root_der()));
        enroll::enroll(&world.agent(now()), &token).await.unwrap().1.unwrap();
        world
    }

    async fn renew(&self, at: Timestamp) -> Report {
        renew(&self.agent(at), Options::default()).await.unwrap()
    }

    fn bundle_path(&self) -> PathBuf {
        self.directory.path().join(format!("private/{NAME}.pem"))
    }

    fn bundle(&self) -> Bundle {
        Bundle::parse(&std::fs::read(self.bundle_path()).unwrap()).unwrap()
    }

    fn set(&self, fault: Fault) {
        *self.daemon.fault.lock().unwrap() = fault;
    }
}

fn outcome(report: &Report) -> &Outcome {
    &report.names.iter().find(|line| line.name.as_str() == NAME).unwrap().outcome
}

#[tokio::test]
async fn a_token_for_another_root_gets_no_request_at_all() {
    let world = world().await;
    let error = enroll::enroll(&world.agent(now()), &world.token(Digest::of(b"another"))).await.unwrap_err();
    assert!(matches!(error, AgentError::Client(ClientError::Untrusted { .. })), "{error}");
    assert_eq!(*world.daemon.seen.lock().unwrap(), [""; 0]);
    assert!(!world.directory.path().join("certs").exists());
}

#[tokio::test]
async fn a_trust_bundle_without_the_pinned_root_is_refused() {
    let world = world().await;
    world.set(Fault::OtherTrustBundle);
    let token = world.token(Digest::of(&world.daemon.ca.root_der()));
    let error = enroll::enroll(&world.agent(now()), &token).await.unwrap_err();
    assert!(error.to_string().contains("does not hold the root that the token names"), "{error}");
    assert!(Enrolment::load(&world.settings.state).is_err());
}

#[tokio::test]
async fn enrolment_then_bundles_then_half_life() {
    let world = World::enrolled().await;
    let half = now().plus(DAY / 2);
    let first = world.renew(now()).await;
    assert!(matches!(outcome(&first), Outcome::Renewed { .. }), "{first:?}");
    assert_eq!(first.exit_code(), 0);
    let key = world.bundle().key().spki().to_vec();
    let idle = world.renew(half.minus(std::time::Duration::from_secs(1))).await;
    assert!(matches!(outcome(&idle), Outcome::NotDue { due, .. } if *due == half), "{idle:?}");
    let again = world.renew(half).await;
    assert!(matches!(outcome(&again), Outcome::Renewed { .. }), "{again:?}");
    assert_ne!(world.bundle().key().spki(), key, "every certificate has a new key");

    // Past half of the identity's 30 days, it goes first.
    let before = Enrolment::load(&world.settings.state).unwrap().identity.to_pem();
    let later = world.renew(now().plus(DAY * 16)).await;
    assert!(matches!(later.identity, Outcome::Renewed { .. }), "{later:?}");
    assert_ne!(Enrolment::load(&world.settings.state).unwrap().identity.to_pem(), before);
    assert!(status::status(&world.agent(now().plus(DAY * 16))).unwrap().is_good(now().plus(DAY * 16)));
}

#[tokio::test]
async fn nothing_wrong_that_the_daemon_says_touches_the_old_bundle() {
    let world = World::enrolled().await;
    world.renew(now()).await;
    let old = std::fs::read(world.bundle_path()).unwrap();
    for (fault, code, text) in [
        (Fault::OtherName, 4, "the certificate is for lb.psf.io"),
        (Fault::OtherKey, 4, "does not belong to the certificate"),
        (Fault::OtherCa, 4, "does not chain to a root that is trusted here"),
        (Fault::Expired, 4, "the certificate expired on"),
        (Fault::OtherSerial, 4, "and the answer says 07"),
        (Fault::Broken, 4, "the store is gone"),
        (Fault::Denied, 3, "pg0.iad1.psf.io may not have it"),
    ] {
        world.set(fault);
        let report = world.renew(now().plus(DAY / 2)).await;
        assert_eq!(report.exit_code(), code, "{fault:?}");
        assert!(
            matches!(outcome(&report), Outcome::Failed { error, .. } if error.contains(text)),
            "{fault:?} {report:?}"
        );
        assert_eq!(std::fs::read(world.bundle_path()).unwrap(), old, "{fault:?}");
    }
    // With less than a quarter of the life left the same fault is urgent.
    assert_eq!(world.renew(now().plus(DAY / 24 * 19)).await.exit_code(), 5);
}

#[tokio::test]
async fn an_absent_daemon_is_no_trouble_until_something_runs_out() {
    let world = World::enrolled().await;
    world.renew(now()).await;
    world.serving.abort();
    let at = |hours: u32| world.renew(now().plus(DAY / 24 * hours));
    assert_eq!(at(1).await.exit_code(), 0, "nothing is due");
    assert_eq!(at(13).await.exit_code(), 4);
    assert_eq!(at(19).await.exit_code(), 5);
    std::fs::write(world.bundle_path(), "torn").unwrap();
    assert_eq!(at(1).await.exit_code(), 5);
    let status = status::status(&world.agent(now())).unwrap();
    assert!(status.bundles[0].problem.as_deref().unwrap().starts_with("it is damaged"), "{status:?}");
}

#[tokio::test]
async fn a_name_that_was_taken_away_is_reported_and_kept() {
    let world = World::enrolled().await;
    world.renew(now()).await;
    world.daemon.names.lock().unwrap().clear();
    let report = world.renew(now().plus(DAY / 2)).await;
    assert!(matches!(outcome(&report), Outcome::NotEntitled { .. }), "{report:?}");
    assert_eq!(report.exit_code(), 0);
    assert!(world.bundle_path().exists());
    // Other people's files in the same directory are none of ours.
    std::fs::write(world.directory.path().join("private/snakeoil.pem"), "theirs").unwrap();
    assert_eq!(world.renew(now().plus(DAY / 2)).await.names.len(), 1);
}

#[tokio::test]
async fn another_trust_bundle_is_refused_and_a_missing_one_written_again() {
    let world = World::enrolled().await;
    let path = &world.settings.trust_bundle;
    let old = std::fs::read(path).unwrap();
    world.set(Fault::OtherTrustBundle);
    let report = world.renew(now()).await;
    assert!(report.trust_problem.as_deref().unwrap().contains("and it is refused"), "{report:?}");
    assert_eq!((report.exit_code(), std::fs::read(path).unwrap()), (1, old.clone()));
    world.set(Fault::None);
    std::fs::remove_file(path).unwrap();
    assert!(world.renew(now()).await.trust_written);
    assert_eq!(std::fs::read(path).unwrap(), old);
}

#[tokio::test]
async fn a_name_with_an_rsa_key_is_left_to_people_and_fails_no_timer() {
    let world = World::enrolled().await;
    *world.daemon.names.lock().unwrap() = vec![NAME, "rsa.psf.io"];
    let report = world.renew(now()).await;
    assert!(report.names.iter().any(|line| line.outcome == Outcome::ByHand), "{report:?}");
    assert_eq!(report.exit_code(), 0);
    assert!(status::status(&world.agent(now())).unwrap().is_good(now()));
}

#[tokio::test]
async fn a_dry_run_asks_and_changes_nothing() {
    let world = World::enrolled().await;
    let options = Options { force: true, dry_run: true };
    let report = renew(&world.agent(now()), options).await.unwrap();
    assert!(matches!(outcome(&report), Outcome::WouldRenew { .. }), "{report:?}");
    assert!(!world.bundle_path().exists());
    assert!(!world.daemon.seen.lock().unwrap().iter().any(|path| path.starts_with("/v1/certs/")));
}

#[tokio::test]
async fn a_request_of_ones_own_keeps_its_key_at_home() {
    let world = World::enrolled().await;
    let agent = world.agent(now());
    let enrolment = Enrolment::load(&world.settings.state).unwrap();
    let mut client = agent.connect(&enrolment).await.unwrap();
    let key = key::generate(KeyKind::EcdsaP256, NAME).unwrap();
    let text = format!("{}{}", key::request(&key).unwrap(), *key.to_pem());
    let request = obtain::Request::parse(text.as_bytes()).unwrap();
    let name = DnsName::parse(NAME).unwrap();
    let anchors = &enrolment.anchors;
    let chain = obtain::chain(&agent, &mut client, anchors, &name, None, &request).await.unwrap();
    assert_eq!(chain.leaf().spki, key.spki());
    world.set(Fault::OtherKey);
    let error = obtain::chain(&agent, &mut client, anchors, &name, None, &request).await.unwrap_err();
    assert!(matches!(error, AgentError::BadAnswer { cause: BundleError::KeyMismatch, .. }), "{error}");
    assert!(obtain::Request::parse(key.to_pem().as_bytes()).is_err());
}

#[tokio::test]
async fn two_runs_at_once_do_not_mix() {
    let world = World::enrolled().await;
    let agent = world.agent(now());
    let _held = agent.lock().unwrap();
    assert!(matches!(renew(&agent, Options::default()).await, Err(AgentError::Busy(_))));
}

#[tokio::test]
async fn an_identity_that_ran_out_says_to_enrol_again() {
    let world = World::enrolled().await;
    world.renew(now()).await;
    let report = world.renew(now().plus(DAY * 31)).await;
    let Outcome::Failed { error, code, critical } = &report.identity else { panic!("{report:?}") };
    assert!(error.contains("does not accept this host's identity") && error.contains("psfca enroll"), "{error}");
    assert!((*code, *critical, report.exit_code()) == (3, true, 5), "{report:?}");
}
