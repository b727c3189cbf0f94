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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::tables::Tables;
    use crate::clock::Timestamp;
    use crate::digest::Digest;
    use crate::enrollment::{EnrolledBy, Enrollment, KeyDecision, KeyRequest, SaltKeyChange};
    use crate::ledger::Event;
    use crate::name::HostName;

    fn pg0() -> HostName {
        HostName::parse("pg0.iad1.psf.io").unwrap()
    }

    fn key() -> Digest {
        Digest::of(b"key")
    }

    fn asked() -> Event {
        Event::HostRequested(KeyRequest { host: pg0(), key_sha256: key(), address: Ipv4Addr::LOCALHOST.into() })
    }

    fn approved(operator_uid: u32) -> Event {
        Event::HostApproved(KeyDecision { host: pg0(), key_sha256: key(), operator_uid })
    }

    fn enrolled(by: EnrolledBy) -> Event {
        Event::HostEnrolled(Enrollment { host: pg0(), by, key_sha256: key() })
    }

    fn imported() -> Event {
        Event::SaltKeyImported(SaltKeyChange { host: pg0(), salt_key: key(), operator_uid: 0 })
    }

    /// What is found of the last of these events; there is nothing to find of those before it.
    fn last(events: Vec<Event>) -> Result<(), String> {
        let mut tables = Tables::default();
        let mut found = Ok(());
        for (index, event) in events.into_iter().enumerate() {
            assert_eq!(found, Ok(()), "before entry {index}");
            found = tables.apply(index as u64, Timestamp::from_unix(1_795_255_200), event);
        }
        found
    }

    #[test]
    fn a_host_that_was_let_in_against_the_rules_is_found_by_who_let_it_in() {
        let (approval, salt) = (EnrolledBy::Approval { operator_uid: 7 }, EnrolledBy::SaltKey { salt_key: key() });
        assert_eq!(last(vec![asked(), approved(7), enrolled(approval)]), Ok(()));
        assert_eq!(last(vec![imported(), enrolled(salt)]), Ok(()));
        let found = |events, text: &str| {
            let found = last(events).unwrap_err();
            assert!(found.contains(text), "{found}");
        };
        found(vec![enrolled(approval)], "had not approved");
        found(vec![asked(), enrolled(approval)], "had not approved");
        found(vec![asked(), approved(8), enrolled(approval)], "had not approved");
        found(vec![approved(7)], "had not asked");
        found(vec![asked(), asked()], "had asked before");
        found(vec![enrolled(salt)], "was not the accepted one");
        found(vec![imported(), enrolled(salt), enrolled(salt)], "was known, and was let in again without a token");
    }
}
