//! Requests whose answers are looked at whole, and the certificate requests that go into them.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Ca, Host};

/// What the daemon answered; status 0 when it gave no answer, with curl's words as the body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Answer {
    fn new((status, text): (u16, String)) -> Self {
        let (head, body) = if status == 0 { ("", text.as_str()) } else { text.split_once("\r\n\r\n").unwrap() };
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// The value of a header, empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next().unwrap_or_default()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The last part of the problem's type, after checking all that RFC 9457 wants.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let document = self.json();
        assert_eq!(document["status"], self.status, "{self:?}");
        for part in ["title", "detail"] {
            assert!(document[part].as_str().is_some_and(|text| !text.is_empty()), "{self:?}");
        }
        let kind = document["type"].as_str().unwrap().strip_prefix("urn:psfca:problem:");
        kind.unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }

    /// Status and problem, to be compared at once.
    pub fn refusal(&self) -> (u16, String) {
        (self.status, self.problem())
    }
}

/// Asks the network listener; `args` go to curl.
pub fn ask(ca: &Ca, args: &[&str], path: &str) -> Answer {
    Answer::new(ca.curl(&[&["--include", "--path-as-is", "--header", "Expect:"], args].concat(), path))
}

/// Asks the admin socket.
pub fn ask_admin(ca: &Ca, args: &[&str], path: &str) -> Answer {
    Answer::new(ca.curl_admin(&[&["--include"], args].concat(), path))
}

/// Asks as `host`, whom its identity proves.
pub fn ask_as(ca: &Ca, host: &Host, args: &[&str], path: &str) -> Answer {
    let identity = host.identity();
    ask(ca, &[&["--cert", identity.to_str().unwrap()], args].concat(), path)
}

/// Posts the file `csr` as a certificate request.
pub fn post_csr(ca: &Ca, host: &Host, csr: &Path, path: &str) -> Answer {
    let body = format!("@{}", csr.display());
    ask_as(ca, host, &["--header", "Content-Type: application/pkcs10", "--data-binary", &body], path)
}

/// Asks for `name` with an empty body, so with a key that the CA makes.
pub fn post_empty(ca: &Ca, host: &Host, path: &str) -> Answer {
    ask_as(ca, host, &["--request", "POST", "--header", "Content-Length: 0"], path)
}

/// Has openssl make a key and a request for it; `args` say which.
pub fn csr(dir: &Path, args: &[&str]) -> PathBuf {
    let file = tempfile::Builder::new().suffix(".csr").tempfile_in(dir).unwrap().keep().unwrap().1;
    let key = file.with_extension("key");
    let files = ["-nodes", "-keyout", key.to_str().unwrap(), "-out", file.to_str().unwrap()];
    openssl(&[&["req", "-new", "-subj", "/CN=asked.example"], &files[..], args].concat());
    file
}

/// What makes openssl take a new key on P-256.
pub const P256: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// Runs openssl, which must succeed; returns standard output.
pub fn openssl(args: &[&str]) -> String {
    let out = Command::new("openssl").args(args).output().unwrap();
    assert!(out.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The secret in an enrolment token.
pub fn secret(token: &str) -> String {
    token.rsplit('.').next().unwrap().to_owned()
}

/// Enrols through the API: whoever has `secret` asks an identity for the key in the file `csr`.
pub fn enroll(ca: &Ca, secret: &str, csr: &Path) -> Answer {
    enroll_from(ca, "127.0.0.1", secret, csr)
}

/// The same, from another of this machine's addresses.
pub fn enroll_from(ca: &Ca, address: &str, secret: &str, csr: &Path) -> Answer {
    let body = serde_json::json!({ "secret": secret, "csr": std::fs::read_to_string(csr).unwrap() }).to_string();
    let args = ["--interface", address, "--insecure", "--header", "Content-Type: application/json"];
    ask(ca, &[&args[..], &["--data-binary", &body]].concat(), "/v1/enroll")
}

/// The identity in an answer, with the key of the request `csr`, as a file for curl.
pub fn identity_file(answer: &Answer, csr: &Path) -> PathBuf {
    assert_eq!(answer.status, 200, "{answer:?}");
    let path = csr.with_extension("identity");
    let key = std::fs::read_to_string(csr.with_extension("key")).unwrap();
    std::fs::write(&path, answer.body.clone() + &key).unwrap();
    path
}

/// Asks by the API to be `host` with the key of the request `csr`.
pub fn ask_to_be(ca: &Ca, host: &str, csr: &Path) -> Answer {
    let body = serde_json::json!({ "host": host, "csr": std::fs::read_to_string(csr).unwrap() }).to_string();
    let kind = "Content-Type: application/json";
    ask(ca, &["--insecure", "--header", kind, "--data-binary", &body], "/v1/enroll/request")
}

/// SHA-256 of the key in the file `csr`, as an operator says it.
pub fn key_hash(csr: &Path) -> String {
    let der = csr.with_extension("spki");
    openssl(&[
        "pkey",
        "-in",
        csr.with_extension("key").to_str().unwrap(),
        "-pubout",
        "-outform",
        "DER",
        "-out",
        der.to_str().unwrap(),
    ]);
    psfca::digest::Digest::of(&std::fs::read(der).unwrap()).to_string()
}
