use std::time::Duration;

use super::*;
use crate::agent::fixture::{FakeLedger, World};
use crate::agent::renew::{Options, renew};
use crate::agent::settings::LedgerPolicy;
use crate::agent::status::status;
use crate::ca::fixture::{Hierarchy, now};
use crate::ca::signer::Authority;
use crate::digest::Digest;
use crate::report::Report;
use crate::root_statement::Recovery;

fn later(seconds: u64) -> Timestamp {
    now().plus(Duration::from_secs(seconds))
}

/// The root's key, as an operator has it.
fn root(of: &Hierarchy) -> Authority {
    crate::ca::statement::tests::authority(&of.root_der(), of.root.key())
}

/// A host that has seen 22 entries, at a CA that went back to 10.
async fn gone_back() -> World {
    let world = World::enrolled().await;
    assert_eq!(world.renew(now()).await.exit_code(), 0);
    world.daemon.ledger.lock().unwrap().leaves.truncate(10);
    let report = forced(&world, 1).await;
    assert_eq!(report.exit_code(), 6, "{report:?}");
    world
}

async fn forced(world: &World, after: u64) -> Report {
    renew(&world.agent(later(after)), Options { force: true, ..Options::default() }).await.unwrap()
}

fn remembered(world: &World) -> Memory {
    let agent = world.agent(later(0));
    Memory::load(&agent, &Enrolment::load(&world.settings.state).unwrap()).unwrap()
}

/// What an operator would state of the ledger as it is.
fn statement(world: &World, made: u64) -> Recovery {
    let ledger = world.daemon.ledger.lock().unwrap();
    Recovery {
        given_up: 22,
        given_up_root: None,
        size: ledger.size(),
        root: ledger.root(),
        ledger_key: ledger.verifier().clone(),
        time: later(made),
    }
}

fn show(world: &World, recovery: Recovery) -> String {
    let text = root(&world.daemon.ca).state(recovery).unwrap().to_text();
    *world.daemon.statement.lock().unwrap() = Some(text.clone());
    text
}

async fn refused(world: &World, after: u64, why: &str) {
    let before = remembered(world).seen;
    let report = forced(world, after).await;
    let problem = report.ledger_trouble.as_ref().map(|trouble| trouble.problem.clone()).unwrap_or_default();
    assert!(problem.contains(why), "{why:?} in {report:?}");
    assert_eq!((report.exit_code(), report.ledger_recovered), (6, None));
    assert_eq!(remembered(world).seen, before);
}

#[tokio::test]
async fn a_root_s_word_takes_the_place_of_what_was_lost_once() {
    let world = gone_back().await;
    show(&world, statement(&world, 5));
    let report = forced(&world, 6).await;
    assert_eq!((report.exit_code(), report.ledger_trouble), (0, None));
    let recovered = report.ledger_recovered.unwrap();
    assert_eq!((recovered.statement, recovered.seen, recovered.size, recovered.new_key), (later(5), 22, 11, false));
    let now_seen = status(&world.agent(later(7))).unwrap();
    assert!(now_seen.is_good(later(7)));
    assert_eq!(now_seen.ledger.recovered, Some(recovered));
    // It is news only once, and the ledger is held to as before.
    assert_eq!(forced(&world, 8).await.ledger_recovered, None);

    // Back again to the same head, by the same statement.
    world.daemon.ledger.lock().unwrap().leaves.truncate(11);
    refused(&world, 9, "this host obeyed one of 2026-11-21T09:00:05Z before, and only a newer one counts").await;
    refused(&world, 10, "only a newer one counts").await;
    // An older one, and one of the same second, change nothing; a newer one does.
    for made in [4, 5] {
        show(&world, statement(&world, made));
        refused(&world, 11, "only a newer one counts").await;
    }
    show(&world, statement(&world, 12));
    assert_eq!(forced(&world, 12).await.exit_code(), 0);
}

#[tokio::test]
async fn a_host_that_never_was_in_trouble_is_not_taken_back_by_an_old_statement() {
    let world = World::enrolled().await;
    assert_eq!(world.renew(now()).await.exit_code(), 0);
    // Its head is one that stays, so it goes on and never hears of the recovery.
    let recovery = Recovery { given_up: 1_000, ..statement(&world, 5) };
    assert_eq!(forced(&world, 6).await.exit_code(), 0);
    world.daemon.ledger.lock().unwrap().leaves.truncate(22);
    show(&world, recovery);
    refused(&world, 7, "this host saw its head after that, at 2026-11-21T09:00:06Z").await;
}

#[tokio::test]
async fn a_statement_that_does_not_fit_is_not_obeyed_and_the_reason_is_told() {
    let world = gone_back().await;
    let good = statement(&world, 5);
    let more = Recovery { given_up: 21, ..good.clone() };
    show(&world, more);
    refused(&world, 6, "it gives up 21 entries and this host has seen 22").await;
    show(&world, Recovery { given_up_root: Some(Digest::of(b"x")), ..good.clone() });
    refused(&world, 6, "the ledger was forked before").await;
    show(&world, Recovery { time: later(60), ..good.clone() });
    refused(&world, 6, "which is still to come by this host's clock").await;
    let other = crate::ledger::note::NoteVerifier::new("psf.io/OTHER", [7; 32]).unwrap();
    show(&world, Recovery { ledger_key: other, ..good.clone() });
    refused(&world, 6, "it is about the ledger psf.io/OTHER").await;
    // The ledger does not continue what the root vouches for.
    show(&world, Recovery { root: Digest::of(b"x"), ..good.clone() });
    refused(&world, 6, "does not continue the 11 that").await;
    show(&world, Recovery { size: 100, ..good.clone() });
    refused(&world, 6, "has 11 entries and this host has seen 100").await;
    // Signed by whom the host does not trust: another root, and the issuing CA, whose key the daemon has.
    let (ours, other) = (&world.daemon.ca, Hierarchy::new("PSF_CA"));
    let issuing = crate::ca::statement::tests::authority(ours.issuing.der(), ours.issuing.key());
    for by in [root(&other), issuing] {
        *world.daemon.statement.lock().unwrap() = Some(by.state(good.clone()).unwrap().to_text());
        refused(&world, 6, "it is not signed by a root that is trusted here").await;
    }
    // No changed character of a good one does it.
    let text = show(&world, good);
    let characters = text.char_indices().filter(|(_, c)| c.is_ascii());
    for (at, _) in characters.step_by(7) {
        let mut changed = text.clone().into_bytes();
        changed[at] ^= 1;
        *world.daemon.statement.lock().unwrap() = Some(String::from_utf8(changed).unwrap());
        refused(&world, 6, "the CA shows a recovery statement, which is not obeyed: ").await;
    }
    *world.daemon.statement.lock().unwrap() = Some(text);
    assert_eq!(forced(&world, 6).await.exit_code(), 0);
}

#[tokio::test]
async fn a_ledger_that_grew_past_what_was_seen_is_recovered_too() {
    let world = gone_back().await;
    world.daemon.ledger.lock().unwrap().leaves.extend([Digest::of(b"x"); 30]);
    refused(&world, 4, "its proof is wrong").await;
    show(&world, statement(&world, 5));
    assert_eq!(forced(&world, 6).await.exit_code(), 0);
}

#[tokio::test]
async fn a_recovery_may_name_another_key_and_the_enrolment_follows() {
    let world = gone_back().await;
    let mut other = FakeLedger::new();
    other.leaves = world.daemon.ledger.lock().unwrap().leaves.clone();
    *world.daemon.ledger.lock().unwrap() = other;
    refused(&world, 4, "is not signed by psf.io/PSF_CA+").await;
    show(&world, statement(&world, 5));
    let report = forced(&world, 6).await;
    assert!(report.exit_code() == 0 && report.ledger_recovered.unwrap().new_key);
    let key = world.daemon.ledger.lock().unwrap().verifier().clone();
    assert_eq!(Enrolment::load(&world.settings.state).unwrap().ledger.key, key);
    assert_eq!(forced(&world, 7).await.exit_code(), 0);
    // What a crash between the two files leaves is enough to go on from, and not to go back from.
    let path = world.settings.state.join("ledger.json");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(remembered(&world).seen.recovered.unwrap().statement, later(5));
    assert_eq!(forced(&world, 8).await.exit_code(), 0);
}

#[tokio::test]
async fn the_alarm_ends_with_a_recovery_and_nothing_is_asked_while_all_is_well() {
    let mut world = gone_back().await;
    world.settings.ledger_policy = LedgerPolicy::Alarm;
    assert_eq!(forced(&world, 4).await.exit_code(), 6);
    show(&world, statement(&world, 5));
    assert_eq!(forced(&world, 6).await.exit_code(), 0);
    world.daemon.seen.lock().unwrap().clear();
    assert_eq!(forced(&world, 7).await.exit_code(), 0);
    assert!(!world.daemon.seen.lock().unwrap().iter().any(|path| path == "/v1/ledger/recovery"));
}
