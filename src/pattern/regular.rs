//! Regular expressions of `E@`: matched against the whole name, in linear time.
//!
//! Salt uses Python's `re`. What both languages can say they say alike; where one text means two
//! things (set operations inside brackets, possessive quantifiers) it is refused rather than read
//! in the other sense.

use std::ops::Range;

use regex_automata::meta::{BuildError, Config, Regex};
use regex_automata::util::syntax;

/// Largest compiled program in bytes; `(a{1000}){1000}` must not cost gigabytes.
const MAX_PROGRAM: usize = 256 * 1024;
/// Deepest nesting of groups.
const MAX_NESTING: u32 = 50;

/// What is wrong, and where in the expression.
pub(super) struct RegexError {
    pub(super) range: Range<usize>,
    pub(super) message: String,
}

pub(super) fn compile(text: &str) -> Result<Regex, RegexError> {
    let whole = 0..text.len();
    if text.is_empty() {
        return Err(RegexError { range: whole, message: "E@ needs a regular expression after it".to_owned() });
    }
    refuse_what_differs(text)?;
    let refuse = |error: &BuildError| RegexError { range: whole.clone(), message: describe(error, text) };
    // Alone first: "a)|(?:b" is no expression, and would be two unanchored halves once it is wrapped.
    build(text).map_err(|error| refuse(&error))?;
    build(&format!("^(?:{text})$")).map_err(|error| refuse(&error))
}

fn build(text: &str) -> Result<Regex, Box<BuildError>> {
    // Host names are ASCII, and \w over all of Unicode makes programs a hundred times larger.
    let syntax = syntax::Config::new().unicode(false).utf8(false).nest_limit(MAX_NESTING);
    // Without the engines that trade memory for speed: names are short, and what remains needs at a search
    // about as much memory as the program has, so that a bound on programs is one on all of it.
    let config = Config::new().utf8_empty(false).onepass(false).dfa(false).hybrid(false);
    Regex::builder().syntax(syntax).configure(config.nfa_size_limit(Some(MAX_PROGRAM))).build(text).map_err(Box::new)
}

/// The library's message has several lines with a drawing; the last line holds the reason.
fn describe(error: &BuildError, text: &str) -> String {
    if error.size_limit().is_some() {
        return "this regular expression becomes too large when its repetitions are written out".to_owned();
    }
    for (mark, name) in [("(?=", "look-ahead"), ("(?!", "look-ahead"), ("(?<=", "look-behind"), ("(?<!", "look-behind")]
    {
        if text.contains(mark) {
            return format!("{name} {mark}…) is not supported: it cannot be matched in linear time");
        }
    }
    let reason = error.syntax_error().map_or_else(|| error.to_string(), ToString::to_string);
    let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
    if reason.contains("backreference") {
        return "back-references (\\1) are not supported: they cannot be matched in linear time".to_owned();
    }
    format!("this is not a regular expression that can be used: {reason}")
}

/// Finds what Python's `re` reads in another sense than the `regex` crate.
fn refuse_what_differs(text: &str) -> Result<(), RegexError> {
    let refuse = |at: usize, length: usize, message: &str| {
        Err(RegexError { range: at..at + length, message: message.to_owned() })
    };
    let bytes = text.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or_default();
    let mut index = 0;
    let mut class_start = None;
    while index < bytes.len() {
        let pair = (at(index), at(index + 1));
        match (class_start, pair) {
            (_, (b'\\', b'<' | b'>')) => return refuse(index, 2, "\\< and \\> mean different things to Salt and here"),
            (_, (b'\\', b'b' | b'B')) if at(index + 2) == b'{' => {
                return refuse(index, 3, "\\b{ means different things to Salt and here");
            }
            (_, (b'\\', next)) => index += usize::from(next.is_ascii()),
            (None, (b'[', next)) => {
                // The first member may be a closing bracket.
                index += usize::from(next == b'^');
                index += usize::from(at(index + 1) == b']');
                class_start = Some(index);
            }
            (None, (b'*' | b'+' | b'?' | b'}', b'+' | b'*')) => {
                return refuse(index, 2, "a quantifier on a quantifier means different things to Salt and here");
            }
            (None, (b'{', b',')) => {
                return refuse(index, 2, "a repetition needs its lower bound: {0,3} instead of {,3}");
            }
            (Some(_), (b'[', _)) => {
                return refuse(index, 1, "\"[\" inside brackets means different things to Salt and here; write \\[");
            }
            (Some(_), (b'&', b'&') | (b'-', b'-') | (b'~', b'~')) => {
                return refuse(index, 2, "a doubled &, - or ~ inside brackets means different things to Salt and here");
            }
            (Some(_), (b']', _)) => class_start = None,
            _ => {}
        }
        index += 1;
    }
    Ok(())
}
