//! `POST /v1/enroll`, what lies below it, and `POST /v1/identity`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::{BytesRejection, JsonRejection};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::Api;
use super::caller::{From, WithIdentity};
use super::certs::{answer, read_body, request};
use super::decision::Decision;
use super::problem::Refusal;
use crate::enroll::Approval;
use crate::grant::CertificateKind;
use crate::issue::Issued;
use crate::name::HostName;
use crate::token::TokenSecret;
use crate::wire::{
    ApprovalRequest, ApprovalWaiting, ChallengeAnswer, EnrollRequest, LEDGER_KEY_HEADER, SaltEnrollRequest,
};

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
    enrolled(&api, issued, &host)
}

/// An identity for a key that an operator approved; until then, 202.
pub(super) async fn request_approval(
    State(api): State<Arc<Api>>,
    From(source): From,
    body: Result<Json<ApprovalRequest>, JsonRejection>,
) -> Result<Response, Refusal> {
    api.throttle.enroll(source, api.ca.clock.now())?;
    let Json(ApprovalRequest { host, csr }) = read_json(body)?;
    match api.ca.enroll_approved(&host, csr.as_bytes(), source).await.map_err(Refusal::NotLetIn)? {
        Approval::Issued(issued) => enrolled(&api, *issued, &host),
        Approval::Waiting { key_sha256, expires } => {
            let decision = Decision::Waiting { host: host.to_string(), key: key_sha256 };
            let waiting = Json(ApprovalWaiting { host, key_sha256, expires });
            let mut response = (StatusCode::ACCEPTED, waiting).into_response();
            response.extensions_mut().insert(decision);
            Ok(response)
        }
    }
}

/// A challenge for the next; nothing is kept of it.
pub(super) async fn challenge(State(api): State<Arc<Api>>, From(source): From) -> Result<Response, Refusal> {
    api.throttle.enroll(source, api.ca.clock.now())?;
    let (challenge, expires) = api.ca.challenge().map_err(Refusal::NotLetIn)?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(ChallengeAnswer { challenge, expires })).into_response())
}

/// An identity for a host that has signed with its Salt minion key.
pub(super) async fn by_salt_key(
    State(api): State<Arc<Api>>,
    From(source): From,
    body: Result<Json<SaltEnrollRequest>, JsonRejection>,
) -> Result<Response, Refusal> {
    api.throttle.enroll(source, api.ca.clock.now())?;
    let Json(SaltEnrollRequest { host, csr, challenge, signature }) = read_json(body)?;
    let signature = URL_SAFE_NO_PAD.decode(signature);
    let signature = signature.map_err(|_| Refusal::Malformed("the signature is not base64url".to_owned()))?;
    let issued = api.ca.enroll_by_salt_key(&host, csr.as_bytes(), &challenge, &signature).await;
    let issued = issued.map_err(Refusal::NotLetIn)?;
    enrolled(&api, issued, &host)
}

/// The first identity of a host, with the key that signs the ledger.
fn enrolled(api: &Api, issued: Issued, host: &HostName) -> Result<Response, Refusal> {
    let mut answer = answer(issued, CertificateKind::Identity, host.as_str());
    let key = HeaderValue::from_str(&api.ca.checkpoints.verifier().to_string()).map_err(|_| Refusal::Internal)?;
    answer.headers_mut().insert(LEDGER_KEY_HEADER, key);
    Ok(answer)
}

fn read_json<T>(body: Result<Json<T>, JsonRejection>) -> Result<Json<T>, Refusal> {
    body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::TooLarge,
        _ => Refusal::Malformed(error.body_text()),
    })
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
