//! The keys that ask to be hosts, made again from the events.

use super::tables::{Rows, text};
use crate::clock::Timestamp;
use crate::enrollment::{KeyDecision, KeyRequest, RequestAction, RequestState};
use crate::name::HostName;
use crate::store::{Cell, REQUEST_LIFETIME};

/// The table; its first column here is host and key together, in text.
pub(super) const SQL: &str =
    "SELECT host || ' ' || lower(hex(key_sha256)), address, state, since, operator_uid FROM enrollment_request";

/// The columns after the first.
mod column {
    pub(super) const STATE: usize = 1;
    pub(super) const SINCE: usize = 2;
    pub(super) const OPERATOR: usize = 3;
}

/// What the table must hold after the entries so far.
#[derive(Debug, Default)]
pub(super) struct Requests(pub(super) Rows);

impl Requests {
    pub(super) fn asked(&mut self, index: u64, time: Timestamp, request: &KeyRequest) -> Result<(), String> {
        let oldest = time.minus(REQUEST_LIFETIME).unix();
        self.0.retain(|_, (_, row)| !matches!(row[column::SINCE], Cell::Number(since) if since <= oldest));
        let waiting = text(RequestState::Waiting.as_str());
        let row = vec![text(&request.address.to_string()), waiting, Cell::Number(time.unix()), Cell::Nothing];
        let key = format!("{} {}", request.host, request.key_sha256);
        match self.0.insert(key.into_bytes(), (index, row)) {
            None => Ok(()),
            Some(_) => Err(format!("the key {} asked to be {} and had asked before", request.key_sha256, request.host)),
        }
    }

    pub(super) fn decided(
        &mut self,
        index: u64,
        time: Timestamp,
        action: RequestAction,
        decision: &KeyDecision,
    ) -> Result<(), String> {
        let KeyDecision { host, key_sha256, operator_uid } = decision;
        let Some((from, row)) = self.0.get_mut(format!("{host} {key_sha256}").as_bytes()) else {
            return Err(format!("the key {key_sha256} of {host} was decided on and had not asked"));
        };
        *from = index;
        row[column::STATE] = text(RequestState::after(action).as_str());
        row[column::SINCE] = Cell::Number(time.unix());
        row[column::OPERATOR] = Cell::Number((*operator_uid).into());
        Ok(())
    }

    /// The key was approved by this operator, and is used.
    pub(super) fn used(&self, decision: &KeyDecision) -> Result<(), String> {
        let KeyDecision { host, key_sha256, operator_uid } = decision;
        let row = self.0.get(format!("{host} {key_sha256}").as_bytes());
        let wanted = (text(RequestState::Approved.as_str()), Cell::Number((*operator_uid).into()));
        match row.is_some_and(|(_, row)| row[column::STATE] == wanted.0 && row[column::OPERATOR] == wanted.1) {
            true => Ok(()),
            false => {
                Err(format!("{host} enrolled with the key {key_sha256}, which uid {operator_uid} had not approved"))
            }
        }
    }

    pub(super) fn forget(&mut self, host: &HostName) {
        let prefix = format!("{host} ");
        self.0.retain(|key, _| !key.starts_with(prefix.as_bytes()));
    }
}
