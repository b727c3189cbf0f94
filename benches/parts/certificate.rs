//! From a request to a certificate, step by step and as a whole.

use psfca::ca::csr::SubjectKey;

use crate::support::office::{Bare, Office};
use crate::table::Table;

pub(crate) fn measure(table: &mut Table) {
    let bare = Bare::new();
    table.part("bare/verify-and-sign", || (bare.verify(), bare.sign()));
    table.part("bare/verify", || bare.verify());
    table.part("bare/sign", || bare.sign());
    table.part("bare/make-key", || bare.make_key());
    table.part("bare/request", || bare.certify());
    table.part("bare/bundle", || bare.bundle());
    if table.wants("step") || table.wants("whole") {
        let office = Office::open();
        steps(table, &office);
        table.part("whole/request", || office.certify(true));
        table.part("whole/request-without-lint", || office.certify(false));
        table.part("whole/bundle", || office.bundle(true));
        table.part("whole/bundle-without-lint", || office.bundle(false));
    }
}

fn steps(table: &mut Table, office: &Office) {
    let (grant, made) = (office.judge(&office.name), office.judge(&office.made_name));
    let key = office.key(&grant);
    let tbs = office.build(&grant, &key);
    let linted = office.lint(tbs.clone(), &grant, &key);
    let signed = office.sign();
    table.part("step/judge", || office.judge(&office.name));
    table.part("step/key-from-request", || office.key(&grant));
    table.part("step/make-key", || SubjectKey::generate(made.key()).unwrap());
    table.part("step/build", || office.build(&grant, &key));
    table.part("step/lint", || office.lint(tbs.clone(), &grant, &key));
    table.part("step/encode-entry", || office.draft(&grant, &key, &linted, false));
    table.part("step/sign", || office.sign());
    table.part("step/pem", || office.chain(&signed));
}
