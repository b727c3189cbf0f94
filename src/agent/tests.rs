//! The agent against the small daemon of `fixture`.

use super::fixture::{Fault, NAME, World, world};
use super::renew::{Options, renew};
use std::time::Duration;

use super::*;
use crate::ca::fixture::{DAY, now};
use crate::digest::Digest;
use crate::name::DnsName;
use crate::renewal::Validity;
use crate::report::{Outcome, Report};

fn outcome(report: &Report) -> &Outcome {
    &report.names.iter().find(|line| line.name.as_str() == NAME).unwrap().outcome
}

#[tokio::test]
async fn a_token_for_another_root_gets_no_request_at_all() {
    let world = world().await;
    let error = enroll::enroll(&world.agent(now()), &world.token(Digest::of(b"another")), false).await.unwrap_err();
    assert!(matches!(error, AgentError::Client(ClientError::Untrusted { .. })), "{error}");
    assert_eq!(*world.daemon.seen.lock().unwrap(), [""; 0]);
    assert!(!world.directory.path().join("certs").exists());
}

#[tokio::test]
async fn first_trust_takes_the_pinned_root_and_nothing_beside_it() {
    let world = world().await;
    let token = world.token(Digest::of(&world.daemon.ca.root_der()));
    for fault in [Fault::OtherTrustBundle, Fault::AnotherAnchor] {
        world.set(fault);
        let error = enroll::enroll(&world.agent(now()), &token, false).await.unwrap_err();
        assert!(error.to_string().contains("another trust bundle than the root that the token names"), "{error}");
        assert!(Enrolment::load(&world.settings.state).is_err(), "{fault:?}");
        assert!(!world.settings.trust_bundle.exists(), "{fault:?}");
    }
    assert_eq!(*world.daemon.seen.lock().unwrap(), ["/PSF_CA.pem"; 2], "the token was never shown");
    world.set(Fault::None);
    let enrolled = enroll::enroll(&world.agent(now()), &token, false).await.unwrap();
    assert_eq!(enrolled.enrolment.anchors, [world.daemon.ca.root_der()]);
}

#[tokio::test]
async fn enrolment_then_bundles_then_renewal_when_it_is_due() {
    let world = World::enrolled().await;
    let first = world.renew(now()).await;
    assert!(matches!(outcome(&first), Outcome::Renewed { .. }), "{first:?}");
    assert_eq!(first.exit_code(), 0);
    let key = world.bundle().key().spki().to_vec();
    let leaf = world.bundle().leaf().clone();
    let due = Validity::new(leaf.not_before, leaf.not_after, &leaf.serial).due();
    let idle = world.renew(due.minus(std::time::Duration::from_secs(1))).await;
    assert!(matches!(outcome(&idle), Outcome::NotDue { due: said, .. } if *said == due), "{idle:?}");
    let again = world.renew(due).await;
    assert!(matches!(outcome(&again), Outcome::Renewed { .. }), "{again:?}");
    assert_ne!(world.bundle().key().spki(), key, "every certificate has a new key");

    // When the identity's time has come, within 21 of its 30 days, it goes first.
    let before = Enrolment::load(&world.settings.state).unwrap().identity.to_pem();
    let later = world.renew(now().plus(DAY * 22)).await;
    assert!(matches!(later.identity, Outcome::Renewed { .. }), "{later:?}");
    assert_ne!(Enrolment::load(&world.settings.state).unwrap().identity.to_pem(), before);
    assert!(status::status(&world.agent(now().plus(DAY * 22))).unwrap().is_good(now().plus(DAY * 22)));
}

#[tokio::test]
async fn nothing_wrong_that_the_daemon_says_touches_the_old_bundle() {
    let world = World::enrolled().await;
    world.renew(now()).await;
    let old = std::fs::read(world.bundle_path()).unwrap();
    // Later each time than the wait after the failure before can last.
    let later = (0..).map(|tries| now().plus(DAY / 2 + DAY / 36 * tries));
    for ((fault, code, text), at) in [
        (Fault::OtherName, 4, "the certificate is for lb.psf.io"),
        (Fault::OtherKey, 4, "does not belong to the certificate"),
        (Fault::OtherCa, 4, "does not chain to a root that is trusted here"),
        (Fault::Expired, 4, "the certificate expired on"),
        (Fault::OtherSerial, 4, "and the answer says 07"),
        (Fault::Broken, 4, "the store is gone"),
        (Fault::Denied, 3, "pg0.iad1.psf.io may not have it"),
    ]
    .into_iter()
    .zip(later)
    {
        world.set(fault);
        let report = world.renew(at).await;
        assert_eq!(report.exit_code(), code, "{fault:?}");
        assert!(
            matches!(outcome(&report), Outcome::Failed { error, .. } if error.contains(text)),
            "{fault:?} {report:?}"
        );
        assert_eq!(std::fs::read(world.bundle_path()).unwrap(), old, "{fault:?}");
    }
    // With less than a quarter of the life left the same fault is urgent.
    assert_eq!(world.renew(now().plus(DAY / 24 * 19)).await.exit_code(), 5);
}

#[tokio::test]
async fn an_absent_daemon_is_no_trouble_until_something_runs_out() {
    let world = World::enrolled().await;
    world.renew(now()).await;
    world.serving.abort();
    let at = |hours: u32| world.renew(now().plus(DAY / 24 * hours));
    assert_eq!(at(1).await.exit_code(), 0, "nothing is due");
    assert_eq!(at(13).await.exit_code(), 4);
    assert_eq!(at(19).await.exit_code(), 5);
    std::fs::write(world.bundle_path(), "torn").unwrap();
    assert_eq!(at(1).await.exit_code(), 5);
    let status = status::status(&world.agent(now())).unwrap();
    assert!(status.bundles[0].problem.as_deref().unwrap().starts_with("it is damaged"), "{status:?}");
}

#[tokio::test]
async fn a_name_that_was_taken_away_is_reported_and_kept() {
    let world = World::enrolled().await;
    world.renew(now()).await;
    world.daemon.names.lock().unwrap().clear();
    let report = world.renew(now().plus(DAY / 2)).await;
    assert!(matches!(outcome(&report), Outcome::NotEntitled { .. }), "{report:?}");
    assert_eq!(report.exit_code(), 0);
    assert!(world.bundle_path().exists());
    // Other people's files in the same directory are none of ours.
    std::fs::write(world.directory.path().join("private/snakeoil.pem"), "theirs").unwrap();
    assert_eq!(world.renew(now().plus(DAY / 2)).await.names.len(), 1);
}

#[tokio::test]
async fn another_trust_bundle_is_refused_and_a_missing_one_written_again() {
    let world = World::enrolled().await;
    let path = &world.settings.trust_bundle;
    let old = std::fs::read(path).unwrap();
    world.set(Fault::OtherTrustBundle);
    let report = world.renew(now()).await;
    assert!(report.trust_problem.as_deref().unwrap().contains("and it is refused"), "{report:?}");
    assert_eq!((report.exit_code(), std::fs::read(path).unwrap()), (1, old.clone()));
    world.set(Fault::None);
    std::fs::remove_file(path).unwrap();
    assert!(world.renew(now()).await.trust_written);
    assert_eq!(std::fs::read(path).unwrap(), old);
}

#[tokio::test]
async fn a_name_with_an_rsa_key_is_left_to_people_and_fails_no_timer() {
    let world = World::enrolled().await;
    *world.daemon.names.lock().unwrap() = vec![NAME, "rsa.psf.io"];
    let report = world.renew(now()).await;
    assert!(report.names.iter().any(|line| line.outcome == Outcome::ByHand), "{report:?}");
    assert_eq!(report.exit_code(), 0);
    assert!(status::status(&world.agent(now())).unwrap().is_good(now()));
}

#[tokio::test]
async fn a_daemon_too_old_for_reports_is_asked_once_a_day_and_one_that_is_busy_at_the_next_run() {
    let world = World::enrolled().await;
    let reports = || world.daemon.seen.lock().unwrap().iter().filter(|path| *path == "/v1/report").count();
    world.set(Fault::ReportsBusy);
    for sent in 1..=2 {
        let report = world.renew(now()).await;
        assert_eq!((report.exit_code(), report.untold.as_deref(), reports()), (0, Some("too often"), sent));
    }
    world.set(Fault::NoReports);
    for (later, sent) in [(Duration::ZERO, 3), (Duration::from_secs(60), 3), (DAY, 4)] {
        let report = world.renew(now().plus(later)).await;
        assert_eq!((report.exit_code(), report.untold.as_deref()), (0, None), "{report:?}");
        // What is renewed after a day would be news besides, and is one report with it.
        assert_eq!(reports(), sent, "{later:?}");
    }
}

#[tokio::test]
async fn a_dry_run_asks_and_changes_nothing() {
    let world = World::enrolled().await;
    let options = Options { force: true, dry_run: true, ..Options::default() };
    let report = renew(&world.agent(now()), options).await.unwrap();
    assert!(matches!(outcome(&report), Outcome::WouldRenew { .. }), "{report:?}");
    assert!(!world.bundle_path().exists());
    assert!(!world.daemon.seen.lock().unwrap().iter().any(|path| path.starts_with("/v1/certs/")));
}

#[tokio::test]
async fn a_request_of_ones_own_keeps_its_key_at_home() {
    let world = World::enrolled().await;
    let agent = world.agent(now());
    let enrolment = Enrolment::load(&world.settings.state).unwrap();
    let mut client = agent.connect(&enrolment).await.unwrap();
    let mut ledger = ledger::Memory::load(&agent, &enrolment).unwrap();
    let mut exchange =
        obtain::Exchange { agent: &agent, client: &mut client, enrolment: &enrolment, ledger: &mut ledger };
    let key = key::generate(KeyKind::EcdsaP256, NAME).unwrap();
    let text = format!("{}{}", key::request(&key).unwrap(), *key.to_pem());
    let request = obtain::Request::parse(text.as_bytes()).unwrap();
    let name = DnsName::parse(NAME).unwrap();
    let chain = obtain::chain(&mut exchange, &name, None, &request).await.unwrap();
    assert_eq!(chain.leaf().spki, key.spki());
    world.set(Fault::OtherKey);
    let error = obtain::chain(&mut exchange, &name, None, &request).await.unwrap_err();
    assert!(matches!(error, AgentError::BadAnswer { cause: BundleError::KeyMismatch, .. }), "{error}");
    assert!(obtain::Request::parse(key.to_pem().as_bytes()).is_err());
}

#[tokio::test]
async fn two_runs_at_once_do_not_mix() {
    let world = World::enrolled().await;
    let agent = world.agent(now());
    let _held = agent.lock().unwrap();
    assert!(matches!(renew(&agent, Options::default()).await, Err(AgentError::Busy(_))));
}

#[tokio::test]
async fn an_identity_that_ran_out_says_to_enrol_again() {
    let world = World::enrolled().await;
    world.renew(now()).await;
    // Seven days after its end the CA no longer lets it in, not even to be renewed.
    let report = world.renew(now().plus(DAY * 37 + Duration::from_secs(1))).await;
    let Outcome::Failed { error, code, critical } = &report.identity else { panic!("{report:?}") };
    assert!(error.contains("does not accept this host's identity") && error.contains("psfca enroll"), "{error}");
    assert!((*code, *critical, report.exit_code()) == (3, true, 5), "{report:?}");
}

#[tokio::test]
async fn where_an_answer_could_not_be_remembered_nothing_is_asked_for_until_it_can_be() {
    let world = World::enrolled().await;
    let blocked = world.settings.state.join(".ledger.json.new");
    std::fs::create_dir_all(blocked.join("x")).unwrap();
    for _ in 0..2 {
        let report = world.renew(now()).await;
        assert!(
            matches!(outcome(&report), Outcome::Failed { error, .. } if error.contains("ledger.json cannot be used: ")),
            "{report:?}"
        );
        assert!(!world.daemon.asked().iter().any(|path| path.starts_with("/v1/certs/")));
    }
    std::fs::remove_dir_all(blocked).unwrap();
    // Nobody waits: the CA was not asked in vain.
    assert!(matches!(outcome(&world.renew(now()).await), Outcome::Renewed { .. }));
}
