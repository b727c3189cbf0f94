//! `GET /v1/audit`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};

use super::Api;
use super::caller::Auditor;
use super::problem::Refusal;
use crate::ca::certificate::certificate_pem;
use crate::ca::signer::assemble;
use crate::store::StoredCertificate;
use crate::wire::{AuditEntry, AuditPage, AuditQuery, CertificateState};

/// Certificates, newest first: all of them for an operator, its own for a host.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    auditor: Auditor,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<AuditPage>, Refusal> {
    let Query(mut query) = query.map_err(|error| Refusal::Malformed(error.body_text()))?;
    if let Auditor::Host(identity) = &auditor {
        let host = api.ca.admit(identity)?;
        if query.host.as_ref().is_some_and(|asked| asked != host) {
            return Err(Refusal::NotAnOperator);
        }
        query.host = Some(host.clone());
    }
    let whole = query.serial.is_some();
    let (page, next) = api.ca.store.certificates(query, api.ca.clock.now()).await?;
    let entries = page.into_iter().map(|stored| entry(&api, stored, whole)).collect();
    Ok(Json(AuditPage { entries, next }))
}

fn entry(api: &Api, stored: StoredCertificate, whole: bool) -> AuditEntry {
    let StoredCertificate { index, recorded, record, leaf_hash, tbs, signature } = stored;
    let state = if signature.is_some() { CertificateState::Issued } else { CertificateState::Recorded };
    let key = api.ca.authorities.signing_key(record.kind);
    let certificate = signature.filter(|_| whole).map(|signature| certificate_pem(&assemble(&tbs, &signature, key)));
    AuditEntry {
        index,
        recorded,
        kind: record.kind,
        serial: record.serial,
        name: record.name,
        host: record.host,
        not_before: record.not_before,
        not_after: record.not_after,
        state,
        key_sha256: record.key_sha256,
        ca_made_key: record.ca_made_key,
        rule: record.rule,
        leaf_hash,
        certificate,
    }
}
