//! A daemon that has the CA's own keys, and is sick, cut off, false or stolen: whatever it answers, the old bundle stays, and
//! `psfca renew` says what is wrong and exits as docs/host.md says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use support::tools::said;
use support::{Ca, Host};
use time::{Duration, OffsetDateTime};

const NAME: &str = "postgresql.psf.io";
const HOST: &str = "pg0.iad1.psf.io";

/// What is wrong with the answer to a request for a certificate.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Status(u16),
    Cut,
    Endless,
    NoPem,
    OtherName,
    OtherKey,
    Expired,
    NotYet,
    OtherCa,
    Unrecorded,
}

/// The keys of an issuing CA.
struct Issuing {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Issuing {
    fn of(ca: &Ca) -> Self {
        let read = |name: &str| fs::read_to_string(ca.state().join("ca").join(name)).unwrap();
        let pem = read("issuing.pem");
        let issuer = Issuer::from_ca_cert_pem(&pem, KeyPair::from_pem(&read("issuing.key")).unwrap()).unwrap();
        Self { pem, issuer }
    }

    /// A certificate as the CA would issue it, from so many hours ago for a day, and the CA's.
    fn chain(&self, name: &str, key: &impl PublicKeyData, hours_ago: i64) -> String {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        let issued = OffsetDateTime::now_utc() - Duration::hours(hours_ago);
        params.not_before = issued - Duration::hours(1);
        params.not_after = issued + Duration::days(1);
        params.serial_number = Some(SerialNumber::from_slice(&issued.unix_timestamp_nanos().to_be_bytes()[8..]));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.signed_by(key, &self.issuer).unwrap().pem() + &self.pem
    }
}

/// Where the host finds what it takes for its CA.
struct FalseDaemon {
    address: String,
    fault: Arc<Mutex<Fault>>,
}

impl FalseDaemon {
    /// It knows what the true one says that the host may have.
    fn start(ours: Issuing, other: Issuing, entitlements: String) -> Self {
        let key = KeyPair::generate().unwrap();
        let chain = ours.chain("localhost", &key, 0);
        Self::presenting(&chain, &key, ours, other, entitlements)
    }

    /// The same with this chain for its own name.
    fn presenting(chain: &str, key: &KeyPair, ours: Issuing, other: Issuing, entitlements: String) -> Self {
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
        let config = Arc::new(config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("localhost:{}", listener.local_addr().unwrap().port());
        let fault = Arc::new(Mutex::new(Fault::Status(500)));
        let daemon = Self { address, fault: Arc::clone(&fault) };
        // Ends with the test's process; nobody waits for it.
        std::thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), tcp);
                while let Some((head, body)) = request(&mut stream) {
                    let answer = match head.starts_with("GET /v1/certs ") {
                        true => http(200, "application/json", &entitlements),
                        false => answer(*fault.lock().unwrap(), &ours, &other, &body),
                    };
                    if stream.write_all(answer.as_bytes()).and_then(|()| stream.flush()).is_err() {
                        break;
                    }
                    // What was cut off, or goes on for ever, is followed by nothing.
                    if !head.starts_with("GET ") {
                        break;
                    }
                }
            }
        });
        daemon
    }
}

/// Head and body of the next request; none where there is none.
fn request(stream: &mut impl std::io::Read) -> Option<(String, String)> {
    let (mut text, mut part) = (Vec::new(), [0; 4_096]);
    loop {
        let so_far = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = so_far.split_once("\r\n\r\n") {
            let length =
                head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0_usize) {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return None,
            Ok(read) => text.extend_from_slice(&part[..read]),
        }
    }
}

fn http(status: u16, kind: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn answer(fault: Fault, ours: &Issuing, other: &Issuing, csr: &str) -> String {
    let csr = CertificateSigningRequestParams::from_pem(csr).unwrap();
    let (key, other_key) = (&csr.public_key, KeyPair::generate().unwrap());
    let chain = |chain: String| http(200, "application/pem-certificate-chain", &chain);
    match fault {
        Fault::Status(status) => http(status, "text/plain", "no"),
        Fault::Cut => chain(ours.chain(NAME, key, 0))[..900].to_owned(),
        Fault::Endless => http(200, "application/pem-certificate-chain", &"x".repeat((1 << 20) + 1)),
        Fault::NoPem => chain("<html>Welcome to the hotel</html>".to_owned()),
        Fault::OtherName => chain(ours.chain("lb.psf.io", key, 0)),
        Fault::OtherKey => chain(ours.chain(NAME, &other_key, 0)),
        Fault::Expired => chain(ours.chain(NAME, key, 25)),
        Fault::NotYet => chain(ours.chain(NAME, key, -3)),
        Fault::OtherCa => chain(other.chain(NAME, key, 0)),
        Fault::Unrecorded => chain(ours.chain(NAME, key, 0)),
    }
}

fn directory(path: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn whatever_the_ca_answers_the_old_bundle_stays_and_the_code_and_the_message_are_right() {
    let mut ca = Ca::start();
    let (host, other) = (Host::enroll(&ca, HOST), Ca::made_with(""));
    host.ok(&["renew"]);
    let identity = host.identity();
    let identity = identity.to_str().unwrap();
    let (status, told) = ca.curl(&["--cert", identity, "--key", identity], "/v1/certs");
    assert_eq!(status, 200, "{told}");
    // Of the names that it may have, one is enough.
    let mut told: serde_json::Value = serde_json::from_str(&told).unwrap();
    told["certs"].as_array_mut().unwrap().retain(|cert| cert["name"] == NAME);
    let daemon = FalseDaemon::start(Issuing::of(&ca), Issuing::of(&other), told.to_string());
    let settings = fs::read_to_string(host.config()).unwrap();
    let (old, around) = (fs::read(host.bundle(NAME)).unwrap(), directory(&host.dir().join("bundles")));
    fs::write(host.config(), format!("{settings}server: ['localhost:1']\n")).unwrap();
    let out = host.psfca(&["renew", "--force"]);
    assert_eq!(out.status.code(), Some(4), "{}", said(&out));
    assert!(said(&out).contains("localhost:1 cannot be reached: nothing listens there"), "{}", said(&out));
    assert_eq!(fs::read(host.bundle(NAME)).unwrap(), old);
    fs::write(host.config(), format!("{settings}server: ['{}']\n", daemon.address)).unwrap();
    for (fault, code, text) in [
        (Fault::Status(500), 4, "answered 500 Internal Server Error and gave no reason"),
        (Fault::Status(503), 4, "answered 503 Service Unavailable and gave no reason"),
        (Fault::Status(302), 4, "answered 302 Found and gave no reason"),
        (Fault::Cut, 4, "cannot be reached: "),
        (Fault::Endless, 4, "gave an answer that makes no sense: more than 1048576 bytes"),
        (Fault::NoPem, 4, "what the CA sent for postgresql.psf.io is not used: there is no PEM block in it"),
        (Fault::OtherName, 4, "is not used: the certificate is for lb.psf.io"),
        (Fault::OtherKey, 4, "is not used: the private key does not belong to the certificate"),
        (Fault::Expired, 4, "is not used: the certificate expired on "),
        (Fault::NotYet, 4, "is not used: the certificate is "),
        (Fault::OtherCa, 4, "is not used: the certificate does not chain to a root that is trusted here"),
        // The issuing CA's key alone, stolen: the ledger does not know of it.
        (Fault::Unrecorded, 6, "nothing was installed for postgresql.psf.io; tell whoever runs the CA"),
    ] {
        *daemon.fault.lock().unwrap() = fault;
        let out = host.psfca(&["renew", "--force"]);
        assert_eq!(out.status.code(), Some(code), "{fault:?}: {}", said(&out));
        assert!(said(&out).contains(text), "{fault:?}: {text:?} in {}", said(&out));
        assert_eq!(fs::read(host.bundle(NAME)).unwrap(), old, "{fault:?}");
        assert_eq!(directory(&host.dir().join("bundles")), around, "{fault:?}");
    }

    // Then the true one again: nothing of all that has left a trace.
    fs::write(host.config(), settings).unwrap();
    host.ok(&["renew", "--force"]);
    assert_ne!(fs::read(host.bundle(NAME)).unwrap(), old);
    ca.stop();
}

#[test]
fn whatever_the_ca_s_own_certificate_is_but_right_the_old_bundle_stays() {
    let ca = Ca::start();
    let (host, other) = (Host::enroll(&ca, HOST), Ca::made_with(""));
    host.ok(&["renew"]);
    let settings = fs::read_to_string(host.config()).unwrap();
    let old = fs::read(host.bundle(NAME)).unwrap();
    for (from, name, hours_ago, text) in [
        (&ca, "elsewhere.psf.io", 0, "its certificate is for elsewhere.psf.io, not for localhost"),
        (&ca, "localhost", 25, "is not trusted: the certificate expired: "),
        (&other, "localhost", 0, "its certificate comes from no root that is trusted here"),
    ] {
        let key = KeyPair::generate().unwrap();
        let chain = Issuing::of(from).chain(name, &key, hours_ago);
        let daemon =
            FalseDaemon::presenting(&chain, &key, Issuing::of(&ca), Issuing::of(&other), "{\"certs\": []}".to_owned());
        fs::write(host.config(), format!("{settings}server: ['{}']\n", daemon.address)).unwrap();
        let out = host.psfca(&["renew", "--force"]);
        assert_eq!(out.status.code(), Some(4), "{text}: {}", said(&out));
        assert!(said(&out).contains(text), "{text:?} in {}", said(&out));
        assert_eq!(fs::read(host.bundle(NAME)).unwrap(), old, "{text}");
    }
    fs::write(host.config(), settings).unwrap();
    host.ok(&["renew", "--force"]);
    assert_ne!(fs::read(host.bundle(NAME)).unwrap(), old);
}
