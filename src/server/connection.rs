//! One connection: HTTP/1.1 until it ends, is idle for too long, or the daemon drains.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::{Request, server};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::ServiceExt as _;

use crate::ca::identity::Peer;

/// Most bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;
/// Most header lines of a request.
const MAX_HEADERS: usize = 64;

/// Serves `stream` for `peer`. `begin` is called for each request, and what it returns is kept until the answer.
///
/// # Errors
/// What ended the connection early.
pub(super) async fn serve<S, G>(
    stream: S,
    peer: Peer,
    router: Router,
    header: Duration,
    watcher: Watcher,
    begin: impl Fn() -> G,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let (answer, guard) = (router.clone().oneshot(request.map(Body::new)), begin());
        async move {
            let answer = answer.await;
            drop(guard);
            answer
        }
    });
    let connection = server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    watcher.watch(connection).await
}
