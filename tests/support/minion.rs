//! A Salt master's directory, and requests that its minions sign: made with openssl, without any code of psfca.

use std::path::{Path, PathBuf};
use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::ask::{Answer, P256, ask, csr, openssl};
use super::tools::said;
use super::{Ca, Host};

pub const HOST: &str = "pg0.iad1.psf.io";
pub const OTHER: &str = "pg1.iad1.psf.io";

/// A master's directory with the keys of its minions.
pub struct Master(pub tempfile::TempDir);

impl Master {
    /// With [`HOST`] and [`OTHER`] accepted.
    pub fn new() -> Self {
        let master = Self(tempfile::tempdir().unwrap());
        for directory in ["minions", "minions_pre", "minions_rejected", "minions_denied", "own"] {
            std::fs::create_dir(master.0.path().join(directory)).unwrap();
        }
        for host in [HOST, OTHER] {
            master.minion(host, "minions", 2048);
        }
        master
    }

    pub fn dir(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    /// Makes a minion's pair of keys; the public one lies in `directory`.
    pub fn minion(&self, host: &str, directory: &str, bits: u32) {
        let (key, public) = (self.key(host), self.public(host, directory));
        // In PKCS#1, as Salt writes it.
        openssl(&["genrsa", "-traditional", "-out", key.to_str().unwrap(), &bits.to_string()]);
        openssl(&["rsa", "-in", key.to_str().unwrap(), "-pubout", "-out", public.to_str().unwrap()]);
    }

    pub fn key(&self, host: &str) -> PathBuf {
        self.0.path().join("own").join(format!("{host}.pem"))
    }

    pub fn public(&self, host: &str, directory: &str) -> PathBuf {
        self.0.path().join(directory).join(host)
    }

    /// The hash by which the ledger knows a minion's key.
    pub fn hash(&self, host: &str) -> String {
        let pem = std::fs::read(self.public(host, "minions")).unwrap();
        psfca::digest::Digest::of(pem::parse(pem).unwrap().contents()).to_string()
    }

    pub fn import(&self, ca: &Ca) -> Output {
        ca.psfca(&["host", "import-salt", self.dir()])
    }
}

/// A CA at which one address may try as often as these tests do.
pub fn started_ca() -> Ca {
    let mut ca = Ca::made_with("limits: {enroll_burst: 1000}\n");
    ca.serve();
    ca
}

pub fn started() -> (Ca, Master) {
    let (ca, master) = (started_ca(), Master::new());
    let out = master.import(&ca);
    assert_eq!(said(&out), "2 keys imported, 0 accepted no longer, 0 as before\n");
    (ca, master)
}

/// SHA-256 of a CA's root.
pub fn root(ca: &Ca) -> Vec<u8> {
    let pem = std::fs::read(ca.trust_bundle()).unwrap();
    psfca::digest::Digest::of(pem::parse(pem).unwrap().contents()).as_bytes().to_vec()
}

/// `psfca enroll --salt-key` on a host that calls itself `name`.
pub fn enroll(ca: &Ca, host: &Host, name: &str, key: &Path) -> Output {
    let root = psfca::digest::hex(&root(ca));
    let key = key.to_str().unwrap();
    host.psfca(&["enroll", "--salt-key", key, "--host", name, "--server", ca.address(), "--ca-fingerprint", &root])
}

/// A request as a host would sign it, each part of which a test can change: made without any code of psfca.
pub struct Request {
    pub ca_root: Vec<u8>,
    /// The host that is signed for.
    pub host: String,
    pub challenge: String,
    pub csr: PathBuf,
    /// Salt's key that signs.
    pub key: PathBuf,
}

impl Request {
    pub fn new(ca: &Ca, master: &Master, host: &str) -> Self {
        let (csr, key) = (csr(ca.dir(), &P256), master.key(host));
        Self { ca_root: root(ca), host: host.to_owned(), challenge: challenge(ca), csr, key }
    }

    pub fn signature(&self) -> Vec<u8> {
        let der = self.csr.with_extension("spki");
        let key = self.csr.with_extension("key");
        let [der_path, key_path] = [&der, &key].map(|path| path.to_str().unwrap());
        openssl(&["pkey", "-in", key_path, "-pubout", "-outform", "DER", "-out", der_path]);
        let nonce = URL_SAFE_NO_PAD.decode(&self.challenge).unwrap();
        let mut message = Vec::new();
        let context = b"psfca enrolment with a Salt minion key, version 1";
        for part in [&context[..], &self.ca_root, self.host.as_bytes(), &nonce, &std::fs::read(&der).unwrap()] {
            message.extend((part.len() as u32).to_be_bytes());
            message.extend(part);
        }
        let [text, signature] = ["message", "signature"].map(|ending| self.csr.with_extension(ending));
        std::fs::write(&text, message).unwrap();
        let pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"];
        let files = [self.key.to_str().unwrap(), "-out", signature.to_str().unwrap(), text.to_str().unwrap()];
        openssl(&[&["dgst", "-sha256"], &pss[..], &["-sign"], &files].concat());
        std::fs::read(signature).unwrap()
    }

    /// As it is sent.
    pub fn body(&self) -> Value {
        self.body_as(&self.host, &self.csr, &self.signature())
    }

    fn body_as(&self, host: &str, csr: &Path, signature: &[u8]) -> Value {
        let csr = std::fs::read_to_string(csr).unwrap();
        let signature = URL_SAFE_NO_PAD.encode(signature);
        json!({ "host": host, "csr": csr, "challenge": self.challenge, "signature": signature })
    }

    /// Sent as `host`, with this request for a certificate.
    pub fn send(&self, ca: &Ca, host: &str, csr: &Path, signature: &[u8]) -> Answer {
        post(ca, "/v1/enroll/salt", &self.body_as(host, csr, signature))
    }
}

pub fn post(ca: &Ca, path: &str, body: &Value) -> Answer {
    let kind = "Content-Type: application/json";
    ask(ca, &["--insecure", "--header", kind, "--data-binary", &body.to_string()], path)
}

pub fn challenge(ca: &Ca) -> String {
    let answer = ask(ca, &["--insecure", "--request", "POST", "--header", "Content-Length: 0"], "/v1/enroll/challenge");
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"), "{answer:?}");
    answer.json()["challenge"].as_str().unwrap().to_owned()
}
