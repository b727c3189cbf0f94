//! What nearly every run of `psfca renew` is: a new connection, and the question what the host may have.

use std::sync::Arc;
use std::time::{Duration, Instant};

use psfca::wire::Entitlements;
use tokio::task::JoinSet;

use crate::declared;
use crate::exchange::{Connection, get};
use crate::fleet::Fleet;
use crate::server;
use crate::support::Ca;
use crate::table::{Row, Times};

/// What each host may have.
const OWN: [&str; 3] = ["one.psf.io", "two.psf.io", "three.psf.io"];

pub(crate) async fn measure(ca: &mut Ca, fleet: &Arc<Fleet>, connections: usize, time: Duration) -> Row {
    let own: String = OWN.iter().map(|name| format!("    {name}:\n      roles: [fleet]\n")).collect();
    declared::write(ca, &format!("tls:\n  gen_certs:\n{own}"), declared::NAMES);
    server::start(ca, server::WITHOUT_LIMITS);
    let port = server::port(ca);
    let work = async {
        let (end, mut tasks) = (Instant::now() + time, JoinSet::new());
        for number in 0..connections {
            tasks.spawn(ask(Arc::clone(fleet), port, number, end));
        }
        tasks.join_all().await.concat()
    };
    let (times, usage) = server::over(ca, work).await;
    ca.stop();
    Row { mode: "poll", certificates: times.len(), times: Times::of(times), usage }
}

async fn ask(fleet: Arc<Fleet>, port: u16, number: usize, end: Instant) -> Vec<Duration> {
    let mut times = Vec::new();
    while Instant::now() < end {
        let begin = Instant::now();
        let mut connection = Connection::open(&fleet.hosts[number], port).await.unwrap();
        let answer = connection.ask(&get("/v1/certs")).await.unwrap();
        connection.close().await;
        times.push(begin.elapsed());
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let may: Entitlements = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(may.certs.len(), OWN.len());
    }
    times
}
