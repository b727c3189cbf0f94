//! `GET /v1/audit` and `GET /v1/declarations/{sha256}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};

use super::Api;
use super::caller::{Operator, Reader};
use super::problem::Refusal;
use crate::ca::certificate::certificate_pem;
use crate::ca::signer::assemble;
use crate::digest::Digest;
use crate::grant::CertificateKind;
use crate::ledger::{CertificateRecord, Event};
use crate::name::DnsName;
use crate::store::{StoreError, StoredBody, StoredEntry, StoredState};
use crate::wire::{
    AuditCertificate, AuditEntry, AuditEvent, AuditPage, AuditQuery, CertificateState, DeclarationFile,
    DeclarationText, EventKind, FleetReport, Holder,
};

/// Entries, newest first: all of them for an operator, its own certificates for a host.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    reader: Reader,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<AuditPage>, Refusal> {
    let Query(mut query) = query.map_err(|error| Refusal::Malformed(error.body_text()))?;
    if let Reader::Host(identity) = &reader {
        let host = api.ca.admit(identity).await?;
        api.throttle.listing(host, api.ca.clock.now())?;
        let of_another = query.host.as_ref().is_some_and(|asked| asked != host);
        if of_another || query.event.is_some_and(|event| event != EventKind::Certificate) {
            return Err(Refusal::NotAnOperator);
        }
        query.host = Some(host.clone());
        query.event = Some(EventKind::Certificate);
    }
    let whole = query.serial.is_some();
    let (page, next) = api.ca.store.entries(query, api.ca.clock.now()).await.map_err(|error| match error {
        StoreError::NotListed(_) => Refusal::Malformed(error.to_string()),
        error => error.into(),
    })?;
    let mut entries = Vec::with_capacity(page.len());
    for stored in page {
        let (body, report) = match whole {
            true => (api.ca.store.body(stored.index).await?, reported(&api, &stored.event).await?),
            false => (None, None),
        };
        entries.push(entry(&api, stored, body, report));
    }
    Ok(Json(AuditPage { entries, next }))
}

/// A declaration that is or was in force, with its text.
pub(super) async fn declaration(
    State(api): State<Arc<Api>>,
    _: Operator,
    sha256: Result<Path<Digest>, PathRejection>,
) -> Result<Json<DeclarationText>, Refusal> {
    let Path(sha256) = sha256.map_err(|error| Refusal::Malformed(error.to_string()))?;
    let found = api.ca.store.declaration_by_hash(sha256).await?;
    let (stored, in_force) = found.ok_or(Refusal::NoSuchDeclaration(sha256))?;
    let files = stored.files.into_iter().map(|(path, text)| DeclarationFile { path, text }).collect();
    Ok(Json(DeclarationText { sha256, since: stored.since, in_force, files }))
}

/// What the host said last of the name, if that was of this certificate.
async fn reported(api: &Api, event: &Event) -> Result<Option<FleetReport>, StoreError> {
    let Event::Certificate(CertificateRecord {
        kind: CertificateKind::Service, host: Some(host), name, serial, ..
    }) = event
    else {
        return Ok(None);
    };
    let Ok(name) = DnsName::parse(name) else { return Ok(None) };
    let told = api.ca.store.told(Holder { host: host.clone(), name }).await?;
    Ok(told.filter(|told| told.serial == *serial).map(FleetReport::from))
}

fn entry(api: &Api, stored: StoredEntry, body: Option<StoredBody>, report: Option<FleetReport>) -> AuditEntry {
    let StoredEntry { index, time, event, leaf_hash, state } = stored;
    let event = match event {
        Event::Certificate(record) => {
            let certificate = AuditCertificate { report, ..certificate(api, record, state, body) };
            AuditEvent::Certificate(Box::new(certificate))
        }
        Event::Declaration { sha256, names } => AuditEvent::Declaration { sha256, names },
        Event::TokenMade { token, host, expires, replace, operator_uid } => {
            AuditEvent::TokenMade { token, host, expires, replace, operator_uid }
        }
        Event::HostEnrolled(enrollment) => AuditEvent::HostEnrolled(enrollment),
        Event::BodiesDropped { ended_before } => AuditEvent::BodiesDropped { ended_before },
        Event::Refused(record) => AuditEvent::Refused(record),
        Event::Recovered { statement, operator_uid } => AuditEvent::Recovered { statement, operator_uid },
        Event::HostDisabled(change) => AuditEvent::HostDisabled(change),
        Event::HostEnabled(change) => AuditEvent::HostEnabled(change),
        Event::HostRemoved(change) => AuditEvent::HostRemoved(change),
        Event::HostFrozen(fork) => AuditEvent::HostFrozen(fork),
        Event::HostRequested(request) => AuditEvent::HostRequested(request),
        Event::HostApproved(decision) => AuditEvent::HostApproved(decision),
        Event::HostRejected(decision) => AuditEvent::HostRejected(decision),
        Event::SaltKeyImported(change) => AuditEvent::SaltKeyImported(change),
        Event::SaltKeyRemoved(change) => AuditEvent::SaltKeyRemoved(change),
        Event::Restored(restoration) => AuditEvent::Restored(restoration),
        Event::Reopened(confirmation) => AuditEvent::Reopened(confirmation),
    };
    AuditEntry { index, time, leaf_hash, event }
}

fn certificate(
    api: &Api,
    record: CertificateRecord,
    state: Option<StoredState>,
    body: Option<StoredBody>,
) -> AuditCertificate {
    let released = state.is_some_and(|state| state.released);
    let signed = body.and_then(|StoredBody { tbs, signature }| Some((tbs, signature?)));
    let key = api.ca.authorities.signing_key(record.kind);
    let pem = signed.map(|(tbs, signature)| certificate_pem(&assemble(&tbs, &signature, key)));
    AuditCertificate {
        kind: record.kind,
        serial: record.serial,
        name: record.name,
        host: record.host,
        not_before: record.not_before,
        not_after: record.not_after,
        state: if released { CertificateState::Issued } else { CertificateState::Recorded },
        key_sha256: record.key_sha256,
        ca_made_key: record.ca_made_key,
        tbs_sha256: record.tbs_sha256,
        body_dropped: state.is_some_and(|state| state.dropped),
        rule: record.rule,
        certificate: pem,
        report: None,
    }
}
