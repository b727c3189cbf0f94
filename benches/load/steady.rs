//! Modes in which so many connections ask all the time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::exchange::{Connection, post};
use crate::fleet::{Fleet, MADE, name};
use crate::receipts::Receipts;
use crate::server;
use crate::support::Ca;
use crate::table::{Row, Times};

/// Before anything is measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// One such mode.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steady {
    pub(crate) mode: &'static str,
    /// A new connection for each certificate.
    pub(crate) fresh: bool,
    /// The CA makes the key.
    pub(crate) made: bool,
    pub(crate) connections: usize,
    pub(crate) time: Duration,
}

/// What one connection, or many, got.
type Got = (Vec<Duration>, Receipts);

impl Steady {
    pub(crate) async fn measure(self, ca: &mut Ca, fleet: &Arc<Fleet>) -> Row {
        server::start(ca, server::WITHOUT_LIMITS);
        let port = server::port(ca);
        let mut connections = self.open(fleet, port).await;
        (connections, _) = self.drive(fleet, port, connections, WARM_UP).await;
        let ((_, times), usage) = server::over(ca, self.drive(fleet, port, connections, self.time)).await;
        ca.stop();
        Row { mode: self.mode, certificates: times.len(), times: Times::of(times), usage }
    }

    /// One connection for each of the first hosts; none where every certificate has its own.
    pub(crate) async fn open(self, fleet: &Fleet, port: u16) -> Vec<Option<Connection>> {
        let mut connections = Vec::new();
        for host in &fleet.hosts[..self.connections] {
            connections.push(if self.fresh { None } else { Some(Connection::open(host, port).await.unwrap()) });
        }
        connections
    }

    /// Lets all of them ask for so long; gives back the connections, and how long each certificate took.
    pub(crate) async fn drive(
        self,
        fleet: &Arc<Fleet>,
        port: u16,
        connections: Vec<Option<Connection>>,
        time: Duration,
    ) -> (Vec<Option<Connection>>, Vec<Duration>) {
        let (end, mut tasks) = (Instant::now() + time, JoinSet::new());
        for (number, connection) in connections.into_iter().enumerate() {
            tasks.spawn(self.ask(Arc::clone(fleet), port, number, connection, end));
        }
        let (mut connections, mut times) = (Vec::new(), Vec::new());
        for (connection, (took, receipts)) in tasks.join_all().await {
            assert_eq!(took.len(), receipts.serials().len());
            connections.push(connection);
            times.extend(took);
        }
        (connections, times)
    }

    async fn ask(
        self,
        fleet: Arc<Fleet>,
        port: u16,
        number: usize,
        mut kept: Option<Connection>,
        end: Instant,
    ) -> (Option<Connection>, Got) {
        let (mut times, mut receipts) = (Vec::new(), Receipts::default());
        let host = &fleet.hosts[number];
        while Instant::now() < end {
            let name = if self.made { MADE.to_owned() } else { name(number + times.len()) };
            let csr = (!self.made).then(|| fleet.csr());
            let request = post(&name, csr.map(|csr| csr.pem.as_str()));
            let begin = Instant::now();
            let answer = match &mut kept {
                Some(connection) => connection.ask(&request).await.unwrap(),
                None => {
                    let mut connection = Connection::open(host, port).await.unwrap();
                    let answer = connection.ask(&request).await.unwrap();
                    connection.close().await;
                    answer
                }
            };
            times.push(begin.elapsed());
            receipts.take(&answer, &name, csr);
        }
        (kept, (times, receipts))
    }
}
