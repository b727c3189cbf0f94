//! What holds the file together: the headers of its pages, the upper pages of its trees, the list of free pages and
//! the pointer map. No row says any of that.

use std::path::Path;

use psfca::store::page_faults;
use rusqlite::Connection;

use crate::closed::{Scratch, findings, in_parallel, ledger, thoroughly};

/// How large a page of a ledger is.
const PAGE: usize = 4_096;

/// Pages of trees: numbers less one, and the kind.
fn pages_of_trees(file: &[u8]) -> Vec<(usize, u8)> {
    // The second page is of the pointer map, and so is each behind those of which such a page knows.
    let pages = file.chunks(PAGE).enumerate().skip(2).filter(|(page, _)| page % (PAGE / 5 + 1) != 1);
    pages.map(|(page, octets)| (page, octets[0])).filter(|(_, kind)| [2, 5, 10, 13].contains(kind)).collect()
}

fn number(octets: &[u8]) -> u32 {
    u32::from_be_bytes(octets[..4].try_into().unwrap())
}

/// Where the root of this tree begins in the file.
fn root(file: &Path, name: &str) -> usize {
    let sql = Connection::open(file).unwrap();
    let page: usize =
        sql.query_row("SELECT rootpage FROM sqlite_schema WHERE name = ?1", [name], |row| row.get(0)).unwrap();
    (page - 1) * PAGE
}

/// Each change, a place and the octet there, has to be found, and all of what is found to have `what` in it somewhere.
fn each_is_found(original: &[u8], changes: &[(usize, u8)], what: &str) {
    assert!(!changes.is_empty());
    in_parallel(changes, |scratch, &(place, octet)| {
        let mut octets = original.to_vec();
        assert_ne!(octets[place], octet);
        octets[place] = octet;
        std::fs::write(scratch.file(), &octets).unwrap();
        let (found, _) = findings(&scratch.file(), false);
        let said = found.iter().any(|finding| finding.what.contains(what));
        assert!(said, "page {} octet {}: {found:?}", place / PAGE + 1, place % PAGE);
    });
}

#[test]
fn a_count_of_fragments_that_is_not_theirs_is_found_on_every_kind_of_page() {
    let original = std::fs::read(&ledger().file).unwrap();
    let pages = pages_of_trees(&original);
    let mut changes = Vec::new();
    for kind in [2, 5, 10, 13] {
        let pages: Vec<_> = pages.iter().filter(|page| page.1 == kind).map(|page| page.0 * PAGE + 7).collect();
        let step = if thoroughly() { 1 } else { pages.len().div_ceil(8) };
        changes.extend(pages.iter().step_by(step).map(|place| (*place, original[*place].wrapping_add(1))));
    }
    each_is_found(&original, &changes, "its cells, free blocks and fragments are not all of it");
}

#[test]
fn a_changed_octet_anywhere_in_a_cell_of_an_upper_page_is_found() {
    let original = std::fs::read(&ledger().file).unwrap();
    for (name, kind) in [("certificate_by_serial", 2), ("certificate_by_name", 2), ("entry", 5), ("body", 5)] {
        let at = root(&ledger().file, name);
        let page = &original[at..at + PAGE];
        assert_eq!(page[0], kind, "{name}");
        // The header but for the fragments, the places of the cells, and the first of the cells.
        let cells = usize::from(u16::from_be_bytes([page[3], page[4]]));
        let first = usize::from(u16::from_be_bytes([page[12], page[13]]));
        // Child, number; or child, length of the record, and the record.
        let length = if kind == 5 { 5 } else { 5 + usize::from(page[first + 4]) };
        let places = (0..12 + 2 * cells).chain(first..first + length).filter(|place| *place != 7);
        let changes: Vec<_> = places.map(|place| (at + place, page[place] ^ 1)).collect();
        let changes: Vec<_> = changes.into_iter().step_by(if thoroughly() { 1 } else { 3 }).collect();
        each_is_found(&original, &changes, "");
    }
}

#[test]
fn a_pointer_map_that_says_something_else_of_a_page_is_found() {
    let original = std::fs::read(&ledger().file).unwrap();
    // The entries of the pages behind it, as far as there are pages.
    let entries = (PAGE / 5).min(original.len() / PAGE - 2);
    let octets = (PAGE..PAGE + 5 * entries).step_by(if thoroughly() { 1 } else { 41 });
    let changes: Vec<_> = octets.map(|place| (place, original[place] ^ 1)).collect();
    each_is_found(&original, &changes, "it is not what the pointer map says");
}

#[test]
fn a_list_of_free_pages_that_has_others_than_are_free_is_found() {
    let scratch = Scratch::new();
    let file = scratch.tampered(&|sql| {
        sql.execute_batch("CREATE TABLE large (a); INSERT INTO large VALUES (zeroblob(50000)); DROP TABLE large")
            .unwrap();
        1
    });
    // Free pages are nothing wrong.
    assert_eq!(findings(&file, false).0, []);
    let original = std::fs::read(&file).unwrap();
    assert_eq!(page_faults(&original), [""; 0]);
    let trunk = (number(&original[32..]) as usize - 1) * PAGE;
    assert!(number(&original[trunk + 4..]) > 5, "{} pages are free", number(&original[36..]));
    // The first page of the list and the count, in the file's header; the next of such pages, the count, and a page.
    let places = [35, 39, trunk, trunk + 3, trunk + 7, trunk + 11, trunk + 15];
    each_is_found(&original, &places.map(|place| (place, original[place] ^ 1)), "");
}
