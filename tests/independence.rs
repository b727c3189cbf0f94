//! What an outsider can verify: `independent/verify.py`, written from the RFCs alone, against this program's
//! exports, answers and proofs; and this program's tree against data that others publish.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use psfca::digest::Digest;
use psfca::ledger::tree::{verify_consistency, verify_inclusion};
use serde_json::Value;
use support::ask::{P256, csr, post_csr};
use support::stored_ledger::Books;
use support::tools::{said, say};
use support::{Ca, Host, psfca};

/// Where the `testdata` of github.com/transparency-dev/merkle lies.
const VECTORS: &str = "PSFCA_MERKLE_TESTDATA";

fn verify_py(args: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/independent/verify.py");
    // -I: nothing but the standard library can be imported.
    Command::new("/usr/bin/python3").arg("-I").arg(script).args(args).output().unwrap()
}

fn verified(args: &[&str]) -> String {
    let out = verify_py(args);
    assert!(out.status.success(), "verify.py {args:?}: {}", said(&out));
    String::from_utf8(out.stdout).unwrap()
}

/// That the verifier finds something wrong, and says what.
fn found(args: &[&str], what: &str) {
    let out = verify_py(args);
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(1) && error.starts_with("verify.py: "), "{what} was not found: {}", said(&out));
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A ledger of any size, and where it is exported to.
struct Exported {
    books: Books,
    key: String,
    target: PathBuf,
}

impl Exported {
    async fn new() -> Self {
        let books = Books::open().await;
        let dir = books.dir.path();
        std::fs::write(dir.join("tls.yaml"), "").unwrap();
        let config = "name: PSF_CA\ncert_opts: {O: PSF}\ntrust_domain: psf.io\ndeclaration: [tls.yaml]\n\
                      listen: 127.0.0.1:0\nserver_names: [localhost]\nstate: state\n\
                      trust_bundle: PSF_CA.pem\nadmin_socket: admin.sock\n";
        std::fs::write(dir.join("ca.yaml"), config).unwrap();
        let (key, target) = (books.ca.checkpoints.verifier().to_string(), dir.join("export"));
        Self { books, key, target }
    }

    /// Makes the ledger so large.
    async fn grow(&self, size: u64) {
        let now = self.books.ca.store.head().size;
        self.books.record_only(usize::try_from(size - now).unwrap()).await;
    }

    fn export(&self) -> String {
        let out = psfca()
            .args(["audit", "export", text(&self.target), "--state", text(&self.books.state())])
            .env("PSFCA_CONFIG", self.books.dir.path().join("ca.yaml"))
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", said(&out));
        String::from_utf8(out.stdout).unwrap()
    }
}

fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let octets = std::fs::read(&path).unwrap();
            found.insert(path, octets);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outsider_recomputes_root_inclusion_and_consistency_from_an_export_of_any_shape() {
    let ledger = Exported::new().await;
    let mut earlier: Vec<PathBuf> = Vec::new();
    // Tiles that are partial, whole, just begun; a second level of one hash and of several.
    for size in [5, 255, 256, 257, 511, 512, 700, 1_025] {
        ledger.grow(size).await;
        let exported = ledger.export();
        let old: Vec<&str> = earlier.iter().flat_map(|note| ["--old", text(note)]).collect();
        let said = verified(&[&["tiles", text(&ledger.target), &ledger.key], &old[..]].concat());
        let root = ledger.books.ca.store.head().root;
        assert!(said.starts_with(&format!("{size} entries, root {root}, ")), "{said}");
        assert!(exported.contains(&format!("{size} entries, root {root}, ")), "{exported}");
        assert_eq!(said.matches("continues the ").count(), earlier.len(), "{said}");
        let note = ledger.books.dir.path().join(format!("checkpoint-{size}"));
        std::fs::copy(ledger.target.join("checkpoint"), &note).unwrap();
        earlier.push(note);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_changed_missing_or_swapped_part_of_an_export_verifies() {
    let ledger = Exported::new().await;
    ledger.grow(600).await;
    ledger.export();
    let note = ledger.books.dir.path().join("earlier");
    std::fs::copy(ledger.target.join("checkpoint"), &note).unwrap();
    ledger.grow(1_100).await;
    ledger.export();
    let args = ["tiles", text(&ledger.target), &ledger.key, "--old", text(&note)];
    verified(&args);

    let all = files(&ledger.target);
    assert_eq!(all.len(), 1 + 5 + 5 + 1, "checkpoint, entries, two levels of hashes");
    for (path, octets) in &all {
        let place = path.strip_prefix(&ledger.target).unwrap().display();
        for at in [0, octets.len() * 2 / 3, octets.len() - 1] {
            let mut changed = octets.clone();
            changed[at] ^= 1;
            std::fs::write(path, &changed).unwrap();
            found(&args, &format!("{place} with octet {at} changed"));
        }
        std::fs::write(path, &octets[..octets.len() - 1]).unwrap();
        found(&args, &format!("{place} cut short"));
        std::fs::remove_file(path).unwrap();
        found(&args, &format!("{place} removed"));
        std::fs::write(path, octets).unwrap();
    }
    for level in ["0", "entries"] {
        let [one, two] = ["000", "001"].map(|tile| ledger.target.join("tile").join(level).join(tile));
        std::fs::write(&one, &all[&two]).unwrap();
        std::fs::write(&two, &all[&one]).unwrap();
        found(&args, &format!("two swapped tiles of {level}"));
        [one, two].iter().for_each(|path| std::fs::write(path, &all[path]).unwrap());
    }
    verified(&args);

    // The head of another ledger, though its key has the same name, and a key of another name.
    let foreign = Books::open().await;
    std::fs::write(&note, foreign.checkpoint()).unwrap();
    found(&args, "another ledger's earlier head");
    let foreign = foreign.ca.checkpoints.verifier().to_string();
    found(&["tiles", text(&ledger.target), &foreign], "another ledger's key");
}

#[test]
fn an_outsider_verifies_the_answer_that_a_host_got_and_that_the_ledger_goes_on() {
    let ca = Ca::start();
    let pg = Host::enroll(&ca, "pg0.iad1.psf.io");
    let key = ca.ok(&["audit", "checkpoint", "--key"]).trim().to_owned();
    let [old, new, proof, answer] = ["old", "new", "proof", "answer"].map(|name| ca.dir().join(name));
    std::fs::write(&old, ca.ok(&["audit", "checkpoint"])).unwrap();

    let request = csr(pg.dir(), &P256);
    let issued = post_csr(&ca, &pg, &request, "/v1/certs/app.psf.io");
    let serial = issued.header("psfca-serial");
    std::fs::write(&proof, STANDARD.decode(issued.header("psfca-ledger-proof")).unwrap()).unwrap();
    let said = verified(&["proof", text(&proof), &key]);
    assert!(said.contains("\"name\":\"app.psf.io\"") && said.contains(serial), "{said}");

    std::fs::write(&new, ca.ok(&["audit", "checkpoint"])).unwrap();
    let size = |note: &Path| std::fs::read_to_string(note).unwrap().lines().nth(1).unwrap().to_owned();
    let path = format!("/v1/ledger/consistency?old={}&new={}", size(&old), size(&new));
    let (status, consistency) = ca.curl_admin(&[], &path);
    assert_eq!(status, 200, "{consistency}");
    std::fs::write(&answer, &consistency).unwrap();
    let args = ["consistency", text(&old), text(&new), &key, text(&answer)];
    assert_eq!(verified(&args), format!("{} entries continue {}\n", size(&new), size(&old)));

    // The daemon's tiles and those of the state directory are the same, octet for octet.
    let [from_daemon, from_state] = ["from-daemon", "from-state"].map(|name| ca.dir().join(name));
    ca.ok(&["audit", "export", text(&from_daemon)]);
    ca.ok(&["audit", "export", text(&from_state), "--state", text(&ca.state())]);
    verified(&["tiles", text(&from_daemon), &key, "--old", text(&old), "--old", text(&new)]);
    let relative = |directory: &Path| -> BTreeMap<PathBuf, Vec<u8>> {
        let found = files(directory).into_iter();
        found.map(|(path, octets)| (path.strip_prefix(directory).unwrap().to_owned(), octets)).collect()
    };
    assert_eq!(relative(&from_daemon), relative(&from_state));

    for (file, args) in [(&proof, &["proof", text(&proof), &key][..]), (&answer, &args)] {
        let whole = std::fs::read_to_string(file).unwrap();
        let digit = whole.rfind(|c: char| c.is_ascii_digit() && c != '9').unwrap();
        let mut changed = whole.clone();
        changed.replace_range(digit..=digit, "9");
        std::fs::write(file, changed).unwrap();
        found(args, "a changed proof");
    }
}

#[test]
fn the_independent_verifier_knows_ed25519() {
    assert_eq!(verified(&["self-test"]), "3 signatures\n");
}

/// A case of the published data; none where it has hashes that are none, which no code here can be given.
fn holds(kind: &str, case: &Value) -> Option<bool> {
    let hash = |text: &Value| -> Option<Digest> {
        Some(Digest::from_bytes(STANDARD.decode(text.as_str()?).unwrap().try_into().ok()?))
    };
    let number = |field: &str| case[field].as_u64().unwrap();
    let proof = case["proof"].as_array().into_iter().flatten().map(hash).collect::<Option<Vec<_>>>()?;
    Some(match kind {
        "inclusion" => verify_inclusion(
            hash(&case["leafHash"])?,
            number("leafIdx"),
            number("treeSize"),
            &proof,
            hash(&case["root"])?,
        ),
        _ => verify_consistency(number("size1"), hash(&case["root1"])?, number("size2"), hash(&case["root2"])?, &proof),
    })
}

#[test]
fn the_published_test_data_of_transparency_dev_merkle_passes_here_and_in_the_independent_verifier() {
    let Some(directory) = std::env::var_os(VECTORS).map(PathBuf::from) else {
        // Others' data is not kept here; the vectors of its reference tree are, in src/ledger/tree/tests.rs.
        say(&format!("skipped: {VECTORS} does not say where the testdata of github.com/transparency-dev/merkle lies"));
        return;
    };
    say(verified(&["vectors", text(&directory)]).trim());
    for kind in ["inclusion", "consistency"] {
        let cases = files(&directory.join(kind));
        assert!(cases.len() > 50, "{}: {} cases of {kind}", directory.display(), cases.len());
        let (mut good, mut impossible) = (0, 0);
        for (path, json) in &cases {
            let case: Value = serde_json::from_slice(json).unwrap();
            match holds(kind, &case) {
                Some(holds) => {
                    assert_eq!(holds, case["wantErr"] == false, "{}", path.display());
                    good += usize::from(holds);
                }
                None => impossible += 1,
            }
        }
        say(&format!("{kind}, here: {} cases, {good} good, {impossible} cannot be represented", cases.len()));
    }
}
