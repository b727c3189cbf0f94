//! The roles of one host, for whoever asks about many names.

use super::{Declaration, ListedRole, Role};
use crate::name::HostName;

/// Which roles a host has, as far as it was asked: no pattern is matched twice.
#[derive(Debug)]
pub struct HostRoles<'d> {
    declaration: &'d Declaration,
    host: &'d HostName,
    /// One for each role of the declaration.
    known: Vec<Option<bool>>,
}

impl<'d> HostRoles<'d> {
    /// Nothing was asked yet.
    #[must_use]
    pub fn new(declaration: &'d Declaration, host: &'d HostName) -> Self {
        Self { declaration, host, known: vec![None; declaration.roles().len()] }
    }

    /// The definition of a role that a name of the declaration lists, if the host has it.
    pub fn role(&mut self, listed: &ListedRole) -> Option<&'d Role> {
        let index = listed.role?;
        let role = self.declaration.roles().get(index)?;
        let has = self.known.get_mut(index)?.get_or_insert_with(|| role.pattern.matches(self.host));
        has.then_some(role)
    }
}
