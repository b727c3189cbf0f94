//! What was met while a part of the file was read. Two readings, of the entries with what lies beside them and of all the
//! rest, are the whole file.

use super::pages::{Faults, Pages, Source, Usage};
use super::structure::Indexed;
use crate::store::StoreError;

/// What was met in a part of the file.
#[derive(Debug)]
pub struct Reading {
    pub(super) indexed: Indexed,
    pub(super) faults: Faults,
    /// Nothing where the reading came to no end.
    usage: Option<Usage>,
}

impl Reading {
    /// Two that can be held against each other.
    #[must_use]
    pub fn pair() -> (Self, Self) {
        let indexed = Indexed::default();
        let new = |indexed| Self { indexed, faults: Faults::default(), usage: None };
        (new(indexed.clone()), new(indexed))
    }

    /// Reads by `read`, and keeps what that found.
    pub(super) fn of<S: Source>(
        &mut self,
        source: S,
        read: impl FnOnce(&mut Pages<S>, &mut Indexed) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut pages = Pages::open(source)?;
        let outcome = read(&mut pages, &mut self.indexed);
        let (usage, faults) = pages.end();
        faults.into_texts().into_iter().for_each(|fault| self.faults.tell(fault));
        self.usage = outcome.is_ok().then_some(usage);
        outcome
    }

    /// Everything that is wrong with the file whose two parts these are, one text for each: the table's and the rest's.
    pub(super) fn join<S: Source>(self, rest: Self, source: S) -> Result<Vec<String>, StoreError> {
        let mut faults = rest.faults;
        self.faults.into_texts().into_iter().for_each(|fault| faults.tell(fault));
        self.indexed.compare(&rest.indexed, &mut faults);
        if let (Some(mut usage), Some(rest)) = (self.usage, rest.usage) {
            // What lies behind a fault was not read.
            let complete = faults.is_empty();
            usage.join(&rest, &mut faults);
            let mut pages = Pages::open(source)?;
            pages.check_usage(&usage, complete)?;
            pages.end().1.into_texts().into_iter().for_each(|fault| faults.tell(fault));
        }
        Ok(faults.into_texts())
    }
}
