//! The declaration in force: what every request is judged by, and what keeps a newer one out.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::clock::Timestamp;
use crate::declaration::Declaration;

/// A declaration with the moment from which it is in force.
#[derive(Debug)]
pub struct InForce {
    /// What is declared.
    pub declaration: Declaration,
    /// Since when.
    pub since: Timestamp,
}

/// The slot that requests read and a reload writes.
#[derive(Debug)]
pub struct DeclarationSlot {
    current: ArcSwap<InForce>,
    problem: Mutex<Option<String>>,
}

impl DeclarationSlot {
    /// Begins with a declaration that the store has put in force.
    #[must_use]
    pub fn new(in_force: InForce) -> Self {
        Self { current: ArcSwap::from_pointee(in_force), problem: Mutex::new(None) }
    }

    /// The declaration in force now.
    #[must_use]
    pub fn current(&self) -> Arc<InForce> {
        self.current.load_full()
    }

    /// Replaces it, after the store has put the new one in force.
    pub fn replace(&self, in_force: InForce) {
        self.current.store(Arc::new(in_force));
        self.set_problem(None);
    }

    /// Why what lies in the files now is not in force; none when it is.
    pub fn set_problem(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// What [`DeclarationSlot::set_problem`] was last told.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
