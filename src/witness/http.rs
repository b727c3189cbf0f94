//! What the witness answers: C2SP tlog-witness, with the head that it cosigned last, and `recover-log` beside it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};

use super::{RequestError, Witness};
use crate::ledger::witness::Refusal;

/// Most bytes of a request: 63 hashes, and a checkpoint with room for many signatures.
const MAX_BODY: usize = 32 * 1024;
/// Time for a request, from its head to the answer.
const TIME: Duration = Duration::from_secs(10);
/// What a size is called when it is an answer.
const SIZE: &str = "text/x.tlog.size";

/// The finished router.
pub fn router(witness: Arc<Witness>) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/recover-log", post(recover_log))
        .route("/{origin}/checkpoint", get(cosigned_last))
        .with_state(witness)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(within))
}

async fn within(request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(TIME, next.run(request)).await;
    answer.unwrap_or_else(|_| StatusCode::REQUEST_TIMEOUT.into_response())
}

async fn add_checkpoint(State(witness): State<Arc<Witness>>, body: Bytes) -> Response {
    match call(witness, body, |witness, text| witness.add_checkpoint(text)).await {
        Ok(line) => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], line).into_response(),
        Err(error) => refuse(error),
    }
}

async fn recover_log(State(witness): State<Arc<Witness>>, body: Bytes) -> Response {
    match call(witness, body, |witness, text| witness.recover(text)).await {
        Ok(size) => ([(header::CONTENT_TYPE, SIZE)], format!("{size}\n")).into_response(),
        Err(error) => refuse(error),
    }
}

async fn cosigned_last(State(witness): State<Arc<Witness>>, Path(origin): Path<String>) -> Response {
    // In its turn after whoever has something cosigned just now, so off the async threads as well.
    match tokio::task::spawn_blocking(move || witness.cosigned_last(&origin)).await {
        Ok(Some(note)) => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], note).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Off the async threads, since it waits for the disk.
async fn call<T: Send + 'static>(
    witness: Arc<Witness>,
    body: Bytes,
    work: impl FnOnce(&Witness, &str) -> Result<T, RequestError> + Send + 'static,
) -> Result<T, Option<RequestError>> {
    let work = move || {
        let text = std::str::from_utf8(&body).map_err(|_| RequestError::Malformed)?;
        work(&witness, text)
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| None)?.map_err(Some)
}

fn refuse(error: Option<RequestError>) -> Response {
    let Some(error) = error else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let status = match &error {
        RequestError::Malformed | RequestError::Refused(Refusal::OldAboveNew) => StatusCode::BAD_REQUEST,
        RequestError::UnknownLog => StatusCode::NOT_FOUND,
        RequestError::Checkpoint(_) | RequestError::Statement(_) => StatusCode::FORBIDDEN,
        RequestError::Refused(Refusal::OtherSize(size) | Refusal::OtherRoot(size)) => {
            return (StatusCode::CONFLICT, [(header::CONTENT_TYPE, SIZE)], format!("{size}\n")).into_response();
        }
        RequestError::Refused(Refusal::NoContinuation { .. })
        | RequestError::NotObeyed(_)
        | RequestError::OtherLedgerKey(_)
        | RequestError::NothingCosigned => StatusCode::UNPROCESSABLE_ENTITY,
        RequestError::Storage(cause) => {
            tracing::error!(%cause, "{error}");
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    tracing::debug!(%error, "refused");
    (status, format!("{error}\n")).into_response()
}
