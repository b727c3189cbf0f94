//! The query of a request: filters of the audit, and sizes of a ledger.
#![cfg_attr(fuzzing, no_main)]

use axum::extract::Query;
use axum::http::Uri;
use psfca::wire::{AuditQuery, ConsistencyQuery};

pub(crate) fn run(data: &[u8]) {
    let Ok(uri) = Uri::try_from([b"/?", data].concat()) else { return };
    let _ = Query::<AuditQuery>::try_from_uri(&uri);
    let _ = Query::<ConsistencyQuery>::try_from_uri(&uri);
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));
