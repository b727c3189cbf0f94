//! `psfca witness`

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sd_notify::NotifyState;
use tokio::sync::watch;

use crate::cli;
use crate::clock::SystemClock;
use crate::server::Plain;
use crate::telemetry::start_logging;
use crate::witness::settings::Settings;
use crate::witness::{Witness, http};

/// Daemons that ask at a time; each keeps one connection. One more takes the place of the oldest, which is made again.
const CONNECTIONS: usize = 64;
/// Of these, from one address.
const SHARE: usize = 16;
/// Time until a request's head is complete. A connection that is idle for longer is made again.
const HEADER: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or SIGINT, or only says which key it has.
pub(super) fn run(args: &cli::Witness) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(&args.config)?;
    let listen = settings.listen;
    if args.key {
        super::check::write_out(&format!("{}\n", Witness::key_of(settings, Arc::new(SystemClock))?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let witness = Arc::new(Witness::open(settings, Arc::new(SystemClock))?);
    start_logging(args.log == cli::LogFormat::Json);
    super::runtime()?.block_on(async {
        let listener = Plain::bind(listen, CONNECTIONS, SHARE, HEADER, Arc::new(SystemClock)).await;
        let listener = listener.with_context(|| format!("the witness cannot listen on {listen}"))?;
        let address = listener.local_address()?;
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(listener.serve(http::router(Arc::clone(&witness)), stopped));
        tracing::info!(%address, key = %witness.key(), "serving");
        sd_notify::notify(&[NotifyState::Ready])?;
        super::serve::wait_for_end().await?;
        sd_notify::notify(&[NotifyState::Stopping])?;
        let _ = stop.send(true);
        serving.await?;
        Ok(ExitCode::SUCCESS)
    })
}
