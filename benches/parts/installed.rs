//! Putting a bundle in place on a host. Of all parts the only one that waits for a disk: two fsyncs.

use psfca::agent::install::{Ownership, install};
use psfca::random::SystemRandom;

use crate::table::Table;

pub(crate) fn measure(table: &mut Table) {
    if !table.wants("install") {
        return;
    }
    // On the disk of the build: where temporary files lie, fsync may cost nothing.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (path, bundle) = (directory.path().join("postgresql.psf.io.pem"), [b'x'; 2_500]);
    table.part("install/bundle, with its two fsyncs", || {
        install(&path, &bundle, &Ownership::mode(0o600), &SystemRandom).unwrap();
    });
}
