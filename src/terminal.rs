//! Text from strangers, made fit for people's eyes: it can neither drive the terminal nor fill it.

use std::borrow::Cow;

/// `text` with whatever could move the cursor, change colours or turn the direction of writing shown as
/// `\u{…}`.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    shown(text, |_| false)
}

/// The same for text of several lines, whose line breaks stay.
#[must_use]
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    shown(text, |c| c == '\n')
}

fn shown(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let escaped = |c: char| (c.is_control() || turns(c)) && !keep(c);
    if !text.contains(escaped) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if escaped(c) {
            out.extend(c.escape_unicode())
        } else {
            out.push(c)
        }
        out
    }))
}

/// What changes the direction of writing, breaks lines, or is there and not seen.
const fn turns(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The first `most` characters of `text`, with a mark where there were more.
#[must_use]
pub fn cut(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => Cow::Borrowed(text),
        Some((at, _)) => Cow::Owned(format!("{}…", &text[..at])),
    }
}

/// The same of a text that is owned already.
#[must_use]
pub fn cut_owned(text: String, most: usize) -> String {
    match cut(&text, most) {
        Cow::Owned(shorter) => shorter,
        Cow::Borrowed(_) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shown_drives_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}c\r\nd é"), "a\\u{1b}[2Jb\\u{202e}c\\u{d}\\u{a}d é");
        assert_eq!(printable_lines("a\n\u{1b}]0;x\u{7}b"), "a\n\\u{1b}]0;x\\u{7}b");
    }

    #[test]
    fn nothing_shown_turns_the_direction_of_text_or_hides_in_it() {
        // Unicode's Bidi_Control, and of Default_Ignorable_Code_Point what no writing needs.
        let turning = ['\u{61c}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}'];
        let hidden =
            ['\u{ad}', '\u{180e}', '\u{200b}', '\u{2060}', '\u{2064}', '\u{206f}', '\u{feff}', '\u{fff9}', '\u{e0041}'];
        for c in turning.into_iter().chain(hidden) {
            assert_eq!(printable(&format!("a{c}b")), format!("a{}b", c.escape_unicode()));
        }
        assert_eq!(printable("é e\u{301} 証明書 שלום"), "é e\u{301} 証明書 שלום");
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!((cut("éé", 2), cut("ééé", 2)), ("éé".into(), "éé…".into()));
    }
}
