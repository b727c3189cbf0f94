//! Host patterns: Salt's compound matcher on the host's name alone (`salt/matchers/compound_match.py`).
//!
//! Salt evaluates patterns that it cannot read to "no match" with a line in a log; here they are
//! refused when they are read. Two differences change verdicts, both towards fewer hosts: a regular
//! expression must match the whole name, and matchers on what a host says about itself are refused.

mod budget;
mod glob;
mod regular;

use std::fmt;
use std::ops::Range;

use crate::name::HostName;
pub use budget::ProgramBudget;
use glob::Glob;

/// Longest pattern in bytes.
const MAX_LENGTH: usize = 4_096;
/// Deepest nesting of parentheses; bounds the recursion of parser and matcher.
const MAX_DEPTH: usize = 32;

/// A pattern that has been read and can be asked about hosts.
#[derive(Clone)]
pub struct Pattern {
    text: Box<str>,
    expression: Expression,
    size: usize,
}

/// What is wrong with a pattern, and where in its text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct PatternError {
    /// Byte offsets into the pattern.
    pub range: Range<usize>,
    /// What is wrong.
    pub reason: Reason,
}

/// What can be wrong with a pattern.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Nothing but white space.
    #[error("the pattern is empty")]
    Empty,
    /// More than 4,096 bytes.
    #[error("the pattern has {0} bytes; 4096 is the most")]
    TooLong(usize),
    /// More than 32 parentheses inside one another.
    #[error("the parentheses are nested too deeply")]
    TooDeep,
    /// `and` or `or` without a pattern before it.
    #[error("{0:?} needs a pattern before it")]
    NothingBefore(&'static str),
    /// `and`, `or`, `not` or `(` without a pattern after it.
    #[error("{0:?} needs a pattern after it")]
    NothingAfter(&'static str),
    /// `not not`, which Salt cannot read.
    #[error("\"not\" cannot follow \"not\"")]
    DoubleNot,
    /// Two patterns side by side.
    #[error("\"and\" or \"or\" is missing before this")]
    NoOperator,
    /// `(` without `)`.
    #[error("this parenthesis is never closed")]
    Unclosed,
    /// `)` without `(`.
    #[error("this parenthesis closes nothing")]
    Unopened,
    /// A parenthesis that is no token of its own.
    #[error("a parenthesis needs white space on both sides, as in \"( a or b ) and not c\"")]
    GluedParenthesis,
    /// `G@`, `P@`, `I@`, `J@`.
    #[error("{0}@ rests on what a host says about itself, so a host could give itself the role")]
    SelfReported(char),
    /// `S@`.
    #[error("S@ asks for an address, and an address is no proof of who a host is")]
    Address,
    /// `N@`.
    #[error("N@ names a node group of the Salt master's settings, which are not part of the declaration")]
    NodeGroup,
    /// `R@`.
    #[error("R@ asks a range server, which is not part of the declaration")]
    RangeServer,
    /// A letter with `@` that no host name can match.
    #[error("{0}@ is no matcher on host names; E@ (regular expression) and L@ (list) are")]
    Unknown(char),
    /// `L@` without a name.
    #[error("L@ needs host names with commas between them, and no white space")]
    EmptyList,
    /// A text in `L@` that is no host name.
    #[error("{0:?} in the list is no host name: {1}")]
    NotAHost(String, crate::name::NameError),
    /// One regular expression more than there is room for.
    #[error("this regular expression and those before it take more than {} MiB when they are compiled", budget::MAX_PROGRAMS >> 20)]
    Programs,
    /// A regular expression that cannot be used.
    #[error("{0}")]
    Regex(String),
}

impl Reason {
    /// What to do about it, where the fact alone does not say.
    #[must_use]
    pub const fn help(&self) -> &'static str {
        match self {
            Self::SelfReported(_) | Self::Address | Self::NodeGroup | Self::RangeServer | Self::Unknown(_) => {
                "match the host's name instead: a glob (pg*.psf.io), E@regex or L@host,host"
            }
            Self::Regex(_) | Self::Programs => "see \"Regular expressions\" in docs/declaration.md",
            _ => "see \"Patterns\" in docs/declaration.md",
        }
    }
}

/// What a pattern comes down to. `And` and `Or` are flat, so a long chain is no deep recursion.
#[derive(Clone)]
enum Expression {
    Glob(Glob),
    Regex(Box<regex_automata::meta::Regex>),
    List(Box<[HostName]>),
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
}

impl Expression {
    fn matches(&self, host: &HostName) -> bool {
        match self {
            Self::Glob(glob) => glob.matches(host.as_str()),
            Self::Regex(regex) => regex.is_match(host.as_str()),
            Self::List(hosts) => hosts.contains(host),
            Self::Not(inner) => !inner.matches(host),
            Self::And(parts) => parts.iter().all(|part| part.matches(host)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(host)),
        }
    }
}

impl Pattern {
    /// Reads a compound pattern such as `pg*.iad1.psf.io and not pg0.iad1.psf.io`, alone.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place in the text.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        Self::parse_within(text, &mut ProgramBudget::default())
    }

    /// The same for one of many patterns, whose programs take from one `budget`.
    ///
    /// # Errors
    /// As [`Pattern::parse`], and [`Reason::Programs`] where the budget does not do.
    pub fn parse_within(text: &str, budget: &mut ProgramBudget) -> Result<Self, PatternError> {
        if text.len() > MAX_LENGTH {
            return Err(PatternError { range: 0..text.len(), reason: Reason::TooLong(text.len()) });
        }
        let end = text.trim_end().len();
        let mut parser = Parser { tokens: tokens(text), next: 0, end, budget, size: text.len() };
        if parser.tokens.is_empty() {
            return Err(PatternError { range: 0..text.len(), reason: Reason::Empty });
        }
        let expression = parser.or(0)?;
        match parser.peek() {
            None => Ok(Self { text: text.into(), expression, size: parser.size }),
            Some(token) if token.text == ")" => Err(token.refuse(Reason::Unopened)),
            Some(token) => Err(token.refuse(Reason::NoOperator)),
        }
    }

    /// Whether `host` is one of those that the pattern describes. Takes time in proportion to the
    /// pattern's length, and no pattern of a declaration makes it exponential.
    #[must_use]
    pub fn matches(&self, host: &HostName) -> bool {
        self.expression.matches(host)
    }

    /// What it takes in memory, about, in bytes; to ask it about a host takes time in proportion.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[derive(Clone, Copy)]
struct Token<'t> {
    text: &'t str,
    start: usize,
}

impl Token<'_> {
    fn refuse(self, reason: Reason) -> PatternError {
        PatternError { range: self.start..self.start + self.text.len(), reason }
    }
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let start = |token: &str| token.as_ptr().addr() - text.as_ptr().addr();
    text.split_whitespace().map(|token| Token { text: token, start: start(token) }).collect()
}

/// Precedence as in Salt, which hands the words to Python: `not` before `and` before `or`.
struct Parser<'t, 'b> {
    tokens: Vec<Token<'t>>,
    next: usize,
    end: usize,
    budget: &'b mut ProgramBudget,
    /// Bytes of what was read so far.
    size: usize,
}

impl<'t> Parser<'t, '_> {
    fn peek(&self) -> Option<Token<'t>> {
        self.tokens.get(self.next).copied()
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.text == word);
        self.next += usize::from(found);
        found
    }

    fn or(&mut self, depth: usize) -> Result<Expression, PatternError> {
        let mut parts = vec![self.and(depth)?];
        while self.take("or") {
            parts.push(self.and(depth)?);
        }
        Ok(one_or(parts, Expression::Or))
    }

    fn and(&mut self, depth: usize) -> Result<Expression, PatternError> {
        let mut parts = vec![self.not(depth)?];
        // Salt puts an "and" before a "not" that has no operator before it.
        while self.take("and") || self.peek().is_some_and(|token| token.text == "not") {
            parts.push(self.not(depth)?);
        }
        Ok(one_or(parts, Expression::And))
    }

    fn not(&mut self, depth: usize) -> Result<Expression, PatternError> {
        if !self.take("not") {
            return self.operand(depth);
        }
        match self.peek() {
            Some(token) if token.text == "not" => Err(token.refuse(Reason::DoubleNot)),
            _ => Ok(Expression::Not(Box::new(self.operand(depth)?))),
        }
    }

    fn operand(&mut self, depth: usize) -> Result<Expression, PatternError> {
        let before = self.next.checked_sub(1).and_then(|index| self.tokens.get(index)).copied();
        let Some(token) = self.peek() else {
            let operator = before.map_or("", |token| token.text);
            return Err(match (before, as_operator(operator)) {
                (Some(token), Some("(")) => token.refuse(Reason::Unclosed),
                (Some(token), Some(operator)) => token.refuse(Reason::NothingAfter(operator)),
                _ => PatternError { range: 0..self.end, reason: Reason::Empty },
            });
        };
        match (as_operator(token.text), before.and_then(|token| as_operator(token.text))) {
            (None, _) => {
                self.next += 1;
                self.matcher(token)
            }
            (Some("("), _) => self.parenthesis(token, depth),
            (Some(")"), None) => Err(token.refuse(Reason::Unopened)),
            (Some(")"), Some(operator)) => Err(before.unwrap_or(token).refuse(Reason::NothingAfter(operator))),
            (Some(operator), _) => Err(token.refuse(Reason::NothingBefore(operator))),
        }
    }

    fn parenthesis(&mut self, open: Token<'t>, depth: usize) -> Result<Expression, PatternError> {
        if depth == MAX_DEPTH {
            return Err(open.refuse(Reason::TooDeep));
        }
        self.next += 1;
        let inner = self.or(depth + 1)?;
        if self.take(")") {
            return Ok(inner);
        }
        Err(self.peek().map_or_else(|| open.refuse(Reason::Unclosed), |token| token.refuse(Reason::NoOperator)))
    }

    fn matcher(&mut self, token: Token<'_>) -> Result<Expression, PatternError> {
        let matcher = matcher(token)?;
        if let Expression::Regex(regex) = &matcher {
            let program = regex.memory_usage();
            if !self.budget.take(program) {
                return Err(token.refuse(Reason::Programs));
            }
            self.size += program;
        }
        Ok(matcher)
    }
}

fn as_operator(word: &str) -> Option<&'static str> {
    ["and", "or", "not", "(", ")"].into_iter().find(|operator| *operator == word)
}

fn one_or(mut parts: Vec<Expression>, many: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            many(parts)
        }
        None => many(parts),
    }
}

fn matcher(token: Token<'_>) -> Result<Expression, PatternError> {
    let word = token.text;
    match engine(word) {
        Some(('E', _)) => {
            let regex = regular::compile(&word[2..]);
            regex.map(|regex| Expression::Regex(Box::new(regex))).map_err(|error| PatternError {
                range: token.start + 2 + error.range.start..token.start + 2 + error.range.end,
                reason: Reason::Regex(error.message),
            })
        }
        Some(('L', _)) => list(token),
        Some((letter @ ('G' | 'P' | 'I' | 'J'), _)) => Err(token.refuse(Reason::SelfReported(letter))),
        Some(('S', _)) => Err(token.refuse(Reason::Address)),
        Some(('N', _)) => Err(token.refuse(Reason::NodeGroup)),
        Some(('R', _)) => Err(token.refuse(Reason::RangeServer)),
        Some((letter, _)) => Err(token.refuse(Reason::Unknown(letter))),
        // No host name has a parenthesis in it, so such a glob could never match; Salt has none either.
        None if word.contains(['(', ')']) => Err(token.refuse(Reason::GluedParenthesis)),
        None => Ok(Expression::Glob(Glob::new(word))),
    }
}

/// The letter before `@`, and Salt's optional delimiter between them (`G:@`).
fn engine(word: &str) -> Option<(char, Option<char>)> {
    let mut chars = word.chars();
    match (chars.next(), chars.next(), chars.next()) {
        (Some(letter), Some('@'), _) if letter.is_ascii_alphabetic() => Some((letter, None)),
        (Some(letter @ ('G' | 'P' | 'I' | 'J')), delimiter, Some('@')) => Some((letter, delimiter)),
        _ => None,
    }
}

fn list(token: Token<'_>) -> Result<Expression, PatternError> {
    let mut hosts = Vec::new();
    let mut start = token.start + 2;
    for item in token.text[2..].split(',') {
        if !item.is_empty() {
            let host = HostName::parse(item).map_err(|error| PatternError {
                range: start..start + item.len(),
                reason: Reason::NotAHost(item.to_owned(), error),
            })?;
            hosts.push(host);
        }
        start += item.len() + 1;
    }
    if hosts.is_empty() {
        return Err(token.refuse(Reason::EmptyList));
    }
    Ok(Expression::List(hosts.into()))
}

#[cfg(test)]
mod tests;
