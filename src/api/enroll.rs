//! `POST /v1/enroll` and `POST /v1/identity`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use zeroize::Zeroizing;

use super::Api;
use super::caller::{From, WithIdentity};
use super::certs::{answer, read_body, request};
use super::problem::Refusal;
use crate::grant::CertificateKind;
use crate::token::TokenSecret;
use crate::wire::{EnrollRequest, LEDGER_KEY_HEADER};

/// A token and a request in exchange for an identity.
pub(super) async fn enroll(
    State(api): State<Arc<Api>>,
    From(source): From,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    api.throttle.enroll(source, api.ca.clock.now())?;
    let body = read_body(body)?;
    // serde's message may quote the body, and with it the secret: only the place is told.
    let EnrollRequest { secret, csr } = serde_json::from_slice(&body).map_err(|error| {
        Refusal::Malformed(format!("it is no JSON object with secret and csr (line {})", error.line()))
    })?;
    let secret = TokenSecret::parse(&Zeroizing::new(secret))?;
    let (issued, host) = api.ca.enroll(&secret, csr.as_bytes()).await?;
    let mut answer = answer(issued, CertificateKind::Identity, host.as_str());
    let key = HeaderValue::from_str(&api.ca.checkpoints.verifier().to_string()).map_err(|_| Refusal::Internal)?;
    answer.headers_mut().insert(LEDGER_KEY_HEADER, key);
    Ok(answer)
}

/// The next identity in exchange for the present one.
pub(super) async fn renew_identity(
    State(api): State<Arc<Api>>,
    WithIdentity(identity): WithIdentity,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    api.throttle.issue(api.ca.admit_in_grace(&identity).await?, api.ca.clock.now())?;
    let body = read_body(body)?;
    let issued = api.ca.renew_identity(&identity, request(&headers, &body)?).await?;
    Ok(answer(issued, CertificateKind::Identity, identity.host.as_str()))
}
