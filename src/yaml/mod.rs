//! YAML as one tree in which every key and value knows its place.
//!
//! The tree is read once. What a declaration has no use for (aliases, tags, merge keys, several
//! documents) is refused by name; text that a template engine would change is refused first.

pub mod reader;

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile};

/// Largest file that is read, in bytes; 10,000 names take about 1 MiB.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Deepest nesting; a declaration needs five levels.
const MAX_DEPTH: usize = 32;
/// Most template marks that are listed one by one.
const MAX_TEMPLATE_MARKS: usize = 20;

/// A value and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Byte offsets into the file's text, with the quotes of a quoted scalar.
    pub span: Range<usize>,
    /// What stands there.
    pub value: Value,
}

/// The three kinds of value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// A text; `plain` when it stands without quotes and may thus mean a number, a truth value or nothing.
    Scalar {
        /// The text, unescaped.
        text: String,
        /// Whether it stands without quotes.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// Keys with values, in the order in which they are written.
    Mapping(Vec<Entry>),
}

/// One key of a mapping with its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The key, unescaped.
    pub key: String,
    /// Where the key stands.
    pub key_span: Range<usize>,
    /// The value.
    pub value: Node,
}

impl Node {
    /// Whether nothing was given: an empty value, `~` or `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }

    /// Where the bytes `range` of the scalar's text stand in the file; the whole value when
    /// escapes or line folding make that unanswerable.
    #[must_use]
    pub fn locate(&self, file: &SourceFile, range: Range<usize>) -> Range<usize> {
        let Value::Scalar { text, .. } = &self.value else { return self.span.clone() };
        let source = file.text().get(self.span.clone()).unwrap_or_default();
        for quote in [0, 1] {
            let inner = source.len().checked_sub(quote).and_then(|end| source.get(quote..end));
            if inner == Some(text.as_str()) {
                let start = self.span.start + quote;
                return start + range.start..start + range.end;
            }
        }
        self.span.clone()
    }
}

/// Reads `file`; what is wrong with it goes to `out`.
///
/// `None` when there is no tree to look at. A tree may come together with errors: duplicate keys
/// do not hide what is wrong elsewhere.
pub fn parse(file: &SourceFile, out: &mut Diagnostics) -> Option<Node> {
    let text = file.text();
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes; {MAX_BYTES} is the most that is read", text.len());
        out.push(Diagnostic::error(file, 0..0, message).help("divide it into several files"));
        return None;
    }
    if report_byte_order_mark(file, out) | report_templates(file, out) {
        return None;
    }
    let offsets = Offsets::of(text);
    let mut builder = Builder { file, out, offsets, stack: Vec::new(), root: None };
    let mut documents = 0;
    for event in Parser::new(StrInput::new(text)) {
        match event {
            Ok((Event::DocumentStart(_), span)) => {
                documents += 1;
                if documents > 1 {
                    let span = builder.offsets.range(span);
                    let message = "a second YAML document begins here; one file holds one document";
                    builder.out.push(Diagnostic::error(file, span, message).help("remove the line \"---\""));
                    return None;
                }
            }
            Ok((event, span)) => builder.event(event, span)?,
            Err(error) => {
                let at = builder.offsets.byte(error.marker().index());
                builder.out.push(syntax_error(file, at, error.info()));
                return None;
            }
        }
    }
    let root = builder.root.filter(|root| !root.is_null());
    if root.is_none() {
        out.push(
            Diagnostic::error(file, 0..0, "the file is empty").help("remove it from the list, or write what it is for"),
        );
    }
    root
}

fn syntax_error(file: &SourceFile, at: usize, info: &str) -> Diagnostic {
    let at = file.text().floor_char_boundary(at);
    let line_start = file.text()[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = file.text()[line_start..].lines().next().unwrap_or_default();
    let indent = line.len() - line.trim_start().len();
    let error = Diagnostic::error(file, at..at + 1, format!("this is not YAML: {info}"));
    if line[..indent].contains('\t') {
        return error.help("the line begins with a tab; YAML allows only spaces there");
    }
    error.help("look at the indentation and at quotes and brackets from here upwards")
}

fn report_byte_order_mark(file: &SourceFile, out: &mut Diagnostics) -> bool {
    let found = file.text().starts_with('\u{feff}');
    if found {
        let error = Diagnostic::error(file, 0..3, "the file begins with a byte order mark");
        out.push(error.help("save it as UTF-8 without a byte order mark (BOM)"));
    }
    found
}

/// Salt runs Jinja over the whole text before YAML is read, comments included, so a mark anywhere
/// may change the meaning of everything after it.
fn report_templates(file: &SourceFile, out: &mut Diagnostics) -> bool {
    const HELP: &str = "write the result out, or render the file with Salt first and declare what comes out";
    let text = file.text();
    let first_line = text.lines().next().unwrap_or_default();
    if first_line.starts_with("#!") && first_line.trim_end() != "#!yaml" {
        let message = "this file asks for a Salt renderer; Jinja and other renderers are not evaluated";
        out.push(Diagnostic::error(file, 0..first_line.len(), message).help(HELP));
        return true;
    }
    let mut found = 0;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let mark = ["{%", "{{", "{#"].iter().filter_map(|mark| line.find(mark)).min();
        if let Some(at) = mark.map(|at| offset + at) {
            found += 1;
            if found <= MAX_TEMPLATE_MARKS {
                out.push(Diagnostic::error(file, at..at + 2, "Jinja is not evaluated").help(HELP));
            }
        }
        offset += line.len();
    }
    found > 0
}

/// The parser counts characters; everything else here counts bytes.
struct Offsets {
    /// Byte offset of each character; empty when the text is ASCII and the two agree.
    table: Vec<usize>,
    len: usize,
}

impl Offsets {
    fn of(text: &str) -> Self {
        let table = if text.is_ascii() { Vec::new() } else { text.char_indices().map(|(at, _)| at).collect() };
        Self { table, len: text.len() }
    }

    fn byte(&self, character: usize) -> usize {
        if self.table.is_empty() {
            return character.min(self.len);
        }
        self.table.get(character).copied().unwrap_or(self.len)
    }

    fn range(&self, span: Span) -> Range<usize> {
        let start = self.byte(span.start.index());
        start..self.byte(span.end.index()).max(start)
    }
}

enum Frame {
    Sequence(usize, Vec<Node>),
    Mapping(usize, Vec<Entry>, Option<(String, Range<usize>)>),
}

struct Builder<'a> {
    file: &'a SourceFile,
    out: &'a mut Diagnostics,
    offsets: Offsets,
    stack: Vec<Frame>,
    root: Option<Node>,
}

impl Builder<'_> {
    /// `None` stops the reading; the reason has been reported.
    fn event(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        let range = self.offsets.range(span);
        match event {
            Event::Alias(_) => {
                return self.refuse(range, "YAML aliases (*name) are not supported", "write the value out");
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(&range, anchor, tag.is_some())?;
                let span = match style {
                    ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => self.quoted(range),
                    _ => range,
                };
                let plain = style == ScalarStyle::Plain;
                return self.add(Node { span, value: Value::Scalar { text: text.into_owned(), plain } });
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(&range, anchor, tag.is_some())?;
                self.open(&range, Frame::Sequence(range.start, Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(&range, anchor, tag.is_some())?;
                self.open(&range, Frame::Mapping(range.start, Vec::new(), None))?;
            }
            Event::SequenceEnd | Event::MappingEnd => return self.close(range.end),
            _ => {}
        }
        Some(())
    }

    /// The parser's span of a quoted scalar runs on over white space and a comment; this one ends
    /// with the closing quote.
    fn quoted(&self, span: Range<usize>) -> Range<usize> {
        let source = self.file.text().get(span.clone()).unwrap_or_default();
        let Some(quote) = source.chars().next() else { return span };
        let mut rest = source.char_indices().skip(1).peekable();
        while let Some((at, c)) = rest.next() {
            let doubled = quote == '\'' && rest.peek().is_some_and(|&(_, next)| next == quote);
            if (c == '\\' && quote == '"') || (c == quote && doubled) {
                rest.next();
            } else if c == quote {
                return span.start..span.start + at + 1;
            }
        }
        span
    }

    fn refuse(&mut self, span: Range<usize>, message: &str, help: &str) -> Option<()> {
        self.out.push(Diagnostic::error(self.file, span, message).help(help));
        None
    }

    fn refuse_extras(&mut self, span: &Range<usize>, anchor: usize, tagged: bool) -> Option<()> {
        if anchor != 0 {
            return self.refuse(
                span.clone(),
                "YAML anchors (&name) are not supported",
                "write the value out where it is needed",
            );
        }
        if tagged {
            return self.refuse(span.clone(), "YAML tags (!name) are not supported", "remove the tag");
        }
        Some(())
    }

    fn open(&mut self, span: &Range<usize>, frame: Frame) -> Option<()> {
        if self.stack.len() == MAX_DEPTH {
            return self.refuse(span.clone(), "the nesting is too deep", "a declaration needs at most five levels");
        }
        self.stack.push(frame);
        Some(())
    }

    fn close(&mut self, end: usize) -> Option<()> {
        let node = match self.stack.pop()? {
            Frame::Sequence(start, items) => {
                let end = items.last().map_or(end, |last| last.span.end.max(start));
                Node { span: start..end, value: Value::Sequence(items) }
            }
            Frame::Mapping(start, entries, _) => {
                self.report_duplicates(&entries);
                let end = entries.last().map_or(end, |last| last.value.span.end.max(start));
                Node { span: start..end, value: Value::Mapping(entries) }
            }
        };
        self.add(node)
    }

    fn add(&mut self, node: Node) -> Option<()> {
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame::Sequence(_, items)) => items.push(node),
            Some(Frame::Mapping(_, entries, key)) => match (key.take(), node) {
                (Some((key, key_span)), value) => entries.push(Entry { key, key_span, value }),
                (None, Node { span, value: Value::Scalar { text, plain } }) => {
                    if plain && text == "<<" {
                        return self.refuse(span, "YAML merge keys (<<) are not supported", "write the keys out");
                    }
                    *key = Some((text, span));
                }
                (None, Node { span, .. }) => {
                    return self.refuse(
                        span,
                        "a list or mapping cannot be a key",
                        "write a plain name before the colon",
                    );
                }
            },
        }
        Some(())
    }

    fn report_duplicates(&mut self, entries: &[Entry]) {
        let mut seen: HashMap<&str, &Range<usize>> = HashMap::with_capacity(entries.len());
        for entry in entries {
            match seen.get(entry.key.as_str()) {
                Some(first) => self.out.push(
                    Diagnostic::error(
                        self.file,
                        entry.key_span.clone(),
                        format!("the key {:?} is here twice", entry.key),
                    )
                    .related(self.file, (*first).clone(), "first here")
                    .help("merge the two, or remove one; which of them counts would be a guess"),
                ),
                None => {
                    seen.insert(&entry.key, &entry.key_span);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
