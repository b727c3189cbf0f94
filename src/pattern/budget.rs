//! What all regular expressions of a declaration may take together.

/// Most bytes of all compiled regular expressions of one declaration.
pub(super) const MAX_PROGRAMS: usize = 64 << 20;

/// How much the regular expressions of one declaration may still take when they are compiled. A short text
/// can make a large program, and a file has room for thousands of such texts.
#[derive(Debug)]
pub struct ProgramBudget {
    left: usize,
    exceeded: bool,
}

impl Default for ProgramBudget {
    /// 64 MiB.
    fn default() -> Self {
        Self { left: MAX_PROGRAMS, exceeded: false }
    }
}

impl ProgramBudget {
    /// Whether a pattern was refused because there was too little left.
    #[must_use]
    pub const fn is_exceeded(&self) -> bool {
        self.exceeded
    }

    /// Takes so much for one more program; tells whether there was so much.
    pub(super) const fn take(&mut self, bytes: usize) -> bool {
        self.exceeded = self.exceeded || bytes > self.left;
        self.left = self.left.saturating_sub(bytes);
        !self.exceeded
    }
}
