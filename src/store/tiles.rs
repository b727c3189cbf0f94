//! The Merkle tree's hashes: leaves in `entry`, hashes of whole tiles in `tile_hash`, everything in
//! between recomputed a tile at a time. The right edge, where the tree grows, stays in memory.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use super::{StoreError, read};
use crate::digest::Digest;
use crate::ledger::tile::{TileKind, TilePath};
use crate::ledger::tree::{self, Node, Nodes, TILE_HEIGHT, TILE_WIDTH, Tile};

/// How many entries there are, and the root over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Entries.
    pub size: u64,
    /// The Merkle root over all of them.
    pub root: Digest,
}

/// The rightmost tile of each level, as far as they are filled.
#[derive(Debug)]
pub(super) struct Edge {
    size: u64,
    tiles: Vec<Tile>,
}

impl Edge {
    /// Reads the edge of what is committed.
    pub(super) fn load(connection: &Connection) -> Result<Self, StoreError> {
        let size = read::size(connection)?;
        let mut tiles = Vec::new();
        // A level exists once the one below it has filled a tile.
        while tiles.is_empty() || complete(size, tiles.len()) > 0 {
            let level = tiles.len();
            tiles.push(read_tile(connection, level, complete(size, level) / TILE_WIDTH, size)?);
        }
        Ok(Self { size, tiles })
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf, and stores the hash of each tile that it completes.
    pub(super) fn push(&mut self, connection: &Connection, leaf: Digest) -> Result<(), StoreError> {
        self.size += 1;
        let mut hash = leaf;
        for level in 0.. {
            if level == self.tiles.len() {
                self.tiles.push(Tile::default());
            }
            let Some(whole) = self.tiles[level].push(hash) else { break };
            let index = complete(self.size, level + 1) - 1;
            connection
                .prepare_cached("INSERT INTO tile_hash (level, idx, hash) VALUES (?1, ?2, ?3)")?
                .execute(params![level + 1, index, whole.as_bytes()])?;
            self.tiles[level] = Tile::default();
            hash = whole;
        }
        Ok(())
    }

    /// The root over everything so far.
    pub(super) fn head(&self, connection: &Connection) -> Result<Head, StoreError> {
        Ok(Head {
            size: self.size,
            root: tree::root(&mut StoredNodes::new(connection, Some(self), self.size), self.size)?,
        })
    }
}

/// The hashes of the first `size` entries, from the edge where it has them and else from the file.
pub(super) struct StoredNodes<'s> {
    connection: &'s Connection,
    edge: Option<&'s Edge>,
    size: u64,
    tiles: HashMap<(usize, u64), Tile>,
}

impl<'s> StoredNodes<'s> {
    pub(super) fn new(connection: &'s Connection, edge: Option<&'s Edge>, size: u64) -> Self {
        Self { connection, edge, size, tiles: HashMap::new() }
    }
}

impl Nodes for StoredNodes<'_> {
    type Error = StoreError;

    fn hash(&mut self, node: Node) -> Result<Digest, StoreError> {
        let (level, inside) = ((node.level / TILE_HEIGHT) as usize, node.level % TILE_HEIGHT);
        let below = TILE_HEIGHT - inside;
        let (index, place) = (node.index >> below, node.index & ((1 << below) - 1));
        let missing =
            || StoreError::Damaged(format!("the hash at level {} index {} is missing", node.level, node.index));
        let place = usize::try_from(place).map_err(|_| missing())?;
        let edge = self.edge.filter(|edge| complete(edge.size, level) / TILE_WIDTH == index);
        if let Some(hash) = edge.and_then(|edge| edge.tiles.get(level)).and_then(|tile| tile.hash(inside, place)) {
            return Ok(hash);
        }
        let tile = match self.tiles.entry((level, index)) {
            std::collections::hash_map::Entry::Occupied(found) => found.into_mut(),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(read_tile(self.connection, level, index, self.size)?)
            }
        };
        tile.hash(inside, place).ok_or_else(missing)
    }
}

/// Complete subtrees of height `level` tiles among `size` leaves.
const fn complete(size: u64, level: usize) -> u64 {
    let height = TILE_HEIGHT as usize * level;
    if height >= 64 { 0 } else { size >> height }
}

/// Tile `index` of `level`, as far as `size` leaves fill it.
pub(super) fn read_tile(connection: &Connection, level: usize, index: u64, size: u64) -> Result<Tile, StoreError> {
    let start = index * TILE_WIDTH;
    let end = complete(size, level).min(start + TILE_WIDTH);
    let mut tile = Tile::default();
    let mut add = |row: &rusqlite::Row<'_>| -> Result<(), StoreError> {
        if row.get::<_, u64>(0)? != start + tile.width() as u64 {
            return Err(StoreError::Damaged(format!("tile {index} of level {level} has a gap")));
        }
        tile.push(read::digest(row, 1)?);
        Ok(())
    };
    if level == 0 {
        let mut statement =
            connection.prepare_cached("SELECT idx, leaf_hash FROM entry WHERE idx >= ?1 AND idx < ?2 ORDER BY idx")?;
        let mut rows = statement.query(params![start, end])?;
        while let Some(row) = rows.next()? {
            add(row)?;
        }
    } else {
        let mut statement = connection.prepare_cached(
            "SELECT idx, hash FROM tile_hash WHERE level = ?1 AND idx >= ?2 AND idx < ?3 ORDER BY idx",
        )?;
        let mut rows = statement.query(params![level, start, end])?;
        while let Some(row) = rows.next()? {
            add(row)?;
        }
    }
    if (tile.width() as u64) < end.saturating_sub(start) {
        return Err(StoreError::Damaged(format!("tile {index} of level {level} is not whole")));
    }
    Ok(tile)
}

/// The octets of a tile as C2SP tlog-tiles has them; none beyond what `size` entries fill.
pub(super) fn octets(connection: &Connection, path: TilePath, size: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let level = match path.kind {
        TileKind::Hashes(level) => level as usize,
        TileKind::Entries => 0,
    };
    let Some(start) = path.index.checked_mul(TILE_WIDTH) else { return Ok(None) };
    let end = start.saturating_add(path.width.into());
    if end > complete(size, level) {
        return Ok(None);
    }
    let mut out = Vec::new();
    match path.kind {
        TileKind::Hashes(_) => {
            let tile = read_tile(connection, level, path.index, size)?;
            for hash in &tile.bottom()[..path.width.into()] {
                out.extend_from_slice(hash.as_bytes());
            }
        }
        TileKind::Entries => {
            let mut statement =
                connection.prepare_cached("SELECT bytes FROM entry WHERE idx >= ?1 AND idx < ?2 ORDER BY idx")?;
            let mut rows = statement.query(params![start, end])?;
            while let Some(row) = rows.next()? {
                let entry = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
                let length = u16::try_from(entry.len());
                let length = length.map_err(|_| StoreError::Damaged("an entry is over the limit".to_owned()))?;
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(entry);
            }
        }
    }
    Ok(Some(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::leaf_hash;

    fn connection() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE entry (idx INTEGER PRIMARY KEY, leaf_hash BLOB);
                 CREATE TABLE tile_hash (level INTEGER, idx INTEGER, hash BLOB, PRIMARY KEY (level, idx));",
            )
            .unwrap();
        connection
    }

    struct Flat(Vec<Digest>);
    impl Nodes for Flat {
        type Error = StoreError;
        fn hash(&mut self, node: Node) -> Result<Digest, StoreError> {
            if node.level == 0 {
                return Ok(self.0[usize::try_from(node.index).unwrap()]);
            }
            let child = |n| Node { level: node.level - 1, index: node.index * 2 + n };
            Ok(tree::node_hash(self.hash(child(0))?, self.hash(child(1))?))
        }
    }

    #[test]
    fn stored_and_remembered_hashes_give_the_roots_and_proofs_of_the_plain_tree() {
        let (connection, mut flat) = (connection(), Flat(Vec::new()));
        let mut edge = Edge::load(&connection).unwrap();
        // Over two tile levels, with looks at sizes around the edges of tiles.
        for n in 0..70_000u64 {
            let leaf = leaf_hash(&n.to_be_bytes());
            connection
                .prepare_cached("INSERT INTO entry VALUES (?1, ?2)")
                .unwrap()
                .execute(params![n, leaf.as_bytes()])
                .unwrap();
            edge.push(&connection, leaf).unwrap();
            flat.0.push(leaf);
            let size = n + 1;
            if ![1, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 70_000].contains(&size) {
                continue;
            }
            let root = tree::root(&mut flat, size).unwrap();
            assert_eq!(edge.head(&connection).unwrap(), Head { size, root });
            let again = Edge::load(&connection).unwrap();
            assert_eq!(again.head(&connection).unwrap(), Head { size, root }, "after a restart at {size}");
            for index in [0, size / 3, size.saturating_sub(300), n] {
                for edge in [Some(&edge), None] {
                    let mut stored = StoredNodes::new(&connection, edge, size);
                    let proof = tree::inclusion_proof(&mut stored, index, size).unwrap();
                    assert_eq!(proof, tree::inclusion_proof(&mut flat, index, size).unwrap());
                    let proof = tree::consistency_proof(&mut stored, index, size).unwrap();
                    assert_eq!(proof, tree::consistency_proof(&mut flat, index, size).unwrap());
                }
            }
        }
    }
}
