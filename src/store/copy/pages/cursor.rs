//! A walk over a B-tree, from its first row to its last.

use super::node::{Cell, Node};
use super::usage::Use;
use super::{Pages, Source};
use crate::store::StoreError;

/// Most pages from a root to a leaf, as many as SQLite goes down.
const MAX_DEPTH: usize = 20;

/// What kind of tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Tree {
    /// Rows by their numbers.
    Table,
    /// Rows by what is in them: of an index, or of a table without such numbers.
    Index,
}

/// Stands at a row of a tree; before the first, to begin with.
pub(in super::super) struct Cursor {
    name: String,
    root: u32,
    /// What it has to be, or is by its root.
    tree: Option<Tree>,
    begun: bool,
    /// From the root to the page with the row.
    path: Vec<Level>,
    /// Pages that are left, whose memory is used again.
    spare: Vec<Node>,
    /// How many pages there are above each leaf, since the first.
    above_leaves: Option<usize>,
    /// In a table, what every further row's number is above.
    above: Option<i64>,
    row: Row,
    /// The record, where it is not on one page, and a page of it.
    gathered: Vec<u8>,
    overflow: Vec<u8>,
}

struct Level {
    node: Node,
    /// On a leaf, the next cell. On other pages children and cells in turn: an even number for a child.
    next: usize,
}

/// Where the row at which a cursor stands is.
#[derive(Clone, Copy)]
struct Row {
    rowid: i64,
    /// The record's place on the page; none where it was gathered.
    place: Option<(usize, usize)>,
}

impl Cursor {
    /// At the root; any kind of tree will do where none is asked for.
    pub(in super::super) fn new(name: &str, root: u32, tree: Option<Tree>) -> Self {
        Self {
            name: name.to_owned(),
            root,
            tree,
            begun: false,
            path: Vec::new(),
            spare: Vec::new(),
            above_leaves: None,
            above: None,
            row: Row { rowid: 0, place: None },
            gathered: Vec::new(),
            overflow: Vec::new(),
        }
    }

    /// The row's number, in a table.
    pub(in super::super) const fn rowid(&self) -> i64 {
        self.row.rowid
    }

    /// The row's record.
    pub(in super::super) fn payload(&self) -> &[u8] {
        match (self.row.place, self.path.last()) {
            (Some((at, length)), Some(level)) => level.node.octets.get(at..at + length).unwrap_or_default(),
            _ => &self.gathered,
        }
    }

    /// Goes to the next row; says whether there is one. Rows that cannot be reached are left out, and why is a fault.
    pub(in super::super) fn advance<S: Source>(&mut self, pages: &mut Pages<S>) -> Result<bool, StoreError> {
        if !self.begun {
            self.begun = true;
            self.descend(pages, self.root, Use::Root, 0)?;
        }
        while let Some(Level { node, next }) = self.path.last_mut() {
            let step = *next;
            *next += 1;
            if node.is_leaf || step % 2 == 1 {
                let cell = if node.is_leaf { step } else { step / 2 };
                match node.cells.get(cell).copied() {
                    Some(cell) => {
                        if self.stand_at(pages, cell)? {
                            return Ok(true);
                        }
                    }
                    None => self.ascend(),
                }
                continue;
            }
            let (child, parent) = (node.cells.get(step / 2).map_or(node.last_child, |cell| cell.child), node.number);
            self.descend(pages, child, Use::Node, parent)?;
        }
        Ok(false)
    }

    fn ascend(&mut self) {
        self.spare.extend(self.path.pop().map(|level| level.node));
    }

    /// Reads a page and goes to its beginning.
    fn descend<S: Source>(
        &mut self,
        pages: &mut Pages<S>,
        number: u32,
        purpose: Use,
        parent: u32,
    ) -> Result<(), StoreError> {
        let Pages { source, header, usage, faults, tiles } = pages;
        let name = &self.name;
        let mut tell = |what: &str| faults.tell(format!("page {number} of {name}: {what}"));
        let depth = self.path.len();
        if depth == MAX_DEPTH {
            tell("it lies too deep");
            return Ok(());
        }
        if let Err(why) = usage.take(number, purpose, parent) {
            tell(why);
            return Ok(());
        }
        let mut node = self.spare.pop().unwrap_or_default();
        node.number = number;
        source.read(number, &mut node.octets)?;
        if let Err(why) = node.parse(header.size, tiles, &mut |what| tell(what)) {
            tell(why);
            self.spare.push(node);
            return Ok(());
        }
        let tree = if node.is_table { Tree::Table } else { Tree::Index };
        if *self.tree.get_or_insert(tree) != tree {
            tell("it is of another kind of tree");
            self.spare.push(node);
            return Ok(());
        }
        if node.is_leaf && *self.above_leaves.get_or_insert(depth) != depth {
            tell("the leaves lie at different depths");
        }
        // The first page has less room, so of its tree alone the root can have one child and no cell.
        if node.cells.is_empty() && (depth > 0 || !node.is_leaf && number != 1) {
            tell("it is empty");
        }
        self.path.push(Level { node, next: 0 });
        Ok(())
    }

    /// Stands at the row of a cell of the last page, where it has one.
    fn stand_at<S: Source>(&mut self, pages: &mut Pages<S>, cell: Cell) -> Result<bool, StoreError> {
        let Some(Level { node, .. }) = self.path.last() else { return Ok(false) };
        let Cell { rowid, length, at, local, .. } = cell;
        if node.is_table {
            // What is no row says above what the rows behind it are, and may be the number of the row before it.
            let in_order = self.above.is_none_or(|above| above < rowid || above == rowid && !node.is_leaf);
            if !in_order {
                let what = format!("page {} of {}: its rows are not in order, at row {rowid}", node.number, self.name);
                pages.faults.tell(what);
            }
            self.above = Some(rowid);
            if !node.is_leaf {
                return Ok(false);
            }
        }
        if local < length {
            return self.gather(pages, cell);
        }
        self.row = Row { rowid, place: Some((at, length)) };
        Ok(true)
    }

    /// Puts a record together that goes on elsewhere.
    fn gather<S: Source>(&mut self, pages: &mut Pages<S>, cell: Cell) -> Result<bool, StoreError> {
        let Some(Level { node, .. }) = self.path.last() else { return Ok(false) };
        let Pages { source, header, usage, faults, .. } = pages;
        self.gathered.clear();
        self.gathered.extend_from_slice(node.octets.get(cell.at..cell.at + cell.local).unwrap_or_default());
        let (mut next, mut purpose, mut parent) = (cell.overflow, Use::FirstOverflow, node.number);
        while self.gathered.len() < cell.length {
            if let Err(why) = usage.take(next, purpose, parent) {
                faults.tell(format!("page {next} behind page {} of {}: {why}", node.number, self.name));
                return Ok(false);
            }
            source.read(next, &mut self.overflow)?;
            let page = self.overflow.get(..header.size.usable).and_then(<[u8]>::split_first_chunk);
            let Some((link, content)) = page else { return Ok(false) };
            let missing = cell.length - self.gathered.len();
            self.gathered.extend_from_slice(content.get(..missing).unwrap_or(content));
            (parent, purpose, next) = (next, Use::Overflow, u32::from_be_bytes(*link));
        }
        if next != 0 {
            faults.tell(format!("page {parent} behind page {} of {}: it is not the last", node.number, self.name));
        }
        self.row = Row { rowid: cell.rowid, place: None };
        Ok(true)
    }
}
