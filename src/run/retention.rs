//! Has the ledger drop what is past its retention, in the background.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::store::{Store, StoreError, Sweep};

/// How often it is looked whether anything is due; each time costs an entry where something is.
const PERIOD: Duration = Duration::from_secs(86_400);
/// When to look again after an error.
const RETRY: Duration = Duration::from_secs(600);
/// Between two steps, each of them a few milliseconds, the disk belongs to the requests.
const PAUSE: Duration = Duration::from_millis(20);

/// Sweeps at the start and then every day; never ends, and has nothing to do where bodies are kept for ever.
pub(super) async fn keep(store: Arc<Store>, clock: Arc<dyn Clock>, retention: Option<Duration>) {
    let Some(retention) = retention else { return };
    loop {
        let outcome = sweep(&store, &*clock, retention).await;
        match &outcome {
            Ok(0) => {}
            Ok(dropped) => tracing::info!(dropped, "bodies of certificates were dropped after their retention"),
            Err(error) => tracing::error!(%error, "what is past its retention could not be dropped"),
        }
        tokio::time::sleep(if outcome.is_ok() { PERIOD } else { RETRY }).await;
    }
}

async fn sweep(store: &Store, clock: &dyn Clock, retention: Duration) -> Result<u64, StoreError> {
    let mut sweep = Sweep::new(clock.now().minus(retention));
    while store.sweep(&mut sweep, clock.now()).await? {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(sweep.dropped())
}
