//! The pages of a ledger's file, read as an auditor has to: by the definition of the format
//! (<https://sqlite.org/fileformat2.html>) and not by the library that wrote them.
//!
//! One walk over each B-tree checks a page and hands over its rows as slices of it. What each page is used for is
//! written down on the way ([`Usage`]), so that at the end every page has had one use, and that which the pointer
//! map says. Damage is a fault that is told, and what lies behind it is left out; since no page is read for a second
//! use, no walk is endless.
//!
//! SQLite still says what a page is: [`SqlitePages`] asks it for one at a time, within its transaction, so a log
//! beside the file, locks and memory are its business.

mod cursor;
mod freelist;
mod header;
mod node;
pub(super) mod record;
mod source;
mod usage;

use crate::store::StoreError;

pub(super) use cursor::{Cursor, Tree};
use header::Header;
use node::Tiles;
pub(in super::super) use source::require_pages;
pub(super) use source::{Source, SqlitePages};
pub(super) use usage::Usage;

/// Most faults that are told of one reading.
pub(super) const MAX_FAULTS: usize = 100;

/// What is wrong, as far as it is told.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<String>);

impl Faults {
    pub(super) fn tell(&mut self, fault: impl Into<String>) {
        if !self.is_full() {
            self.0.push(fault.into());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn is_full(&self) -> bool {
        self.0.len() >= MAX_FAULTS
    }

    pub(super) fn into_texts(self) -> Vec<String> {
        self.0
    }
}

/// A file's pages while they are read: where they come from, what was used, and what is wrong.
pub(super) struct Pages<S> {
    source: S,
    header: Header,
    usage: Usage,
    faults: Faults,
    /// Used again for each page.
    tiles: Tiles,
}

impl<S: Source> Pages<S> {
    /// Reads the header on the first page.
    pub(super) fn open(mut source: S) -> Result<Self, StoreError> {
        let mut first = Vec::new();
        source.read(1, &mut first)?;
        let header = Header::parse(&first, source.count())
            .ok_or_else(|| StoreError::Damaged("its first page has no header".to_owned()))?;
        let usage = Usage::new(header.pages)?;
        Ok(Self { source, header, usage, faults: Faults::default(), tiles: Tiles::default() })
    }

    /// Looks at the header itself, by the roots of all trees, and at the list of free pages.
    pub(super) fn check_header(&mut self, largest_root: u32) -> Result<(), StoreError> {
        self.header.check(largest_root, &mut self.faults);
        freelist::walk(self)
    }

    /// Walks over a tree whose rows are read otherwise.
    pub(super) fn walk(&mut self, name: &str, root: u32) -> Result<(), StoreError> {
        let mut cursor = Cursor::new(name, root, None);
        while cursor.advance(self)? {}
        Ok(())
    }

    pub(super) const fn faults(&mut self) -> &mut Faults {
        &mut self.faults
    }

    /// What was used, and what is wrong.
    pub(super) fn end(self) -> (Usage, Faults) {
        (self.usage, self.faults)
    }

    /// Whether every page has a use, and that of which the pointer map knows. `usage` is that of all readings, and
    /// `complete` whether none of them left a page out.
    pub(super) fn check_usage(&mut self, usage: &Usage, complete: bool) -> Result<(), StoreError> {
        usage.check(&self.header, &mut self.source, complete, &mut self.faults)
    }
}

/// What is wrong with the pages of a file that lies in memory, whoever made it: of all its trees, and what is in no
/// tree. Of the rows nothing is asked but that they can be read.
#[must_use]
pub fn page_faults(file: &[u8]) -> Vec<String> {
    let walked = source::Octets::new(file)
        .ok_or_else(|| StoreError::Damaged("it is no database".to_owned()))
        .and_then(|source| walk_all(Pages::open(source)?));
    match walked {
        Ok(faults) => faults.into_texts(),
        Err(error) => vec![error.to_string()],
    }
}

fn walk_all<S: Source>(mut pages: Pages<S>) -> Result<Faults, StoreError> {
    let mut roots = vec![("sqlite_schema".to_owned(), 1)];
    let mut schema = Cursor::new("sqlite_schema", 1, Some(Tree::Table));
    while schema.advance(&mut pages)? {
        match record::read(schema.payload()) {
            Some([_, record::Value::Text(name), _, record::Value::Integer(root), _]) => {
                let root = u32::try_from(root).unwrap_or(u32::MAX);
                roots.push((String::from_utf8_lossy(name).into_owned(), root));
            }
            _ => pages.faults.tell("a row of sqlite_schema cannot be read"),
        }
    }
    // Views and triggers have none.
    for (name, root) in roots.iter().skip(1).filter(|(_, root)| *root != 0) {
        let mut cursor = Cursor::new(name, *root, None);
        while cursor.advance(&mut pages)? {
            if !record::is_sound(cursor.payload()) {
                pages.faults.tell(format!("a row of {name} cannot be read"));
            }
        }
    }
    pages.check_header(roots.iter().map(|(_, root)| *root).max().unwrap_or(0))?;
    let usage = std::mem::take(&mut pages.usage);
    let complete = pages.faults.is_empty();
    pages.check_usage(&usage, complete)?;
    Ok(pages.faults)
}

#[cfg(test)]
mod tests;
