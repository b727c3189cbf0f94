//! `GET /v1/certs` and `POST /v1/certs/{name}`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::Api;
use super::caller::WithIdentity;
use super::decision::Decision;
use super::problem::Refusal;
use crate::grant::{CertificateKind, Grant, Rule};
use crate::issue::{Issued, KeySource};
use crate::name::DnsName;
use crate::policy::entitlements;
use crate::wire::{self, Entitlement, Entitlements};

/// What the calling host may have.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    WithIdentity(identity): WithIdentity,
) -> Result<Json<Entitlements>, Refusal> {
    let host = api.ca.admit(&identity).await?;
    let in_force = api.ca.declaration.current();
    let certs = entitlements(&in_force.declaration, host).iter().filter_map(entitlement).collect();
    let roots = vec![api.ca.authorities.root().fingerprint()];
    Ok(Json(Entitlements { host: host.clone(), certs, roots }))
}

/// Issues one certificate: for the request in the body, or with a key made here for an empty one.
pub(super) async fn issue(
    State(api): State<Arc<Api>>,
    WithIdentity(identity): WithIdentity,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    api.throttle.issue(api.ca.admit(&identity).await?, api.ca.clock.now())?;
    let Path(name) = name.map_err(|error| Refusal::Malformed(error.to_string()))?;
    let name = DnsName::parse(&name)?;
    let body = read_body(body)?;
    let key = if body.is_empty() { KeySource::MadeHere } else { KeySource::Request(request(&headers, &body)?) };
    match api.ca.issue(&identity, &name, key).await {
        Ok(issued) => Ok(answer(issued, CertificateKind::Service, name.as_str())),
        Err(error) => Err(Refusal::NotIssued { name, error }),
    }
}

pub(super) fn read_body(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Refusal> {
    body.map_err(|error| match error.status() {
        axum::http::StatusCode::PAYLOAD_TOO_LARGE => Refusal::TooLarge,
        _ => Refusal::Malformed(error.body_text()),
    })
}

/// The body, if it is said to be a certificate request.
pub(super) fn request<'a>(headers: &HeaderMap, body: &'a Bytes) -> Result<&'a [u8], Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.map(|kind| kind.split(';').next().unwrap_or(kind).trim());
    if kind.is_some_and(|kind| kind.eq_ignore_ascii_case(wire::PKCS10)) { Ok(body) } else { Err(Refusal::MediaType) }
}

/// A chain, or the whole bundle where the CA made the key, with what the host wants to know.
pub(super) fn answer(issued: Issued, kind: CertificateKind, name: &str) -> Response {
    let Issued { chain_pem, leaf: _, serial, proof, not_after, renew_after, made_key } = issued;
    let index = proof.index;
    let headers = [
        (header::CONTENT_TYPE, text(wire::PEM_CHAIN)),
        (header::CACHE_CONTROL, text("no-store")),
        (HeaderName::from_static(wire::SERIAL_HEADER), text(&serial.to_string())),
        (HeaderName::from_static(wire::INDEX_HEADER), text(&index.to_string())),
        (HeaderName::from_static(wire::PROOF_HEADER), text(&STANDARD.encode(proof.to_text()))),
        (HeaderName::from_static(wire::RENEW_HEADER), text(&renew_after.to_string())),
    ];
    let body = match made_key {
        None => Bytes::from(chain_pem),
        Some(key) => {
            let key: Zeroizing<String> = key.expose_pem();
            let mut bundle = Zeroizing::new(String::with_capacity(chain_pem.len() + key.len()));
            bundle.push_str(&chain_pem);
            bundle.push_str(&key);
            // Erased when the last part is on its way; what hyper and rustls copied into their buffers is theirs.
            Bytes::from_owner(bundle)
        }
    };
    let mut response = (headers, body).into_response();
    let decision = Decision::Issued { kind, name: name.to_owned(), serial, index, not_after };
    response.extensions_mut().insert(decision);
    response
}

/// Serials, indices and times are plain ASCII.
fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}

fn entitlement(grant: &Grant) -> Option<Entitlement> {
    let Rule::Declaration { role, .. } = grant.rule() else { return None };
    Some(Entitlement {
        name: DnsName::parse(grant.name()).ok()?,
        dns: grant.alt_names().dns.clone(),
        ip: grant.alt_names().ip.clone(),
        usages: grant.usages(),
        lifetime_seconds: grant.lifetime().as_duration().as_secs(),
        key: grant.key(),
        ca_made_key: grant.ca_made_key(),
        role: role.clone(),
    })
}
