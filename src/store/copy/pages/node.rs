//! A page of a B-tree: its header, its cells, and whether they and what is free share it without a rest.

use super::header::{self, PageSize};
use super::record::varint;

/// A page of a tree, and where its cells are.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) number: u32,
    pub(super) octets: Vec<u8>,
    pub(super) is_table: bool,
    pub(super) is_leaf: bool,
    pub(super) cells: Vec<Cell>,
    /// The child behind all cells, of a page that is no leaf.
    pub(super) last_child: u32,
}

/// Where a cell's parts are, or what they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    /// The child before it, of a page that is no leaf.
    pub(super) child: u32,
    /// The row's number, in a table.
    pub(super) rowid: i64,
    /// Length of the record. The cells of a table that are on no leaf have none.
    pub(super) length: usize,
    /// Where the record begins.
    pub(super) at: usize,
    /// How much of it is on the page.
    pub(super) local: usize,
    /// The page where it goes on, where it does.
    pub(super) overflow: u32,
}

/// Which octets of a page are taken, a bit for each.
#[derive(Debug, Default)]
pub(super) struct Tiles {
    words: Vec<u64>,
    taken: usize,
}

impl Tiles {
    fn begin(&mut self, octets: usize) {
        self.words.clear();
        self.words.resize(octets.div_ceil(64), 0);
        self.taken = 0;
    }

    /// Takes octets; says whether they are on the page and nobody else has one of them.
    #[inline]
    fn take(&mut self, from: usize, length: usize) -> bool {
        let Some(last) = (from + length).checked_sub(1) else { return false };
        let (first_word, last_word) = (from / 64, last / 64);
        let Some(words) = self.words.get_mut(first_word..=last_word) else { return false };
        self.taken += length;
        let (from_first, to_last) = (u64::MAX << (from % 64), u64::MAX >> (63 - last % 64));
        if let [word] = words {
            let octets = from_first & to_last;
            let vacant = *word & octets == 0;
            *word |= octets;
            return vacant;
        }
        let (mut vacant, end) = (true, words.len() - 1);
        for (n, word) in words.iter_mut().enumerate() {
            let octets = if n == 0 {
                from_first
            } else if n == end {
                to_last
            } else {
                u64::MAX
            };
            vacant &= *word & octets == 0;
            *word |= octets;
        }
        vacant
    }
}

impl Node {
    /// Finds the cells in the octets of the page, and says what is wrong with how they lie. An error is why they
    /// cannot be read at all.
    pub(super) fn parse(
        &mut self,
        size: PageSize,
        tiles: &mut Tiles,
        tell: &mut impl FnMut(&'static str),
    ) -> Result<(), &'static str> {
        const CUT: &str = "its header is cut";
        const OVERLAP: &str = "two cells or free blocks overlap";
        let Self { number, octets, cells, .. } = self;
        cells.clear();
        let octets = octets.get(..size.usable).ok_or(CUT)?;
        let start = if *number == 1 { header::LENGTH } else { 0 };
        let header: [u8; 12] = *octets.get(start..).and_then(<[u8]>::first_chunk).ok_or(CUT)?;
        let [kind, f1, f0, n1, n0, c1, c0, fragments, last_child @ ..] = header;
        (self.is_table, self.is_leaf) = match kind {
            2 => (false, false),
            5 => (true, false),
            10 => (false, true),
            13 => (true, true),
            _ => return Err("it is no page of a B-tree"),
        };
        self.last_child = if self.is_leaf { 0 } else { u32::from_be_bytes(last_child) };
        let content = match u16::from_be_bytes([c1, c0]) {
            0 => 65_536,
            content => usize::from(content),
        };
        let pointers = start + if self.is_leaf { 8 } else { 12 };
        let end = pointers + 2 * usize::from(u16::from_be_bytes([n1, n0]));
        if end > content || content > size.usable {
            return Err("its cells begin where they cannot");
        }
        tiles.begin(size.usable);
        let form = Form::of(self.is_table, self.is_leaf, size.usable);
        let (pointers, _) = octets.get(pointers..end).unwrap_or_default().as_chunks::<2>();
        for pointer in pointers {
            let at = usize::from(u16::from_be_bytes(*pointer));
            let (cell, length) = form.cell(octets, at).ok_or("a cell cannot be read")?;
            if at < content || at + length > size.usable {
                return Err("a cell lies where none can");
            }
            // Or a page could have any number of rows as long as itself.
            if !tiles.take(at, length) {
                return Err(OVERLAP);
            }
            cells.push(cell);
        }
        match take_free(octets, usize::from(u16::from_be_bytes([f1, f0])), content, tiles) {
            Ok(true) => {}
            Ok(false) => {
                tell(OVERLAP);
                return Ok(());
            }
            Err(why) => {
                tell(why);
                return Ok(());
            }
        }
        if tiles.taken + usize::from(fragments) != size.usable - content {
            tell("its cells, free blocks and fragments are not all of it");
        }
        Ok(())
    }
}

/// Takes the free blocks, each of which says where the next is, from the first on; 0 is none. Says whether nobody else
/// has them.
fn take_free(octets: &[u8], first: usize, content: usize, tiles: &mut Tiles) -> Result<bool, &'static str> {
    let (mut block, mut vacant) = (first, true);
    while block != 0 {
        let begin = octets.get(block..).and_then(<[u8]>::first_chunk);
        let &[next1, next0, length1, length0] = begin.ok_or("a free block lies where none can")?;
        let length = usize::from(u16::from_be_bytes([length1, length0]));
        if block < content || length < 4 || block + length > octets.len() {
            return Err("a free block lies where none can");
        }
        vacant &= tiles.take(block, length);
        let next = usize::from(u16::from_be_bytes([next1, next0]));
        // Between two there is another cell, of four octets at least.
        if next != 0 && next < block + length + 4 {
            return Err("its free blocks are not in order");
        }
        block = next;
    }
    Ok(vacant)
}

/// What a kind of page has in its cells, and how much of a record stays on the page.
struct Form {
    has_child: bool,
    has_rowid: bool,
    has_record: bool,
    usable: usize,
    /// A record up to this length stays there whole.
    most: usize,
    /// At least so much of a longer one stays.
    least: usize,
}

impl Form {
    const fn of(is_table: bool, is_leaf: bool, usable: usize) -> Self {
        let most = if is_table { usable - 35 } else { (usable - 12) * 64 / 255 - 23 };
        let least = (usable - 12) * 32 / 255 - 23;
        Self { has_child: !is_leaf, has_rowid: is_table, has_record: is_leaf || !is_table, usable, most, least }
    }

    /// The cell at a place of the page, and its length there.
    #[inline]
    fn cell(&self, page: &[u8], at: usize) -> Option<(Cell, usize)> {
        let mut rest = page.get(at..)?;
        let mut cell = Cell { child: 0, rowid: 0, length: 0, at: 0, local: 0, overflow: 0 };
        if self.has_child {
            let (child, after) = rest.split_first_chunk()?;
            (cell.child, rest) = (u32::from_be_bytes(*child), after);
        }
        if self.has_record {
            let (length, after) = varint(rest)?;
            (cell.length, rest) = (usize::try_from(length).ok()?, after);
        }
        if self.has_rowid {
            let (rowid, after) = varint(rest)?;
            (cell.rowid, rest) = (rowid.cast_signed(), after);
        }
        cell.at = page.len() - rest.len();
        cell.local = self.local(cell.length);
        let mut end = cell.at + cell.local;
        if cell.local < cell.length {
            cell.overflow = u32::from_be_bytes(*rest.get(cell.local..)?.first_chunk()?);
            end += 4;
        }
        // Where it is freed, a free block must fit in.
        Some((cell, (end - at).max(4)))
    }

    const fn local(&self, length: usize) -> usize {
        if length <= self.most {
            return length;
        }
        // So that the last page of the rest is full.
        let local = self.least + (length - self.least) % (self.usable - 4);
        if local <= self.most { local } else { self.least }
    }
}
