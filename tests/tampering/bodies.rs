//! A body may be missing where an entry says that it was dropped, and nowhere else.

use rusqlite::Connection;

use crate::closed::{Scratch, findings, ledger};

/// Removes bodies, and says in the listing's columns that they were dropped, as the daemon would.
fn remove(sql: &Connection, which: &str) -> usize {
    sql.execute_batch(&format!("PRAGMA temp_store = MEMORY; CREATE TEMP TABLE gone AS {which}")).unwrap();
    sql.execute("UPDATE certificate SET dropped = 1 WHERE idx IN (SELECT idx FROM temp.gone)", []).unwrap();
    sql.execute("DELETE FROM body WHERE idx IN (SELECT idx FROM temp.gone)", []).unwrap()
}

fn found_after(tamper: &dyn Fn(&Connection) -> usize) -> Vec<String> {
    let file = Scratch::new();
    let (found, _) = findings(&file.tampered(tamper), false);
    found.into_iter().map(|finding| finding.what).collect()
}

/// The entry that says what was dropped.
const SAYS_SO: &str = "SELECT idx FROM event WHERE event = 'bodies_dropped'";

#[test]
fn a_body_that_was_removed_though_it_was_not_due_is_found() {
    // It ended before the time that the entry names, and comes after that entry.
    let later = format!("SELECT max(idx) AS idx FROM certificate WHERE dropped = 0 AND idx > ({SAYS_SO})");
    let found = found_after(&|sql| remove(sql, &later));
    assert_eq!(found, ["the certificate's body is missing, and no entry says that it was dropped"]);
    // It comes before that entry, and ended after the time that it names.
    let identity = format!("SELECT min(idx) AS idx FROM certificate WHERE host IS NOT NULL AND idx < ({SAYS_SO})");
    let found = found_after(&|sql| remove(sql, &identity));
    assert_eq!(found, ["the certificate's body is missing, and no entry says that it was dropped"]);
    let found = found_after(&|sql| remove(sql, &format!("SELECT idx FROM body WHERE idx > ({SAYS_SO})")));
    assert!(found.len() > 1_000, "{}", found.len());
}

#[test]
fn the_body_of_a_ca_certificate_that_was_removed_is_found() {
    for index in 0..3 {
        let found = found_after(&|sql| remove(sql, &format!("SELECT {index} AS idx")));
        assert!(found[0].contains("are never dropped"), "{found:?}");
    }
}

#[test]
fn without_the_entry_that_says_so_every_dropped_body_is_found() {
    let removed = |sql: &Connection| {
        let index: u64 = sql.query_row(SAYS_SO, [], |row| row.get(0)).unwrap();
        ["entry", "event"].map(|table| sql.execute(&format!("DELETE FROM {table} WHERE idx = {index}"), []).unwrap())[0]
    };
    let found = found_after(&removed);
    let missing = found.iter().filter(|what| what.contains("no entry says that it was dropped")).count() as u64;
    assert_eq!(missing, ledger().dropped);
    assert!(found.iter().any(|what| what == "1 entry is missing from here"), "{:?}", found.last());
}

/// Whoever moves the entry's row in the listing hides from the audit where to look, and is found.
#[test]
fn an_entry_that_says_so_and_is_listed_as_another_kind_is_found() {
    let found = found_after(&|sql| {
        sql.execute("UPDATE event SET event = 'declaration' WHERE event = 'bodies_dropped'", []).unwrap()
    });
    assert!(found.iter().any(|what| what.contains("by the entry it is \"bodies_dropped\"")), "{:?}", found.last());
}

#[test]
fn an_entry_that_names_a_later_end_than_it_did_is_found() {
    let later = "UPDATE entry SET bytes = CAST(replace(bytes, '\"ended_before\":\"2', '\"ended_before\":\"3') AS BLOB)
        WHERE idx = (SELECT idx FROM event WHERE event = 'bodies_dropped')";
    let found = found_after(&|sql| sql.execute(later, []).unwrap());
    assert!(found.iter().any(|what| what.contains("leaf hash")), "{found:?}");
}
