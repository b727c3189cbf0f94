use ring::signature::Ed25519KeyPair;

use super::settings::LogSettings;
use super::*;
use crate::ca::fixture::{Fixed, Hierarchy, now};
use crate::ca::statement::tests::authority;
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::ledger::note::NoteSigner;
use crate::root_statement::Recovery;

struct World {
    directory: tempfile::TempDir,
    ledger: NoteSigner,
    ca: Hierarchy,
}

impl World {
    fn new() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        let ledger = NoteSigner::from_pkcs8("psf.io/PSF_CA", pkcs8.as_ref()).unwrap();
        Self { directory: tempfile::tempdir().unwrap(), ledger, ca: Hierarchy::new("PSF_CA") }
    }

    /// The witness after so many seconds, from what is on the disk.
    fn witness(&self, after: u64) -> Witness {
        let roots = vec![CaCertificate::from_der(&self.ca.root_der()).unwrap()];
        let settings = Settings {
            name: "w".to_owned(),
            listen: ([127, 0, 0, 1], 0).into(),
            state: self.directory.path().join("state"),
            logs: vec![LogSettings { key: self.ledger.verifier().clone(), roots }],
        };
        Witness::open(settings, Arc::new(Fixed(later(after)))).unwrap()
    }

    fn note(&self, size: u64, root: Digest) -> String {
        Checkpoint { origin: "psf.io/PSF_CA".to_owned(), size, root }.sign(&self.ledger)
    }

    fn statement(&self, made: u64, change: impl FnOnce(&mut Recovery)) -> String {
        let mut recovery = Recovery {
            given_up: 9,
            given_up_root: None,
            size: 5,
            root: Digest::of(b"5"),
            ledger_key: self.ledger.verifier().clone(),
            time: later(made),
        };
        change(&mut recovery);
        authority(&self.ca.root_der(), self.ca.root.key()).state(recovery).unwrap().to_text()
    }
}

fn later(seconds: u64) -> Timestamp {
    now().plus(std::time::Duration::from_secs(seconds))
}

fn first(note: &str) -> String {
    AddCheckpoint { old: 0, proof: vec![], checkpoint: note.to_owned() }.to_text()
}

#[test]
fn no_changed_character_of_a_request_is_cosigned() {
    let world = World::new();
    let witness = world.witness(0);
    let body = first(&world.note(9, Digest::of(b"9")));
    for at in 0..body.len() {
        let mut changed = body.clone().into_bytes();
        changed[at] ^= 1;
        let Ok(changed) = String::from_utf8(changed) else { continue };
        assert!(witness.add_checkpoint(&changed).is_err(), "character {at}: {changed}");
    }
    assert!(witness.state.lock().unwrap().logs.is_empty());
    witness.add_checkpoint(&body).unwrap();
}

#[test]
fn what_cannot_be_remembered_is_not_cosigned() {
    let world = World::new();
    let witness = world.witness(0);
    // Nothing can be replaced in a directory that is gone.
    std::fs::remove_dir_all(world.directory.path().join("state")).unwrap();
    let refused = witness.add_checkpoint(&first(&world.note(9, Digest::of(b"9"))));
    assert!(matches!(refused, Err(RequestError::Storage(_))), "{refused:?}");
    assert!(witness.state.lock().unwrap().logs.is_empty());
}

#[test]
fn only_the_root_s_word_takes_a_witness_back_and_only_once() {
    let world = World::new();
    let witness = world.witness(1);
    assert!(matches!(witness.recover(&world.statement(0, |_| ())), Err(RequestError::NothingCosigned)));
    witness.add_checkpoint(&first(&world.note(9, Digest::of(b"9")))).unwrap();
    drop(witness);

    let witness = world.witness(10);
    let key = |name: &str| NoteVerifier::new(name, [7; 32]).unwrap();
    let good = world.statement(5, |_| ());
    let claim = SignedRecovery::parse(&good).unwrap().claim().clone();
    let by_issuing = authority(world.ca.issuing.der(), world.ca.issuing.key()).state(claim).unwrap().to_text();
    for (statement, what) in [
        (world.statement(1, |_| ()), "saw its head after that"),
        (world.statement(11, |_| ()), "still to come"),
        (world.statement(5, |recovery| recovery.given_up = 8), "has seen 9"),
        (world.statement(5, |recovery| recovery.ledger_key = key("psf.io/PSF_CA")), "names another key"),
        (world.statement(5, |recovery| recovery.ledger_key = key("psf.io/B")), "does not know that ledger"),
        (by_issuing, "not signed by a root"),
    ] {
        let error = witness.recover(&statement).unwrap_err().to_string();
        assert!(error.contains(what), "{what:?} in {error}");
        assert_eq!(witness.state.lock().unwrap().logs["psf.io/PSF_CA"].size, 9);
    }
    assert_eq!(witness.recover(&good).unwrap(), 5);
    drop(witness);

    // After a restart too.
    let witness = world.witness(20);
    let again = witness.recover(&good).unwrap_err().to_string();
    assert!(again.contains("only a newer one counts"), "{again}");
    let same = AddCheckpoint { old: 5, proof: vec![], checkpoint: world.note(5, Digest::of(b"5")) };
    witness.add_checkpoint(&same.to_text()).unwrap();
    let fork = AddCheckpoint { checkpoint: world.note(5, Digest::of(b"x")), ..same };
    assert!(matches!(witness.add_checkpoint(&fork.to_text()), Err(RequestError::Refused(Refusal::OtherRoot(5)))));
}
