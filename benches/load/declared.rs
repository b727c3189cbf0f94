//! A declaration as large as one may think of.

use std::fmt::Write as _;

use crate::fleet::roles_yaml;
use crate::support::Ca;

/// Names in it besides the fleet's.
pub(crate) const NAMES: usize = 10_000;
/// Roles besides the fleet's.
pub(crate) const ROLES: usize = 1_000;

/// Writes it: what `own` says of the fleet's names, and so many names more.
pub(crate) fn write(ca: &Ca, own: &str, more: usize) {
    let mut roles = roles_yaml();
    for role in 0..ROLES {
        writeln!(roles, "  role{role}: 'host*.site{role}.psf.io'").unwrap();
    }
    std::fs::write(ca.dir().join("roles.yaml"), roles).unwrap();
    std::fs::write(ca.dir().join("tls.yaml"), names(own, more)).unwrap();
}

/// Its names.
pub(crate) fn names(own: &str, more: usize) -> String {
    let mut text = own.to_owned();
    for number in 0..more {
        writeln!(text, "    name{number}.psf.io:\n      days: 30\n      roles: [role{}]", number % ROLES).unwrap();
    }
    text
}
