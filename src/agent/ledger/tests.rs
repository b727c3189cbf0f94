use super::*;
use crate::agent::enroll;
use crate::agent::fixture::{FakeLedger, Fault, World, world};
use crate::agent::renew::{Options, renew};
use crate::agent::status::status;
use crate::ca::fixture::{DAY, now};
use crate::report::{Outcome, Report};

/// A host that has its bundle, at a CA whose ledger it has seen.
async fn working() -> World {
    let world = World::enrolled().await;
    assert_eq!(world.renew(now()).await.exit_code(), 0);
    world
}

async fn forced(world: &World) -> Report {
    renew(&world.agent(now()), Options { force: true, ..Options::default() }).await.unwrap()
}

fn remembered(world: &World) -> Memory {
    let agent = world.agent(now());
    Memory::load(&agent, &Enrolment::load(&world.settings.state).unwrap()).unwrap()
}

fn requests(world: &World, path: &str) -> usize {
    world.daemon.seen.lock().unwrap().iter().filter(|seen| seen.starts_with(path)).count()
}

fn bundle(world: &World) -> Vec<u8> {
    std::fs::read(world.bundle_path()).unwrap()
}

fn identity(world: &World) -> String {
    Enrolment::load(&world.settings.state).unwrap().identity.to_pem().to_string()
}

/// That everything failed for this reason, and nothing changed.
async fn refused(world: &World, text: &str) {
    let (old, own) = (bundle(world), identity(world));
    let report = forced(world).await;
    assert_eq!(report.exit_code(), 6, "{text}: {report:?}");
    for outcome in report.names.iter().map(|line| &line.outcome).chain([&report.identity]) {
        let Outcome::Failed { error, code: 6, critical: false } = outcome else { panic!("{text}: {outcome:?}") };
        assert!(error.contains(text) && error.contains("nothing was installed for "), "{text}: {error}");
    }
    assert!(bundle(world) == old && identity(world) == own, "{text}");
    let status = status(&world.agent(now())).unwrap();
    assert!(status.ledger.problem.as_deref().unwrap().contains(text) && !status.is_good(now()), "{status:?}");
}

#[tokio::test]
async fn what_the_ledger_does_not_prove_is_never_installed() {
    for (fault, text) in [
        (Fault::NoProof, "no readable header psfca-ledger-proof"),
        (Fault::ProofCutOff, "the proof does not show entry"),
        (Fault::ProofOfAnother, "the entry has another certificate"),
        (Fault::OtherNameRecorded, "the entry has another name"),
        (Fault::OtherKeyRecorded, "the entry has another key"),
        (Fault::OtherLedgerKey, "is not signed by psf.io/PSF_CA+"),
    ] {
        let mut world = working().await;
        world.set(fault);
        refused(&world, text).await;
        // No policy makes an exception for that.
        world.settings.ledger_policy = LedgerPolicy::Alarm;
        let (old, report) = (bundle(&world), forced(&world).await);
        assert!(matches!(report.names[0].outcome, Outcome::Failed { code: 6, .. }), "{fault:?}: {report:?}");
        assert_eq!((bundle(&world), report.exit_code()), (old, 6), "{fault:?}");
        world.set(Fault::None);
        assert_eq!(forced(&world).await.exit_code(), 0, "{fault:?}");
        assert!(status(&world.agent(now())).unwrap().is_good(now()), "{fault:?}");
    }
}

#[tokio::test]
async fn a_token_is_no_reason_to_enrol_without_a_proof() {
    for fault in [Fault::NoProof, Fault::ProofOfAnother, Fault::OtherLedgerKey] {
        let world = world().await;
        world.set(fault);
        let token = world.token(Digest::of(&world.daemon.ca.root_der()));
        let error = enroll::enroll(&world.agent(now()), &token, false).await.unwrap_err();
        assert!(matches!(error, AgentError::Ledger { .. }), "{fault:?}: {error}");
        assert!(Enrolment::load(&world.settings.state).is_err(), "{fault:?}");
    }
}

#[tokio::test]
async fn a_ledger_that_went_back_is_refused_until_it_is_whole_again() {
    let world = working().await;
    let whole = world.daemon.ledger.lock().unwrap().leaves.clone();
    world.daemon.ledger.lock().unwrap().leaves.truncate(10);
    let text = "the CA's ledger has 11 entries and this host has seen 22 (checkpoint of 2026-11-21T09:00:00Z): it went \
                back, perhaps to an old backup, or this is not the same CA";
    let asked = || requests(&world, "/v1/identity") + requests(&world, "/v1/certs/");
    let (before, seen) = (asked(), remembered(&world).seen);
    let report = forced(&world).await;
    assert!(matches!(&report.identity, Outcome::Failed { error, .. } if error.contains(text)), "{report:?}");
    // One entry has shown it; no other is made for the same discovery, neither now nor at the next run.
    refused(&world, "the CA's ledger has 11 entries and this host has seen 22").await;
    assert_eq!((asked(), remembered(&world).seen), (before + 1, seen));
    // When nothing is due it is still said, also that the right ledger is back.
    assert_eq!(world.renew(now()).await.exit_code(), 6);
    world.daemon.ledger.lock().unwrap().leaves = whole;
    assert_eq!(world.renew(now()).await.exit_code(), 0);
    assert!(status(&world.agent(now())).unwrap().is_good(now()));
    assert_eq!(forced(&world).await.exit_code(), 0);
}

#[tokio::test]
async fn another_ledger_of_the_same_size_or_larger_is_refused() {
    let world = working().await;
    let whole = world.daemon.ledger.lock().unwrap().leaves.clone();
    let set = |leaves: &[Digest]| world.daemon.ledger.lock().unwrap().leaves = leaves.to_vec();
    let mut changed = whole.clone();
    changed[3] = Digest::of(b"another");
    let seen = remembered(&world).seen;
    // The identity's entry is the one that makes it as large as it was.
    set(&changed[..changed.len() - 1]);
    refused(&world, "does not continue the 22 that this host has seen (checkpoint of 2026-11-21T09:00:00Z): they have")
        .await;
    changed.extend_from_within(..9);
    set(&changed);
    refused(&world, "its proof is wrong; it was changed, or went back and grew again").await;
    set(&[&whole[..], &changed[..1]].concat());
    world.set(Fault::WrongConsistency);
    refused(&world, "its proof is wrong").await;
    world.set(Fault::NoConsistency);
    refused(&world, "it gives no proof (the ledger has no such size)").await;
    assert_eq!(remembered(&world).seen, seen);
    world.set(Fault::None);
    assert_eq!(forced(&world).await.exit_code(), 0);
}

#[tokio::test]
async fn a_ca_that_cannot_prove_just_now_is_an_outage_and_no_alarm() {
    let mut world = working().await;
    world.set(Fault::LedgerBusy);
    for policy in [LedgerPolicy::Refuse, LedgerPolicy::Alarm] {
        world.settings.ledger_policy = policy;
        let (old, report) = (bundle(&world), forced(&world).await);
        assert!(
            matches!(&report.names[0].outcome, Outcome::Failed { error, code: 4, .. } if error == "the store is gone")
        );
        assert_eq!((bundle(&world), report.ledger_trouble), (old, None));
    }
}

#[tokio::test]
async fn the_alarm_policy_installs_and_keeps_saying_so() {
    let mut world = working().await;
    world.settings.ledger_policy = LedgerPolicy::Alarm;
    let seen = remembered(&world).seen;
    world.daemon.ledger.lock().unwrap().leaves.truncate(10);
    for _ in 0..2 {
        let (old, report) = (bundle(&world), forced(&world).await);
        assert!(matches!(report.names[0].outcome, Outcome::Renewed { .. }), "{report:?}");
        let trouble = report.ledger_trouble.as_ref().unwrap();
        assert!(trouble.problem.contains("this host has seen 22") && !trouble.refused, "{trouble:?}");
        assert_eq!(report.exit_code(), 6);
        assert_ne!(bundle(&world), old);
        assert_eq!(remembered(&world).seen, seen, "what was seen is not forgotten for a shorter ledger");
    }
    // Also when it has grown past what was seen.
    world.daemon.ledger.lock().unwrap().leaves.extend([Digest::of(b"x"); 20]);
    let report = forced(&world).await;
    assert!(report.ledger_trouble.unwrap().problem.contains("its proof is wrong"));
    assert!(!status(&world.agent(now())).unwrap().is_good(now()));
}

#[tokio::test]
async fn a_new_enrolment_starts_anew_and_tells_what_it_forgets() {
    let world = working().await;
    let token = world.token(Digest::of(&world.daemon.ca.root_der()));
    let enroll = || async { enroll::enroll(&world.agent(now()), &token, false).await.unwrap().ledger_break };
    assert!(enroll().await.is_none());
    world.daemon.ledger.lock().unwrap().leaves.truncate(10);
    let error = enroll().await.unwrap();
    assert!(error.to_string().starts_with("the CA's ledger has 11 entries and this host has seen 23"), "{error}");
    assert_eq!(forced(&world).await.exit_code(), 0);
    // Another CA's ledger owes nothing to this one's.
    *world.daemon.ledger.lock().unwrap() = FakeLedger::new();
    assert!(enroll().await.is_none());
    assert_eq!(remembered(&world).seen.key, *world.daemon.ledger.lock().unwrap().verifier());
    assert_eq!(forced(&world).await.exit_code(), 0);
}

#[tokio::test]
async fn only_what_belongs_to_the_enrolment_counts() {
    let world = working().await;
    let path = world.settings.state.join(FILE);
    // What a crash between the two files of an enrolment at another CA would leave.
    let other = FakeLedger::new();
    begin(
        &world.settings.state,
        &Seen { key: other.verifier().clone(), checkpoint: other.checkpoint(), at: now().minus(DAY), recovered: None },
    )
    .unwrap();
    assert_eq!(remembered(&world).head.size, 21);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(remembered(&world).head.size, 21);
    assert_eq!(forced(&world).await.exit_code(), 0);

    let text = std::fs::read_to_string(&path).unwrap();
    for bad in ["{", &text.replacen("PSF_CA\\n2", "PSF_CA\\n3", 1)] {
        std::fs::write(&path, bad).unwrap();
        let error = renew(&world.agent(now()), Options::default()).await.unwrap_err().to_string();
        assert!(error.contains("ledger.json cannot be used: it is damaged") && error.contains("remove it"), "{error}");
    }
}

#[tokio::test]
async fn nothing_due_costs_one_request_and_none_for_the_ledger() {
    let world = working().await;
    world.daemon.seen.lock().unwrap().clear();
    world.renew(now()).await;
    assert_eq!(*world.daemon.seen.lock().unwrap(), ["/v1/certs"]);
}
