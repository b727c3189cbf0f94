//! What the CA issues is judged by programs that share no code with it: OpenSSL, GnuTLS, Python's `cryptography`,
//! rustls-webpki (which we do use, but only on the other end) and the linter pkilint. The certificates come from a
//! real daemon.
#![allow(clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use support::{Ca, Host};
use tempfile::TempDir;

const NAME: &str = "postgresql.psf.io";
const HOST: &str = "pg0.iad1.psf.io";

/// Everything that there is to verify, each certificate in a file of its own.
struct Issued {
    ca: Ca,
    host: Host,
    dir: TempDir,
}

impl Issued {
    fn new() -> Self {
        let ca = Ca::start();
        let host = Host::enroll(&ca, HOST);
        host.ok(&["issue", NAME]);
        let issued = Self { ca, host, dir: tempfile::tempdir().unwrap() };
        issued.write("leaf.pem", &certificates(&issued.host.bundle(NAME))[..1]);
        issued.write("issuing.pem", &certificates(&issued.host.bundle(NAME))[1..]);
        issued.write("chain.pem", &certificates(&issued.host.bundle(NAME)));
        issued.write("identity.pem", &certificates(&issued.host.identity())[..1]);
        issued
    }

    fn write(&self, file: &str, certificates: &[pem::Pem]) {
        assert!(!certificates.is_empty(), "there is something for {file}");
        fs::write(self.path(file), pem::encode_many(certificates)).unwrap();
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// `PSF_CA.pem`.
    fn anchors(&self) -> PathBuf {
        self.ca.trust_bundle()
    }

    /// The root that only identities hang from.
    fn identity_root(&self) -> PathBuf {
        self.ca.state().join("ca/identity.pem")
    }
}

/// The certificates in a PEM file, in order; a key in it is passed over.
fn certificates(path: &Path) -> Vec<pem::Pem> {
    let blocks = pem::parse_many(fs::read(path).unwrap()).unwrap();
    blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE").collect()
}

/// Ends well within the time that a hung program would be given, and says what it printed.
fn run(program: impl AsRef<std::ffi::OsStr>, args: &[&dyn AsRef<std::ffi::OsStr>]) -> Result<String, String> {
    let program = program.as_ref();
    let mut command = Command::new("timeout");
    command.arg("60").arg(program).args(args.iter().map(|arg| arg.as_ref()));
    for variable in ["SSL_CERT_FILE", "SSL_CERT_DIR", "OPENSSL_CONF"] {
        command.env_remove(variable);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    match output.status.code() {
        Some(0) => Ok(said),
        Some(124..=127) | None => panic!("{} did not run ({}): {said}", program.display(), output.status),
        Some(_) => Err(said),
    }
}

/// A program of the Python environment that tests/setup makes.
fn python_tool(name: &str) -> PathBuf {
    let venv = std::env::var_os("PSFCA_VENV").map(PathBuf::from);
    let tool = venv.unwrap_or(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv")).join("bin").join(name);
    assert!(tool.exists(), "{} is missing: run tests/setup", tool.display());
    tool
}

fn openssl(anchors: &Path, purpose: &str, name: Option<&str>, files: [&Path; 2]) -> Result<String, String> {
    let [intermediates, leaf] = files;
    let common: [&dyn AsRef<std::ffi::OsStr>; 12] = [
        &"verify",
        &"-x509_strict",
        &"-check_ss_sig",
        &"-no-CApath",
        &"-no-CAstore",
        &"-CAfile",
        &anchors,
        &"-purpose",
        &purpose,
        &"-untrusted",
        &intermediates,
        &"-show_chain",
    ];
    let mut args = common.to_vec();
    if let Some(name) = &name {
        args.extend([&"-verify_hostname" as &dyn AsRef<std::ffi::OsStr>, name]);
    }
    args.push(&leaf);
    run("openssl", &args)
}

#[test]
fn openssl_verifies_the_chain_strictly() {
    let issued = Issued::new();
    let files = [issued.path("issuing.pem"), issued.path("leaf.pem")];
    let files = [files[0].as_path(), files[1].as_path()];
    let said = openssl(&issued.anchors(), "sslserver", Some(NAME), files).unwrap();
    assert!(said.contains("depth=2"), "leaf, issuing CA and root: {said}");
    let said = openssl(&issued.anchors(), "sslserver", Some("other.psf.io"), files).unwrap_err();
    assert!(said.contains("hostname mismatch"), "{said}");
    let said = openssl(&issued.anchors(), "sslclient", None, files).unwrap_err();
    assert!(said.contains("purpose"), "a server's certificate is none for a client: {said}");
    let said = openssl(&issued.identity_root(), "sslserver", Some(NAME), files).unwrap_err();
    assert!(said.contains("unable to get local issuer"), "{said}");
}

#[test]
fn openssl_trusts_an_identity_only_under_the_identity_root() {
    let issued = Issued::new();
    let identity = issued.path("identity.pem");
    let files = [issued.path("issuing.pem"), identity];
    let files = [files[0].as_path(), files[1].as_path()];
    openssl(&issued.identity_root(), "sslclient", None, files).unwrap();
    let said = openssl(&issued.identity_root(), "sslserver", None, files).unwrap_err();
    assert!(said.contains("purpose"), "an identity serves nothing: {said}");
    let said = openssl(&issued.anchors(), "sslclient", None, files).unwrap_err();
    assert!(said.contains("unable to get local issuer"), "no application trusts an identity: {said}");
}

#[test]
fn gnutls_verifies_the_chain() {
    let issued = Issued::new();
    let (anchors, chain) = (issued.anchors(), issued.path("chain.pem"));
    let verify = |name: &str| {
        let name = format!("--verify-hostname={name}");
        run("certtool", &[&"--verify", &name, &"--load-ca-certificate", &anchors, &"--infile", &chain])
    };
    let said = verify(NAME).unwrap();
    assert!(said.contains("Chain verification output: Verified. The certificate is trusted."), "{said}");
    let said = verify("other.psf.io").unwrap_err();
    assert!(said.contains("The name in the certificate does not match"), "{said}");
}

#[test]
fn python_cryptography_verifies_the_chain() {
    let issued = Issued::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verify/cryptography_verify.py");
    let (anchors, bundle) = (issued.anchors(), issued.host.bundle(NAME));
    let verify = |name: &str| run(python_tool("python"), &[&script, &anchors, &bundle, &name]);
    assert_eq!(verify(NAME).unwrap().lines().count(), 3, "leaf, issuing CA and root");
    let said = verify("other.psf.io").unwrap_err();
    assert!(said.contains("leaf certificate has no matching subjectAltName"), "{said}");
}

#[test]
fn webpki_verifies_the_chain() {
    let issued = Issued::new();
    let der = |file: &Path| -> Vec<CertificateDer<'static>> {
        certificates(file).into_iter().map(|block| block.into_contents().into()).collect()
    };
    let (anchors, bundle) = (der(&issued.anchors()), der(&issued.host.bundle(NAME)));
    let anchors: Vec<_> = anchors.iter().map(|anchor| webpki::anchor_from_trusted_cert(anchor).unwrap()).collect();
    let leaf = webpki::EndEntityCert::try_from(&bundle[0]).unwrap();
    let verify = |usage| {
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        leaf.verify_for_usage(algorithms, &anchors, &bundle[1..], UnixTime::now(), usage, None, None).map(|_| ())
    };
    verify(webpki::KeyUsage::server_auth()).unwrap();
    verify(webpki::KeyUsage::client_auth()).unwrap_err();
    leaf.verify_is_valid_for_subject_name(&ServerName::try_from(NAME).unwrap()).unwrap();
    leaf.verify_is_valid_for_subject_name(&ServerName::try_from("other.psf.io").unwrap()).unwrap_err();
}

/// What pkilint's RFC 5280 linter finds, from NOTICE up: one line for each finding. (Below that it only says by which
/// standard method a key identifier was made.)
fn findings(certificate: &Path) -> Vec<String> {
    let lint = ["lint", "--severity", "NOTICE", "--format", "CSV", "--document-format", "PEM"];
    let mut args: Vec<&dyn AsRef<std::ffi::OsStr>> = lint.iter().map(|arg| arg as _).collect();
    args.push(&certificate);
    // It exits with the number of findings.
    let said = run(python_tool("lint_pkix_cert"), &args).unwrap_or_else(|said| said);
    let mut lines = said.lines().filter(|line| !line.is_empty()).map(str::to_owned);
    let heading = lines.next().unwrap_or_default();
    assert!(heading.starts_with("node_path,"), "pkilint did not lint: {said}");
    lines.collect()
}

#[test]
fn pkilint_finds_nothing_in_root_issuing_ca_and_leaf() {
    let issued = Issued::new();
    for certificate in [issued.anchors(), issued.path("issuing.pem"), issued.path("leaf.pem")] {
        assert_eq!(findings(&certificate), [""; 0], "{}", certificate.display());
    }
}

#[test]
fn pkilint_finds_nothing_in_an_identity_but_its_spiffe_uri() {
    let issued = Issued::new();
    // pkilint takes no URI but one with a domain that is registered, and so none of spiffe://.
    let found = findings(&issued.path("identity.pem"));
    assert!(matches!(&found[..], [only] if only.contains("invalid_uri")), "{found:#?}");
    assert_eq!(findings(&issued.identity_root()), [""; 0], "identity root");
}
