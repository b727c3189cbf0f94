//! Runs of the agent against the small daemon of `fixture`: when the CA is asked, how often, and what is removed.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::agent::fixture::{Fault, NAME, World};
use crate::agent::settings::Settings;
use crate::ca::fixture::{DAY, now};
use crate::name::DnsName;

const MINUTE: Duration = Duration::from_secs(60);

impl World {
    fn asked(&self) -> Vec<String> {
        self.daemon.asked()
    }

    fn line<'r>(&self, report: &'r Report) -> &'r Outcome {
        &report.names.iter().find(|line| line.name.as_str() == NAME).unwrap().outcome
    }

    fn configure(&mut self, more: &str) {
        let config = self.directory.path().join("host.yaml");
        let text = std::fs::read_to_string(&config).unwrap() + more;
        std::fs::write(&config, text).unwrap();
        self.settings = Settings::read(Some(&config)).unwrap();
    }

    async fn run(&self, at: Timestamp, options: Options) -> Report {
        renew(&self.agent(at), options).await.unwrap()
    }
}

#[tokio::test]
async fn a_run_with_nothing_due_makes_one_request() {
    let world = World::enrolled().await;
    world.renew(now()).await;
    world.asked();
    assert_eq!(world.renew(now().plus(MINUTE)).await.exit_code(), 0);
    assert_eq!(world.asked(), ["/v1/certs"]);
}

#[tokio::test]
async fn agent_and_daemon_a_version_apart_understand_each_other() {
    let world = World::enrolled().await;
    for fault in [Fault::OldAnswer, Fault::NewAnswer] {
        let _ = std::fs::remove_file(world.bundle_path());
        world.set(fault);
        world.asked();
        let report = world.renew(now()).await;
        assert_eq!((report.exit_code(), &report.trust_problem), (0, &None), "{report:?}");
        assert!(matches!(world.line(&report), Outcome::Renewed { .. }), "{report:?}");
        // Whose answer does not say which roots there are is asked for them.
        assert_eq!(world.asked().contains(&"/PSF_CA.pem".to_owned()), fault == Fault::OldAnswer);
    }
}

#[tokio::test]
async fn after_a_failure_the_ca_is_not_asked_for_the_name_before_the_wait_is_over_and_the_run_still_fails() {
    let world = World::enrolled().await;
    world.renew(now()).await;
    let due = now().plus(DAY / 2);
    world.set(Fault::Busy(1_500));
    let first = world.renew(due).await;
    assert!(matches!(world.line(&first), Outcome::Failed { code: 4, .. }), "{first:?}");
    world.asked();
    world.set(Fault::None);
    let held = world.renew(due.plus(MINUTE * 24)).await;
    assert_eq!(world.asked(), ["/v1/certs"], "Retry-After said 25 minutes");
    let Outcome::Failed { error, code: 4, critical: false } = world.line(&held) else { panic!("{held:?}") };
    assert!(error.starts_with("too much to do; the CA is asked again from "), "{error}");
    assert_eq!(held.exit_code(), 4);
    // A person need not wait, and the longest wait is a twentieth of the twelve hours that were left.
    let dry = Options { force: true, dry_run: true, ..Options::default() };
    assert!(matches!(world.line(&world.run(due.plus(MINUTE), dry).await), Outcome::WouldRenew { .. }));
    let report = world.renew(due.plus(MINUTE * 37)).await;
    assert!(matches!(world.line(&report), Outcome::Renewed { .. }), "{report:?}");
    let kept = std::fs::read_to_string(world.settings.state.join("retries.json")).unwrap();
    assert!(!kept.contains(NAME), "{kept}");
}

#[tokio::test]
async fn a_year_of_retry_after_costs_no_host_its_certificate() {
    let world = World::enrolled().await;
    world.renew(now()).await;
    world.set(Fault::Busy(365 * 86_400));
    world.renew(now().plus(DAY / 2)).await;
    world.set(Fault::None);
    let report = world.renew(now().plus(DAY / 2 + MINUTE * 37)).await;
    assert!(matches!(world.line(&report), Outcome::Renewed { .. }), "{report:?}");
}

#[tokio::test]
async fn a_damaged_file_of_retries_is_as_none_and_is_told() {
    let world = World::enrolled().await;
    let file = world.settings.state.join("retries.json");
    for damage in ["", "{", "[1]", r#"{"names": {"..": 1}}"#, "\0"] {
        std::fs::write(&file, damage).unwrap();
        let report = world.renew(now()).await;
        assert_eq!(report.exit_code(), 0, "{report:?}");
        assert!(report.remarks[0].contains("retries.json is damaged"), "{report:?}");
    }
    // It is written anew with the next failure.
    std::fs::remove_file(world.bundle_path()).unwrap();
    world.set(Fault::Denied);
    assert_eq!(world.renew(now()).await.exit_code(), 5);
    assert_eq!(world.renew(now()).await.remarks, [""; 0]);
    assert!(std::fs::read_to_string(&file).unwrap().contains("may not have it"));
}

#[tokio::test]
async fn a_missing_bundle_is_asked_for_by_each_run_until_it_is_there() {
    let world = World::enrolled().await;
    world.set(Fault::Busy(600));
    for _ in 0..3 {
        world.asked();
        assert_eq!(world.renew(now()).await.exit_code(), 5);
        assert!(world.asked().contains(&format!("/v1/certs/{NAME}")));
    }
}

#[tokio::test]
async fn nothing_is_removed_by_the_word_of_a_ca_that_would_not_be_let_install_or_for_another_host() {
    let world = World::enrolled().await;
    world.renew(now()).await;
    world.daemon.names.lock().unwrap().clear();
    let prune = Options { prune: true, ..Options::default() };
    let last = world.daemon.ledger.lock().unwrap().leaves.pop().unwrap();
    let report = world.run(now(), prune).await;
    assert_eq!(report.exit_code(), crate::report::LEDGER, "{report:?}");
    assert!(report.ledger_trouble.is_some() && world.bundle_path().exists(), "{report:?}");

    world.daemon.ledger.lock().unwrap().leaves.push(last);
    world.set(Fault::OfAnotherHost);
    let report = world.run(now(), prune).await;
    assert!(matches!(world.line(&report), Outcome::NotEntitled { .. }) && world.bundle_path().exists(), "{report:?}");

    world.set(Fault::None);
    assert!(matches!(world.line(&world.run(now(), prune).await), Outcome::Pruned { .. }));
}

#[tokio::test]
async fn what_was_taken_away_is_removed_when_somebody_says_so_and_the_ca_has_just_said_the_same() {
    let mut world = World::enrolled().await;
    let paths = ["copy.pem", "split", "copy.p12"].map(|path| world.directory.path().join(path));
    world.configure(&format!(
        "names:\n  {NAME}:\n    copies:\n      - {{path: copy.pem, layout: key-first}}\n      \
         - {{path: split, layout: split}}\n      - {{path: copy.p12, layout: pkcs12}}\n"
    ));
    world.renew(now()).await;
    let theirs = world.directory.path().join("private/snakeoil.psf.io.pem");
    std::fs::write(&theirs, world.daemon.other_bundle()).unwrap();
    let there = |path: &Path| path.symlink_metadata().is_ok();
    assert!(paths.iter().all(|path| there(path)));
    let prune = Options { prune: true, ..Options::default() };
    world.run(now(), prune).await;
    assert!(there(&world.bundle_path()), "it may have it");

    world.daemon.names.lock().unwrap().clear();
    let kept = world.renew(now()).await;
    assert!(matches!(world.line(&kept), Outcome::NotEntitled { .. }), "{kept:?}");
    // What it said the last time is no reason to remove anything now.
    world.set(Fault::Sick);
    let report = world.run(now(), prune).await;
    assert!(matches!(world.line(&report), Outcome::NotEntitled { .. }), "{report:?}");
    world.set(Fault::None);
    let dry = world.run(now(), Options { dry_run: true, ..prune }).await;
    assert!(matches!(world.line(&dry), Outcome::WouldPrune { .. }), "{dry:?}");
    assert!(there(&world.bundle_path()) && paths.iter().all(|path| there(path)));

    let report = world.run(now(), prune).await;
    assert!(matches!(world.line(&report), Outcome::Pruned { removed } if removed.len() == 4), "{report:?}");
    assert_eq!(report.exit_code(), 0);
    let left: Vec<_> =
        std::fs::read_dir(world.directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("psfca-")), "{left:?}");
    assert!(!there(&world.bundle_path()) && !paths.iter().any(|path| there(path)));
    assert!(there(&theirs), "another CA's is none of ours");
    assert_eq!(world.run(now(), prune).await.names.len(), 0);
}

#[tokio::test]
async fn the_setting_removes_too_and_where_a_copy_is_something_else_nothing_is_removed() {
    for layout in ["key-first", "pkcs12"] {
        let mut world = World::enrolled().await;
        world.configure(&format!(
            "prune: true\nnames:\n  {NAME}:\n    copies:\n      - {{path: copy, layout: {layout}}}\n"
        ));
        world.renew(now()).await;
        let (name, copy) = (DnsName::parse(NAME).unwrap(), world.directory.path().join("copy"));
        let ours = std::fs::read(&copy).unwrap();
        std::fs::write(&copy, "theirs").unwrap();
        let agent = world.agent(now());
        let anchors = [world.daemon.ca.root_der()];
        let error = prune(&agent, &name, &anchors).unwrap_err().to_string();
        assert!(error.contains(" is not removed: it is not the copy of the bundle that it should be"), "{error}");
        assert!(copy.exists() && world.bundle_path().exists());
        std::fs::write(&copy, ours).unwrap();
        std::fs::write(world.bundle_path(), world.daemon.other_bundle()).unwrap();
        let error = prune(&agent, &name, &anchors).unwrap_err().to_string();
        assert!(error.contains("this CA did not issue what lies there"), "{error}");
        assert!(copy.exists() && world.bundle_path().exists());
        world.run(now(), Options { force: true, ..Options::default() }).await;
        world.daemon.names.lock().unwrap().clear();
        assert!(matches!(world.line(&world.renew(now()).await), Outcome::Pruned { .. }));
    }
}

#[tokio::test]
async fn the_next_daemon_is_asked_where_one_is_away_or_cannot_serve_also_in_the_middle_of_a_run() {
    let mut world = World::enrolled().await;
    let (there, second) = world.second_daemon().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let here = world.address();
    world.configure(&format!("server: ['{nobody}', '{here}', '{there}']\n"));
    // The first one lists the names, and then cannot issue.
    world.set(Fault::Busy(1));
    let report = world.renew(now()).await;
    assert!(matches!(world.line(&report), Outcome::Renewed { .. }), "{report:?}");
    assert!(second.asked().contains(&format!("/v1/certs/{NAME}")));
    // A decision is no outage: nobody asks around for a better one.
    std::fs::remove_file(world.bundle_path()).unwrap();
    world.set(Fault::Denied);
    let report = world.renew(now()).await;
    assert!(matches!(world.line(&report), Outcome::Failed { code: 3, .. }), "{report:?}");
    assert_eq!(second.asked(), [""; 0]);
    // Where none can serve, it is told why, and each was asked once.
    world.set(Fault::Busy(1));
    second.set(Fault::Busy(1));
    world.asked();
    let report = world.renew(now()).await;
    let Outcome::Failed { error, code: 4, .. } = world.line(&report) else { panic!("{report:?}") };
    assert_eq!(error, "too much to do");
    let wanted = format!("/v1/certs/{NAME}");
    for daemon in [world.asked(), second.asked()] {
        assert_eq!(daemon.iter().filter(|path| **path == wanted).count(), 1, "{daemon:?}");
    }
}
