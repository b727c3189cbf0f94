//! Globs as Python's `fnmatch.fnmatchcase` reads them: `*`, `?`, `[abc]`, `[!a-z]`.

/// A glob, read once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Glob(Box<[Piece]>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    /// `*`: any characters, dots included.
    Any,
    /// `?`: one character.
    One,
    Literal(char),
    /// Inclusive ranges, and whether the character has to be outside all of them.
    Class {
        ranges: Box<[(char, char)]>,
        negated: bool,
    },
}

impl Piece {
    fn accepts(&self, c: char) -> bool {
        match self {
            Self::Any => false,
            Self::One => true,
            Self::Literal(literal) => *literal == c,
            Self::Class { ranges, negated } => ranges.iter().any(|&(from, to)| (from..=to).contains(&c)) != *negated,
        }
    }
}

impl Glob {
    /// Every text is a glob: a bracket that is never closed stands for itself.
    pub(super) fn new(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let mut pieces = Vec::with_capacity(chars.len());
        let mut at = 0;
        while let Some(&c) = chars.get(at) {
            at += 1;
            match c {
                // Several stars in a row say no more than one.
                '*' if pieces.last() == Some(&Piece::Any) => {}
                '*' => pieces.push(Piece::Any),
                '?' => pieces.push(Piece::One),
                '[' => match class(&chars[at..]) {
                    Some((piece, length)) => {
                        pieces.push(piece);
                        at += length;
                    }
                    None => pieces.push(Piece::Literal('[')),
                },
                literal => pieces.push(Piece::Literal(literal)),
            }
        }
        Self(pieces.into())
    }

    /// Whether the whole of `text` matches. Goes back only to the last star, so the time is at most
    /// the product of the two lengths.
    pub(super) fn matches(&self, text: &str) -> bool {
        let pieces = &self.0;
        let (mut piece, mut rest) = (0, text.chars());
        let mut star = None;
        loop {
            let here = rest.clone();
            match (pieces.get(piece), rest.next()) {
                (Some(Piece::Any), _) => {
                    piece += 1;
                    rest = here;
                    star = Some((piece, rest.clone()));
                }
                (None, None) => return true,
                (Some(wanted), Some(c)) if wanted.accepts(c) => piece += 1,
                _ => {
                    let Some((after, mut from)) = star.take() else { return false };
                    if from.next().is_none() {
                        return false;
                    }
                    (piece, rest) = (after, from.clone());
                    star = Some((after, from));
                }
            }
        }
    }
}

/// Reads a class after its `[`; the length includes the closing bracket. `None` when there is none.
fn class(chars: &[char]) -> Option<(Piece, usize)> {
    let negated = chars.first() == Some(&'!');
    let start = usize::from(negated);
    // A closing bracket in the first position is a member of the class.
    let first = start + usize::from(chars.get(start) == Some(&']'));
    let end = first + chars.get(first..)?.iter().position(|&c| c == ']')?;
    Some((Piece::Class { ranges: ranges(&chars[start..end]), negated }, end + 1))
}

/// `a-z` is a range; a hyphen at either end, or straight after a range, stands for itself; a range
/// that runs backwards is empty.
fn ranges(members: &[char]) -> Box<[(char, char)]> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&from) = members.get(at) {
        match (members.get(at + 1), members.get(at + 2)) {
            (Some('-'), Some(&to)) => {
                if from <= to {
                    out.push((from, to));
                }
                at += 3;
            }
            _ => {
                out.push((from, from));
                at += 1;
            }
        }
    }
    out.into()
}
