//! How often the daemon has the disk write, counted by strace in a run of its own, which is slower.

use std::sync::Arc;
use std::time::Duration;

use crate::fleet::Fleet;
use crate::server;
use crate::steady::Steady;
use crate::support::Ca;
use crate::support::strace::Strace;

/// How long it lasts.
const TIME: Duration = Duration::from_secs(3);

pub(crate) async fn measure(ca: &mut Ca, fleet: &Arc<Fleet>, connections: usize) {
    server::start(ca, server::WITHOUT_LIMITS);
    let port = server::port(ca);
    for connections in [connections, 1] {
        let steady = Steady { mode: "fsyncs", fresh: false, made: false, connections, time: TIME };
        let open = steady.open(fleet, port).await;
        // Not under strace: metrics count the whole fleet.
        let before = server::commits(ca);
        let strace = Strace::attach(ca.pid(), &["-e", "trace=fsync,fdatasync"]);
        let (_, times) = steady.drive(fleet, port, open, TIME).await;
        let calls = strace.detach();
        let commits = server::commits(ca) - before;
        let log = calls.iter().filter(|call| call.syncs_log()).count();
        let count = times.len();
        println!(
            "  {connections} connections: {count} certificates, {commits} commits, {} fsyncs, of these {log} of the \
             write-ahead log",
            calls.len()
        );
    }
    ca.stop();
}
