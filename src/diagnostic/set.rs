//! Messages together: in order, counted, and not without end.

use std::fmt;

use super::{Diagnostic, Severity};

/// Most messages of one severity that are kept; nobody reads more, and a file has room for a million.
const MAX_KEPT: usize = 100;

/// The messages about a set of files: the first hundred of each severity, and how many there were.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Diagnostics {
    kept: Vec<Diagnostic>,
    /// Of each severity, what is kept and what is not.
    counts: [usize; 3],
}

impl Diagnostics {
    /// No messages yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { kept: Vec::new(), counts: [0; 3] }
    }

    /// Adds one; past the hundredth of its severity it is only counted.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let count = &mut self.counts[diagnostic.severity as usize];
        *count += 1;
        if *count <= MAX_KEPT {
            self.kept.push(diagnostic);
        }
    }

    /// Adds all of `others`.
    pub fn append(&mut self, others: Self) {
        let omitted = others.counts.map(|count| count.saturating_sub(MAX_KEPT));
        others.kept.into_iter().for_each(|one| self.push(one));
        self.counts.iter_mut().zip(omitted).for_each(|(count, more)| *count += more);
    }

    /// Whether any is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// How many there are of one severity, kept or not.
    #[must_use]
    pub const fn count(&self, severity: Severity) -> usize {
        self.counts[severity as usize]
    }

    /// How many were counted and not kept.
    #[must_use]
    pub fn omitted(&self) -> usize {
        self.counts.iter().sum::<usize>() - self.kept.len()
    }

    /// Whether there are none at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Those that are kept, in the order of their places: by file name, then by position.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        let mut sorted: Vec<_> = self.kept.iter().collect();
        sorted.sort_by_key(|d| (d.file.path(), d.span.start, d.severity));
        sorted.into_iter()
    }

    /// For people, a blank line between two; ends with a line break unless empty.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let blocks = self.iter().map(|diagnostic| diagnostic.render(colour) + "\n");
        blocks.chain(self.and_more().map(|more| more + "\n")).collect::<Vec<_>>().join("\n")
    }

    /// The mistakes on one line, for logs: the first `most`, and how many more.
    #[must_use]
    pub fn summary(&self, most: usize) -> String {
        let errors = self.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
        let mut parts: Vec<_> = errors.take(most).map(Diagnostic::one_line).collect();
        let more = self.count(Severity::Error) - parts.len();
        if more > 0 {
            parts.push(format!("and {more} more"));
        }
        parts.join("; ")
    }

    /// `and 7 more errors, 2 more warnings`, where any were not kept.
    fn and_more(&self) -> Option<String> {
        let more = Severity::ALL.into_iter().filter_map(|severity| {
            let more = self.count(severity).saturating_sub(MAX_KEPT);
            (more > 0).then(|| format!("{more} more {severity}{}", if more == 1 { "" } else { "s" }))
        });
        let more = more.collect::<Vec<_>>().join(", ");
        (!more.is_empty()).then(|| format!("and {more}"))
    }

    /// The value when nothing is wrong with it, and the warnings and notes either way.
    ///
    /// # Errors
    /// The diagnostics themselves when one of them is an error or `value` is missing.
    pub fn finish<T>(self, value: Option<T>) -> Result<(T, Self), Self> {
        match value {
            Some(value) if !self.has_errors() => Ok((value, self)),
            _ => Err(self),
        }
    }
}

impl fmt::Display for Diagnostics {
    /// One line each, as [`Diagnostic::one_line`], and how many more there were.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.iter().enumerate() {
            write!(f, "{}{}", if index > 0 { "\n" } else { "" }, diagnostic.one_line())?;
        }
        self.and_more().map_or(Ok(()), |more| write!(f, "\n{more}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::SourceFile;
    use super::*;

    #[test]
    fn messages_come_in_the_order_of_their_places() {
        let file = SourceFile::new("b", "x\ny\n".into());
        let other = SourceFile::new("a", "z".into());
        let mut all = Diagnostics::new();
        all.push(Diagnostic::warning(&file, 2..3, "third"));
        all.push(Diagnostic::error(&file, 0..1, "second"));
        all.push(Diagnostic::note(&other, 0..1, "first"));
        assert_eq!(all.to_string(), "a:1:1: note: first\nb:1:1: error: second\nb:2:1: warning: third");
    }

    #[test]
    fn a_million_mistakes_are_counted_and_a_hundred_are_told() {
        let file = SourceFile::new("t.yaml", "x".repeat(1 << 20));
        let mut all = Diagnostics::new();
        for n in 0..1_000 {
            all.push(Diagnostic::warning(&file, n..n + 1, "odd"));
        }
        // An error is never crowded out by warnings.
        for n in 0..300 {
            all.push(Diagnostic::error(&file, n..n + 1, file.text()).help(file.text()).label(file.text()));
        }
        let mut together = Diagnostics::new();
        together.push(Diagnostic::error(&file, 0..1, "first"));
        together.append(all);
        assert_eq!((together.count(Severity::Error), together.count(Severity::Warning)), (301, 1_000));
        assert_eq!((together.iter().count(), together.omitted()), (200, 1_101));
        assert!(together.has_errors());
        let text = together.render(false);
        assert!(text.ends_with("\nand 201 more errors, 900 more warnings\n"), "{}", &text[text.len() - 100..]);
        assert!(text.len() < 1 << 20, "{}", text.len());
        assert!(together.to_string().ends_with("\nand 201 more errors, 900 more warnings"));
        let line = together.summary(3);
        assert!(line.starts_with("t.yaml:1:1: error: ") && line.ends_with("; and 298 more"), "{line}");
        assert!(line.len() < 4_000, "{}", line.len());
    }
}
