//! The unit of all figures: what one verification and one signature on P-256 take on the daemon's core, just then.

use std::hint::black_box;
use std::process::Command;
use std::time::Duration;

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};

use crate::server;

/// What makes this program measure the reference, and nothing else.
pub(crate) const WORD: &str = "--reference";
/// Verifications and signatures in one measurement.
const ROUNDS: u32 = 4_000;
/// About as long as what is signed in a certificate.
const MESSAGE: [u8; 600] = [0x5a; 600];

/// In microseconds, measured by a process of its own on the daemon's core. It takes about half a second.
pub(crate) fn measure() -> f64 {
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", server::CORE]).arg(this).arg(WORD);
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().parse().unwrap()
}

/// Measures and prints it.
pub(crate) fn print() {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref());
    let mut signature = key.sign(&random, &MESSAGE).unwrap();
    let before = worked();
    for _ in 0..ROUNDS {
        public.verify(black_box(&MESSAGE), signature.as_ref()).unwrap();
        signature = key.sign(&random, black_box(&MESSAGE)).unwrap();
    }
    println!("{}", (worked() - before).as_secs_f64() * 1e6 / f64::from(ROUNDS));
}

/// How long this thread has kept a core busy. The kernel brings that up to date when a thread stops to run.
fn worked() -> Duration {
    std::thread::sleep(Duration::from_micros(100));
    server::worked(std::path::Path::new("/proc/thread-self/schedstat"))
}
