//! How much memory the daemon has: when it does nothing, and under many open connections.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::exchange::{Connection, post};
use crate::fleet::{Fleet, name};
use crate::receipts::Receipts;
use crate::server;
use crate::support::{Ca, wait_until};

/// Handshakes, and then requests, at one time.
const AT_ONCE: usize = 64;

pub(crate) async fn measure(ca: &mut Ca, fleet: &Arc<Fleet>, count: usize) {
    server::start(ca, server::WITHOUT_LIMITS);
    say(ca, "idle, after the start");
    // What the second round adds would be lost.
    for _ in 0..2 {
        round(ca, fleet, count).await;
    }
    println!("  {:>8.1} MiB at the most", server::memory(ca, "VmHWM").mib());
    ca.stop();
}

async fn round(ca: &Ca, fleet: &Arc<Fleet>, count: usize) {
    let port = server::port(ca);
    let (mut open, mut tasks) = (Vec::new(), JoinSet::new());
    for number in 0..count {
        let fleet = Arc::clone(fleet);
        tasks.spawn(async move { (number, Connection::open(&fleet.hosts[number], port).await.unwrap()) });
        if tasks.len() >= AT_ONCE {
            open.push(tasks.join_next().await.unwrap().unwrap());
        }
    }
    open.extend(tasks.join_all().await);
    wait_until("all connections are open", || connections(ca) == count);
    say(ca, &format!("{count} connections, hands shaken"));

    let (mut asked, mut tasks) = (Vec::new(), JoinSet::new());
    for (number, connection) in open {
        tasks.spawn(ask(Arc::clone(fleet), number, connection));
        if tasks.len() >= AT_ONCE {
            asked.push(tasks.join_next().await.unwrap().unwrap());
        }
    }
    asked.extend(tasks.join_all().await);
    assert_eq!(connections(ca), count, "none was closed");
    say(ca, &format!("{count} connections, one certificate on each"));
    drop(asked);
    wait_until("all connections are closed", || connections(ca) == 0);
    say(ca, "all closed");
}

async fn ask(fleet: Arc<Fleet>, number: usize, mut connection: Connection) -> Connection {
    let (name, csr) = (name(number), fleet.csr());
    let answer = connection.ask(&post(&name, Some(&csr.pem))).await.unwrap();
    Receipts::default().take(&answer, &name, Some(csr));
    connection
}

fn connections(ca: &Ca) -> usize {
    let (_, metrics) = ca.curl_admin(&[], "/metrics");
    metrics.lines().find_map(|line| line.strip_prefix("psfca_connections ")).unwrap().parse().unwrap()
}

fn say(ca: &Ca, what: &str) {
    let (all, own) = (server::memory(ca, "VmRSS").mib(), server::memory(ca, "RssAnon").mib());
    println!("  {all:>8.1} MiB resident, {own:>8.1} MiB without mapped files: {what}");
}
