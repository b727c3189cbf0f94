//! What every page is used for.

use super::header::Header;
use super::{Faults, Source};
use crate::store::StoreError;

/// What a page is, by the numbers that a pointer map has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// The root of a tree.
    Root = 1,
    /// A free page.
    Free = 2,
    /// Where a record goes on; its parent is the page of the tree with the beginning.
    FirstOverflow = 3,
    /// Where it goes on again; its parent is the page before.
    Overflow = 4,
    /// A page of a tree, but for its root; its parent is the page above.
    Node = 5,
}

/// The use and the parent of each page, so far.
#[derive(Debug, Default)]
pub(in super::super) struct Usage {
    /// By the page's number less one: 0, or the use above the 32 bits of the parent.
    uses: Vec<u64>,
}

impl Usage {
    pub(super) fn new(pages: u32) -> Result<Self, StoreError> {
        let pages = pages as usize;
        // A page has 512 octets at least, so this is less than the file says to be. It may be all holes: therefore it
        // is asked for first, and then comes as zeros that take no memory before they are changed.
        Vec::<u64>::new()
            .try_reserve_exact(pages)
            .map_err(|_| StoreError::Unavailable(format!("there is no memory for {pages} pages")))?;
        Ok(Self { uses: vec![0; pages] })
    }

    /// Takes a page for a use, or says why that cannot be.
    pub(super) fn take(&mut self, page: u32, purpose: Use, parent: u32) -> Result<(), &'static str> {
        let place = (page as usize).checked_sub(1).and_then(|place| self.uses.get_mut(place));
        match place {
            Some(place @ 0) => {
                *place = (purpose as u64) << 32 | u64::from(parent);
                Ok(())
            }
            Some(_) => Err("it is used twice"),
            None => Err("there is no such page"),
        }
    }

    /// Adds what another reading of the same file used.
    pub(in super::super) fn join(&mut self, other: &Self, faults: &mut Faults) {
        if self.uses.len() != other.uses.len() {
            faults.tell("the file was read with two numbers of pages");
        }
        for (page, (here, there)) in (1u32..).zip(self.uses.iter_mut().zip(&other.uses)) {
            if *here != 0 && *there != 0 {
                faults.tell(format!("page {page}: it is used twice"));
            }
            if *there != 0 {
                *here = *there;
            }
        }
    }

    /// Whether each page has a use where all of them were looked for, and that of which the pointer map knows.
    pub(super) fn check(
        &self,
        header: &Header,
        source: &mut impl Source,
        complete: bool,
        faults: &mut Faults,
    ) -> Result<(), StoreError> {
        let mut maps = header.map_pages().peekable();
        let locked = header.locked_page();
        let mut octets = Vec::new();
        // The first page stands before the map, and is no other's child.
        let mut entries: &[[u8; 5]] = &[];
        for (page, used) in (1u32..).zip(&self.uses) {
            if faults.is_full() {
                break;
            }
            if maps.next_if_eq(&page).is_some() {
                if *used != 0 {
                    faults.tell(format!("page {page}: it is one of the pointer map, and used otherwise"));
                }
                source.read(page, &mut octets)?;
                entries = octets.get(..header.size.usable).unwrap_or_default().as_chunks().0;
                continue;
            }
            let entry = match page {
                1 => None,
                _ => entries.split_first().map(|(entry, rest)| {
                    entries = rest;
                    entry
                }),
            };
            if page == locked {
                if *used != 0 {
                    faults.tell(format!("page {page}: it must not be used"));
                }
            } else if *used == 0 {
                if complete {
                    faults.tell(format!("page {page}: it is not used"));
                }
            } else if let Some([kind, parent @ ..]) = entry
                && (u64::from(*kind) << 32 | u64::from(u32::from_be_bytes(*parent))) != *used
            {
                faults.tell(format!("page {page}: it is not what the pointer map says"));
            }
        }
        Ok(())
    }
}
