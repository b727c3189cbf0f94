//! Long work of the processor, beside which requests go on.

use anyhow::Context as _;

/// Below what everybody else has, so that whoever answers a request is given the processor first; enough for the work to go on where
/// every processor is busy.
const NICENESS: i32 = 10;

/// Does `work` on a thread of its own, which gives way to all others.
pub(super) async fn in_background<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    let (done, outcome) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Linux takes it as said of this thread alone. Where it is forbidden requests may wait some milliseconds.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            let _ = done.send(work());
        })
        .context("no thread could be started")?;
    outcome.await.context("the thread has panicked")
}
