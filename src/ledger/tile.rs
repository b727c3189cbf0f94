//! Names of tiles (C2SP tlog-tiles): `0/x001/x234/067`, `1/000.p/17`, `entries/000`.

use std::fmt;

use super::tree::TILE_WIDTH;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TileKind {
    /// Hashes, so many tiles above the leaves (0 to 7: more than 2^63 entries there are not).
    Hashes(u32),
    /// Entries, each with its length in two octets before it.
    Entries,
}

/// One tile, whole or as far as it was filled once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TilePath {
    /// What it holds.
    pub kind: TileKind,
    /// Position among the tiles of its kind and level.
    pub index: u64,
    /// How many hashes or entries: 1 to 256.
    pub width: u16,
}

impl TilePath {
    /// Reads the part of a path after `tile/`.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let (kind, rest) = path.split_once('/')?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => {
                TileKind::Hashes(level.parse().ok().filter(|&parsed: &u32| parsed < 8 && parsed.to_string() == level)?)
            }
        };
        let (index, width) = match rest.split_once(".p/") {
            None => (rest, TILE_WIDTH as u16),
            Some((index, width)) => {
                let parsed: u16 = width.parse().ok()?;
                let partial = (1..TILE_WIDTH).contains(&u64::from(parsed)) && parsed.to_string() == width;
                (index, partial.then_some(parsed)?)
            }
        };
        let path = Self { kind, index: parse_index(index)?, width };
        // One spelling for each tile.
        (path.to_string().strip_prefix("tile/") == Some(&format!("{}/{rest}", path.kind))).then_some(path)
    }
}

impl fmt::Display for TileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hashes(level) => write!(f, "{level}"),
            Self::Entries => f.write_str("entries"),
        }
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/{}/", self.kind)?;
        let mut groups = vec![format!("{:03}", self.index % 1_000)];
        let mut rest = self.index / 1_000;
        while rest > 0 {
            groups.push(format!("x{:03}", rest % 1_000));
            rest /= 1_000;
        }
        groups.reverse();
        f.write_str(&groups.join("/"))?;
        if u64::from(self.width) < TILE_WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

/// Groups of three digits, `x` before all but the last.
fn parse_index(text: &str) -> Option<u64> {
    let mut index = 0u64;
    for group in text.split('/') {
        let digits = group.strip_prefix('x').unwrap_or(group);
        if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        index = index.checked_mul(1_000)?.checked_add(digits.parse().ok()?)?;
    }
    Some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_named_as_the_specification_does() {
        for (text, kind, index, width) in [
            ("0/x001/x234/067", TileKind::Hashes(0), 1_234_067, 256),
            ("1/000.p/17", TileKind::Hashes(1), 0, 17),
            ("entries/999", TileKind::Entries, 999, 256),
            ("entries/x001/000.p/255", TileKind::Entries, 1_000, 255),
        ] {
            let path = TilePath { kind, index, width };
            assert_eq!(TilePath::parse(text), Some(path), "{text}");
            assert_eq!(path.to_string(), format!("tile/{text}"));
        }
    }

    #[test]
    fn a_tile_has_one_name() {
        for bad in [
            "",
            "0",
            "0/",
            "0/1",
            "00/000",
            "8/000",
            "x/000",
            "0/x000/000",
            "0/001/000",
            "0/x001",
            "0/000.p/0",
            "0/000.p/256",
            "0/000.p/01",
            "0/000.p/",
            "entries",
            "0/000/",
            "0/x99999999999999999999/000",
            "+0/000",
        ] {
            assert_eq!(TilePath::parse(bad), None, "{bad}");
        }
    }
}
