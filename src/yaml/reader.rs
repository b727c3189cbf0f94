//! Typed reading of a YAML tree. Every mistake is reported with its place, none stops the reading.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};

use super::{Entry, Node, Value};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile, closest};

/// Reads values out of the tree of one file and collects what is wrong with them.
#[derive(Debug)]
pub struct Reader<'a> {
    /// The file that the tree came from.
    pub file: &'a SourceFile,
    /// Where mistakes go.
    pub out: &'a mut Diagnostics,
}

/// The values of a mapping whose keys are fixed.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'n>(&'n [Entry]);

impl<'n> Fields<'n> {
    /// The value of `key`; a key without a value counts as absent.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.0.iter().find(|entry| entry.key == key).map(|entry| &entry.value).filter(|value| !value.is_null())
    }
}

impl Fields<'_> {
    /// Where `key` stands, whether or not it has a value.
    #[must_use]
    pub fn key_span(&self, key: &str) -> Option<Range<usize>> {
        self.0.iter().find(|entry| entry.key == key).map(|entry| entry.key_span.clone())
    }
}

impl Reader<'_> {
    /// Reports a mistake at `span` and what to do about it.
    pub fn error(&mut self, span: &Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.out.push(Diagnostic::error(self.file, span.clone(), message).help(help));
    }

    /// Reports what is usable and probably not meant.
    pub fn warning(&mut self, span: &Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.out.push(Diagnostic::warning(self.file, span.clone(), message).help(help));
    }

    /// The entries of a mapping with free keys; `what` names it in the message when it is another thing.
    pub fn entries<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Entry] {
        if let Value::Mapping(entries) = &node.value {
            return entries;
        }
        if !node.is_null() {
            self.wrong_kind::<()>(
                node,
                what,
                "a mapping",
                "write keys with their values, each on a line of its own, indented",
            );
        }
        &[]
    }

    /// The values of a mapping that may have no key but `known`.
    pub fn fields<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> Fields<'n> {
        let entries = self.entries(node, what);
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let help = match closest(&entry.key, known.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("{what} may have: {}", known.join(", ")),
            };
            self.error(&entry.key_span, format!("unknown key {:?} in {what}", entry.key), help);
        }
        Fields(entries)
    }

    /// A text that is not empty.
    pub fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.value {
            Value::Scalar { text, .. } if !text.is_empty() && !node.is_null() => Some(text),
            Value::Scalar { .. } => {
                self.error(&node.span, format!("{what} is empty"), "write a value, or remove the key");
                None
            }
            _ => self.wrong_kind(node, what, "a text", "write one value"),
        }
    }

    /// A text that `parse` accepts; its error becomes the message.
    pub fn parsed<T, E: Display>(
        &mut self,
        node: &Node,
        what: &str,
        help: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(node, what)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.error(&node.span, format!("{what} cannot be {text:?}: {error}"), help);
                None
            }
        }
    }

    /// The elements of a list.
    pub fn list<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        if let Value::Sequence(items) = &node.value {
            return items;
        }
        self.wrong_kind::<()>(
            node,
            what,
            "a list",
            "write each value on a line of its own after \"- \", or all as [one, two]",
        );
        &[]
    }

    /// The elements of a list, or the one value that stands in place of a list.
    pub fn list_or_one<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.value {
            Value::Sequence(items) => items,
            Value::Scalar { .. } => std::slice::from_ref(node),
            Value::Mapping(_) => self.list(node, what),
        }
    }

    /// `true` or `false`, without quotes.
    pub fn flag(&mut self, node: &Node, what: &str) -> Option<bool> {
        match &node.value {
            Value::Scalar { text, plain: true } if text == "true" => Some(true),
            Value::Scalar { text, plain: true } if text == "false" => Some(false),
            _ => self.wrong_kind(node, what, "true or false", "write true or false, without quotes"),
        }
    }

    /// A decimal number that is not negative: digits with at most one dot, without quotes.
    pub fn decimal(&mut self, node: &Node, what: &str) -> Option<f64> {
        match &node.value {
            Value::Scalar { text, plain: true } if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') => text
                .parse()
                .ok()
                .or_else(|| self.wrong_kind(node, what, "a number", "write digits without quotes, such as 7 or 0.5")),
            _ => self.wrong_kind(node, what, "a number", "write digits without quotes, such as 7 or 0.5"),
        }
    }

    /// A whole number in `range`, without quotes.
    pub fn integer(&mut self, node: &Node, what: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let number = match &node.value {
            Value::Scalar { text, plain: true } => text.parse::<u64>().ok(),
            _ => None,
        };
        match number {
            Some(number) if range.contains(&number) => Some(number),
            Some(number) => {
                let (from, to) = range.into_inner();
                self.error(&node.span, format!("{what} cannot be {number}"), format!("it may be {from} to {to}"));
                None
            }
            None => self.wrong_kind(node, what, "a whole number", "write digits without quotes"),
        }
    }

    fn wrong_kind<T>(&mut self, node: &Node, what: &str, wanted: &str, help: &str) -> Option<T> {
        let found = match &node.value {
            _ if node.is_null() => "nothing".to_owned(),
            Value::Scalar { text, plain: true } => format!("{:?}", text.chars().take(60).collect::<String>()),
            Value::Scalar { .. } => "a text in quotes".to_owned(),
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
        };
        self.error(&node.span, format!("{what} has to be {wanted}; this is {found}"), help);
        None
    }
}
