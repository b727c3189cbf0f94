//! How an entry is read: as one object with every field that any event has. serde's own way, a tagged
//! enum inside a flattened struct, goes by a map of values and takes several times as long, and an
//! audit reads entries by the million.

use std::net::IpAddr;

use serde::Deserialize;

use super::{CertificateRecord, Entry, Event};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::enrollment::{EnrolledBy, Enrollment, IdentityFork, KeyDecision, KeyRequest, RequestAction, SaltKeyChange};
use crate::grant::{CertificateKind, Rule};
use crate::host::{HostAction, HostChange, OperatorName, Remark};
use crate::name::{DnsName, HostName};
use crate::refusal::{RefusalReason, RefusalRecord};
use crate::restoration::{Confirmation, Restoration};
use crate::serial::Serial;
use crate::wire::EventKind;

/// Every field of every event.
#[derive(Deserialize)]
pub(super) struct FlatEntry {
    v: u8,
    time: Timestamp,
    event: EventKind,
    kind: Option<CertificateKind>,
    serial: Option<Serial>,
    name: Option<String>,
    host: Option<HostName>,
    not_before: Option<Timestamp>,
    not_after: Option<Timestamp>,
    key_sha256: Option<Digest>,
    other_key_sha256: Option<Digest>,
    salt_key: Option<Digest>,
    ca_made_key: Option<bool>,
    tbs_sha256: Option<Digest>,
    rule: Option<Rule>,
    sha256: Option<Digest>,
    names: Option<usize>,
    token: Option<Digest>,
    expires: Option<Timestamp>,
    replace: Option<bool>,
    operator_uid: Option<u32>,
    operator_host: Option<HostName>,
    ended_before: Option<Timestamp>,
    reason: Option<RefusalReason>,
    address: Option<IpAddr>,
    repeated: Option<u64>,
    omitted: Option<u64>,
    statement: Option<String>,
    remark: Option<Remark>,
    size: Option<u64>,
    root: Option<Digest>,
    hosts: Option<u64>,
}

/// A field that the event must have.
macro_rules! required {
    ($flat:ident . $field:ident) => {
        $flat.$field.ok_or(concat!("missing field `", stringify!($field), "`"))?
    };
}

impl FlatEntry {
    fn host_changed(self, action: HostAction) -> Result<Event, &'static str> {
        let operator = match (self.operator_uid, self.operator_host) {
            (Some(uid), None) => OperatorName::OperatorUid(uid),
            (None, Some(host)) => OperatorName::OperatorHost(host),
            _ => return Err("one of `operator_uid` and `operator_host` says who did it"),
        };
        let change = HostChange { host: required!(self.host), operator, remark: self.remark };
        Ok(Event::host_changed(action, change))
    }

    fn salt_key_change(self) -> Result<SaltKeyChange, &'static str> {
        Ok(SaltKeyChange {
            host: required!(self.host),
            salt_key: required!(self.salt_key),
            operator_uid: required!(self.operator_uid),
        })
    }

    fn request_decided(self, action: RequestAction) -> Result<Event, &'static str> {
        let decision = KeyDecision {
            host: required!(self.host),
            key_sha256: required!(self.key_sha256),
            operator_uid: required!(self.operator_uid),
        };
        Ok(Event::request_decided(action, decision))
    }
}

impl TryFrom<FlatEntry> for Entry {
    type Error = &'static str;

    fn try_from(flat: FlatEntry) -> Result<Self, Self::Error> {
        let (v, time) = (flat.v, flat.time);
        let event = match flat.event {
            EventKind::Certificate => Event::Certificate(CertificateRecord {
                kind: required!(flat.kind),
                serial: required!(flat.serial),
                name: required!(flat.name),
                host: flat.host,
                not_before: required!(flat.not_before),
                not_after: required!(flat.not_after),
                key_sha256: required!(flat.key_sha256),
                ca_made_key: required!(flat.ca_made_key),
                tbs_sha256: required!(flat.tbs_sha256),
                rule: required!(flat.rule),
            }),
            EventKind::Declaration => {
                Event::Declaration { sha256: required!(flat.sha256), names: required!(flat.names) }
            }
            EventKind::TokenMade => Event::TokenMade {
                token: required!(flat.token),
                host: required!(flat.host),
                expires: required!(flat.expires),
                replace: required!(flat.replace),
                operator_uid: required!(flat.operator_uid),
            },
            EventKind::HostEnrolled => Event::HostEnrolled(Enrollment {
                by: match (flat.token, flat.operator_uid, flat.salt_key) {
                    (Some(token), None, None) => EnrolledBy::Token { token },
                    (None, Some(operator_uid), None) => EnrolledBy::Approval { operator_uid },
                    (None, None, Some(salt_key)) => EnrolledBy::SaltKey { salt_key },
                    _ => return Err("exactly one of `token`, `operator_uid` and `salt_key` is wanted"),
                },
                host: required!(flat.host),
                key_sha256: required!(flat.key_sha256),
            }),
            EventKind::BodiesDropped => Event::BodiesDropped { ended_before: required!(flat.ended_before) },
            EventKind::Refused => Event::Refused(RefusalRecord {
                reason: required!(flat.reason),
                host: flat.host,
                name: flat.name.map(|name| DnsName::parse(&name)).transpose().map_err(|_| "`name` is no DNS name")?,
                address: required!(flat.address),
                repeated: required!(flat.repeated),
                omitted: required!(flat.omitted),
            }),
            EventKind::Recovered => {
                Event::Recovered { statement: required!(flat.statement), operator_uid: required!(flat.operator_uid) }
            }
            EventKind::HostDisabled => flat.host_changed(HostAction::Disable)?,
            EventKind::HostEnabled => flat.host_changed(HostAction::Enable)?,
            EventKind::HostRemoved => flat.host_changed(HostAction::Remove)?,
            EventKind::HostFrozen => Event::HostFrozen(IdentityFork {
                host: required!(flat.host),
                serial: required!(flat.serial),
                key_sha256: required!(flat.key_sha256),
                other_key_sha256: required!(flat.other_key_sha256),
            }),
            EventKind::HostRequested => Event::HostRequested(KeyRequest {
                host: required!(flat.host),
                key_sha256: required!(flat.key_sha256),
                address: required!(flat.address),
            }),
            EventKind::HostApproved => flat.request_decided(RequestAction::Approve)?,
            EventKind::HostRejected => flat.request_decided(RequestAction::Reject)?,
            EventKind::SaltKeyImported => Event::SaltKeyImported(flat.salt_key_change()?),
            EventKind::SaltKeyRemoved => Event::SaltKeyRemoved(flat.salt_key_change()?),
            EventKind::Restored => Event::Restored(Restoration {
                size: required!(flat.size),
                root: required!(flat.root),
                operator_uid: required!(flat.operator_uid),
                remark: flat.remark,
            }),
            EventKind::Reopened => Event::Reopened(Confirmation {
                hosts: required!(flat.hosts),
                operator_uid: required!(flat.operator_uid),
            }),
        };
        Ok(Self { v, time, event })
    }
}
