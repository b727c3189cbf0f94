//! Messages about text that people wrote: the file, the line, the column, a caret and what to do.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::grant::Place;
use crate::terminal::cut_owned;

mod set;

pub use set::Diagnostics;

/// Longest message, label or help in characters: what it quotes may be a file of megabytes.
const MAX_TEXT: usize = 500;

/// A file's text together with its name; cloning it is cheap.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceFile(Arc<Source>);

#[derive(PartialEq, Eq)]
struct Source {
    path: Arc<str>,
    text: String,
    /// Byte offset at which each line begins; the first is 0.
    lines: Vec<usize>,
}

impl SourceFile {
    /// `path` is the file's name as the operator gave it; it appears in every message.
    #[must_use]
    pub fn new(path: &str, text: String) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self(Arc::new(Source { path: path.into(), text, lines }))
    }

    /// As [`SourceFile::new`], from a file's bytes.
    ///
    /// # Errors
    /// A diagnostic with the place of the first byte that is not UTF-8.
    pub fn from_bytes(path: &str, bytes: Vec<u8>) -> Result<Self, Box<Diagnostic>> {
        String::from_utf8(bytes).map(|text| Self::new(path, text)).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let byte = error.as_bytes().get(at).copied().unwrap_or_default();
            // The text before the bad byte is unchanged by the lossy reading, so `at` stays right.
            let file = Self::new(path, String::from_utf8_lossy(error.as_bytes()).into_owned());
            let message = format!("this file is not UTF-8 text: it holds the byte 0x{byte:02x}");
            let replacement = char::REPLACEMENT_CHARACTER.len_utf8();
            Box::new(
                Diagnostic::error(&file, at..at + replacement, message)
                    .help("save the file as UTF-8; letters such as é are probably in another encoding"),
            )
        })
    }

    /// The file as the operator named it.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// File and line of the byte offset `at`.
    #[must_use]
    pub fn place(&self, at: usize) -> Place {
        Place { file: Arc::clone(&self.0.path), line: self.line_column(at).0 }
    }

    /// Line and column of the byte offset `at`, both from 1; the column counts characters.
    #[must_use]
    pub fn line_column(&self, at: usize) -> (u32, u32) {
        let line = self.line_index(at);
        let before = self.text().get(self.0.lines[line]..at).unwrap_or_default();
        let number = |n: usize| u32::try_from(n + 1).unwrap_or(u32::MAX);
        (number(line), number(before.chars().count()))
    }

    /// What stands in a line, counted from 1, without the white space around it.
    #[must_use]
    pub fn line_span(&self, line: u32) -> Range<usize> {
        let start = usize::try_from(line).ok().and_then(|line| self.0.lines.get(line.checked_sub(1)?).copied());
        let Some(start) = start else { return self.text().len()..self.text().len() };
        let text = self.text()[start..].lines().next().unwrap_or_default();
        let start = start + text.len() - text.trim_start().len();
        start..start + text.trim().len()
    }

    fn line_index(&self, at: usize) -> usize {
        self.0.lines.partition_point(|&start| start <= at).saturating_sub(1)
    }

    /// The whole lines that `span` touches: where they begin, and the 1-based number of the first.
    fn lines_around(&self, span: &Range<usize>) -> (Range<usize>, usize) {
        let (first, last) = (self.line_index(span.start), self.line_index(span.end.saturating_sub(1).max(span.start)));
        let end = self.0.lines.get(last + 1).map_or(self.text().len(), |next| next - 1);
        (self.0.lines[first]..end.max(self.0.lines[first]), first + 1)
    }
}

impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceFile({:?}, {} bytes)", self.path(), self.text().len())
    }
}

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// The text cannot be used.
    Error,
    /// The text can be used, and probably does not say what its author wants.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// Each of them, the worst first.
    pub const ALL: [Self; 3] = [Self::Error, Self::Warning, Self::Note];
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// A stretch of a file and what is to be said about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Related {
    /// The file.
    pub file: SourceFile,
    /// Byte offsets into its text.
    pub span: Range<usize>,
    /// What stands there.
    pub label: String,
}

/// One message about one place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file.
    pub file: SourceFile,
    /// Byte offsets into its text.
    pub span: Range<usize>,
    /// The fact.
    pub message: String,
    /// A few words beside the caret.
    pub label: Option<String>,
    /// What to do.
    pub help: Option<String>,
    /// A second place that the message is about, such as the first of two equal keys.
    pub related: Option<Box<Related>>,
}

impl Diagnostic {
    /// A mistake at `span`.
    #[must_use]
    pub fn error(file: &SourceFile, span: Range<usize>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, file, span, message.into())
    }

    /// A warning at `span`.
    #[must_use]
    pub fn warning(file: &SourceFile, span: Range<usize>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, file, span, message.into())
    }

    /// A note at `span`.
    #[must_use]
    pub fn note(file: &SourceFile, span: Range<usize>, message: impl Into<String>) -> Self {
        Self::new(Severity::Note, file, span, message.into())
    }

    fn new(severity: Severity, file: &SourceFile, span: Range<usize>, message: String) -> Self {
        let (span, message) = (within(file.text(), span), cut_owned(message, MAX_TEXT));
        Self { severity, file: file.clone(), span, message, label: None, help: None, related: None }
    }

    /// With a few words beside the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(cut_owned(label.into(), MAX_TEXT));
        self
    }

    /// With what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(cut_owned(help.into(), MAX_TEXT));
        self
    }

    /// With a second place.
    #[must_use]
    pub fn related(mut self, file: &SourceFile, span: Range<usize>, label: impl Into<String>) -> Self {
        let (span, label) = (within(file.text(), span), cut_owned(label.into(), MAX_TEXT));
        self.related = Some(Box::new(Related { file: file.clone(), span, label }));
        self
    }

    /// One line for logs: `file:line:col: error: message`.
    #[must_use]
    pub fn one_line(&self) -> String {
        let (line, column) = self.file.line_column(self.span.start);
        format!("{}:{line}:{column}: {}: {}", self.file.path(), self.severity, self.message)
    }

    /// For people: the message, the source line with a caret, and the help.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let mut group = level.primary_title(&self.message).element(snippet(
            &self.file,
            &self.span,
            self.label.as_deref(),
            AnnotationKind::Primary,
        ));
        if let Some(related) = &self.related {
            let Related { file, span, label } = &**related;
            group = group.element(snippet(file, span, Some(label), AnnotationKind::Context));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.term_width(120).render(&[group])
    }
}

/// Only the lines that are shown: a message about a file of megabytes costs no more than another.
fn snippet<'a>(
    file: &'a SourceFile,
    span: &Range<usize>,
    label: Option<&'a str>,
    kind: AnnotationKind,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let (lines, number) = file.lines_around(span);
    let local = span.start - lines.start..span.end.min(lines.end).max(span.start) - lines.start;
    Snippet::source(&file.text()[lines]).line_start(number).path(file.path()).annotation(kind.span(local).label(label))
}

/// The part of `span` that lies in `text`, on character boundaries.
fn within(text: &str, span: Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(span.start);
    start..text.floor_char_boundary(span.end.max(start))
}

/// The candidate that `word` was probably meant to be, if any is close enough to be worth a question.
#[must_use]
pub fn closest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let scored = candidates.into_iter().map(|candidate| (strsim::jaro_winkler(word, candidate), candidate));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(score, _)| *score > 0.82).map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shows_place_line_caret_and_help() {
        let file = SourceFile::new("ca-config/tls.yaml", "tls:\n  gen_cert:\n    a.psf.io: {}\n".into());
        let diagnostic =
            Diagnostic::error(&file, 7..15, "unknown key \"gen_cert\"").help("did you mean \"gen_certs\"?");
        assert_eq!(diagnostic.one_line(), "ca-config/tls.yaml:2:3: error: unknown key \"gen_cert\"");
        insta::assert_snapshot!(diagnostic.render(false), @r#"
        error: unknown key "gen_cert"
         --> ca-config/tls.yaml:2:3
          |
        2 |   gen_cert:
          |   ^^^^^^^^
          |
          = help: did you mean "gen_certs"?
        "#);
    }

    #[test]
    fn a_file_in_another_encoding_is_named_with_its_first_bad_byte() {
        let error = SourceFile::from_bytes("x.yaml", b"a: 1\nb: caf\xe9 x\n".to_vec()).unwrap_err();
        assert_eq!(error.one_line(), "x.yaml:2:7: error: this file is not UTF-8 text: it holds the byte 0xe9");
        assert!(error.render(false).contains("2 | b: caf\u{fffd} x"));
    }

    #[test]
    fn a_span_outside_the_text_is_drawn_at_its_end() {
        let file = SourceFile::new("x", "é\n".into());
        for span in [1..1, 1..2, 2..9, 99..100, 3..3] {
            let _ = Diagnostic::error(&file, span, "m").render(true);
        }
        let _ = Diagnostic::error(&SourceFile::new("x", String::new()), 0..1, "m").render(false);
    }
}
