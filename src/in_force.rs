//! The declaration in force: what every request is judged by, and what keeps a newer one out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// Why what lies in the files is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// For operators: it quotes the files.
    pub text: String,
    /// Since when there has been one, whatever it was at first.
    pub since: Timestamp,
}

/// The slot that requests read and a reload writes.
#[derive(Debug)]
pub struct DeclarationSlot {
    current: ArcSwap<InForce>,
    problem: Mutex<Option<Problem>>,
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

    /// Replaces it, after the store has put the new one in force; returns the one before, whose end takes a while when
    /// it is large.
    #[must_use]
    pub fn replace(&self, in_force: InForce) -> Arc<InForce> {
        let before = self.current.swap(Arc::new(in_force));
        self.clear_problem();
        before
    }

    /// What lies in the files is in force.
    pub fn clear_problem(&self) {
        *self.lock() = None;
    }

    /// What lies in the files is not in force, because of `text`, as seen at `now`.
    pub fn set_problem(&self, text: String, now: Timestamp) {
        let mut problem = self.lock();
        let since = problem.as_ref().map_or(now, |before| before.since);
        *problem = Some(Problem { text, since });
    }

    /// Why what lies in the files is not in force; none when it is.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Problem>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
