//! A witness as a process of its own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use psfca::ca::key_file::load_ledger_key;
use serde_json::Value;

use super::tools::succeed;
use super::{Ca, psfca, wait_until};

/// A witness of one CA's ledger.
pub struct Witness {
    pub dir: tempfile::TempDir,
    pub running: Option<(Child, Arc<Mutex<String>>)>,
    pub key: String,
    pub address: String,
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Witness {
    /// Made and started, for the ledger of `ca`.
    pub fn of(ca: &Ca) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ledger = load_ledger_key(&ca.state().join("ca/ledger.key"), "psf.io/PSF_CA").unwrap();
        fs::copy(ca.state().join("ca/root.pem"), dir.path().join("root.pem")).unwrap();
        let settings = format!(
            "name: witness.psf.io/w1\nlisten: 127.0.0.1:0\nstate: state\nlogs:\n  - key: {}\n    root: root.pem\n",
            ledger.verifier()
        );
        fs::write(dir.path().join("witness.yaml"), settings).unwrap();
        let mut witness = Self { dir, running: None, key: String::new(), address: String::new() };
        witness.key =
            String::from_utf8(witness.command().arg("--key").output().unwrap().stdout).unwrap().trim().to_owned();
        witness.start();
        let settings = fs::read_to_string(witness.config()).unwrap();
        fs::write(witness.config(), settings.replace("127.0.0.1:0", &witness.address)).unwrap();
        witness
    }

    pub fn config(&self) -> std::path::PathBuf {
        self.dir.path().join("witness.yaml")
    }

    pub fn command(&self) -> Command {
        let mut command = psfca();
        command.arg("witness").arg("--config").arg(self.config());
        command
    }

    pub fn start(&mut self) {
        let mut child = self.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                *kept.lock().unwrap() += &(line + "\n");
            }
        });
        self.running = Some((child, log));
        wait_until("the witness serves", || self.log().contains("serving address="));
        let log = self.log();
        let address = log.split("serving address=").nth(1).unwrap().split_whitespace().next().unwrap();
        address.clone_into(&mut self.address);
    }

    pub fn log(&self) -> String {
        self.running.as_ref().map(|(_, log)| log.lock().unwrap().clone()).unwrap_or_default()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Lines for `ca.yaml`.
    pub fn for_ca(&self) -> String {
        format!("witness:\n  url: http://{}\n  key: {}\n", self.address, self.key)
    }

    pub fn remembered(&self) -> u64 {
        let state: Value =
            serde_json::from_slice(&fs::read(self.dir.path().join("state/witness.json")).unwrap()).unwrap();
        state["logs"]["psf.io/PSF_CA"]["size"].as_u64().unwrap()
    }

    /// What it answers to this body: status and text.
    pub fn post(&self, path: &str, body: &str) -> (u16, String) {
        let file = self.dir.path().join("body");
        fs::write(&file, body).unwrap();
        self.curl(&["--data-binary", &format!("@{}", file.display())], path)
    }

    /// What it answers to whoever reads there: status and text.
    pub fn get(&self, path: &str) -> (u16, String) {
        self.curl(&[], path)
    }

    fn curl(&self, args: &[&str], path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.address);
        let written = ["--silent", "--write-out", "%{stderr}%{http_code} %{content_type}", "--dump-header", "-", &url];
        let out = succeed("curl", &[args, &written[..]].concat());
        let (head, text) = out.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), text.to_owned())
    }
}

pub fn append(file: std::path::PathBuf, lines: &str) {
    let before = fs::read_to_string(&file).unwrap();
    fs::write(file, before + lines).unwrap();
}
