//! The Merkle tree over the ledger (RFC 6962, section 2.1; RFC 9162, section 2.1): hashes, proofs and
//! their verification. Pure: where the hashes lie is the caller's business.

use crate::digest::Digest;

/// Levels that one tile spans (C2SP tlog-tiles): 256 hashes at its bottom.
pub const TILE_HEIGHT: u32 = 8;
/// Hashes at the bottom of a whole tile.
pub const TILE_WIDTH: u64 = 1 << TILE_HEIGHT;

/// The hash of an interior node: SHA-256(0x01 ‖ left ‖ right) (RFC 9162, section 2.1.1).
#[must_use]
pub fn node_hash(left: Digest, right: Digest) -> Digest {
    let mut node = [1; 65];
    node[1..33].copy_from_slice(left.as_bytes());
    node[33..].copy_from_slice(right.as_bytes());
    Digest::of(&node)
}

/// The hash of a tree without leaves (RFC 9162, section 2.1.1).
#[must_use]
pub fn empty_root() -> Digest {
    Digest::of(b"")
}

/// A complete, aligned subtree: `index` counts those of the same level from the left; it covers the
/// leaves from `index << level` up to, not including, `(index + 1) << level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Node {
    /// Height above the leaves.
    pub level: u32,
    /// Position among the nodes of that level.
    pub index: u64,
}

/// Where hashes of complete subtrees come from.
pub trait Nodes {
    /// Why a hash cannot be had.
    type Error;
    /// The hash of a complete subtree that lies within the tree.
    ///
    /// # Errors
    /// Whatever the place where hashes lie says.
    fn hash(&mut self, node: Node) -> Result<Digest, Self::Error>;
}

/// The root of the first `size` leaves.
///
/// # Errors
/// Those of `nodes`.
pub fn root<N: Nodes>(nodes: &mut N, size: u64) -> Result<Digest, N::Error> {
    if size == 0 { Ok(empty_root()) } else { range_root(nodes, 0, size) }
}

/// The hashes that lead from leaf `index` to the root of the first `size` leaves, lowest first
/// (RFC 9162, section 2.1.3.1). None when the leaf is not among them.
///
/// # Errors
/// Those of `nodes`.
pub fn inclusion_proof<N: Nodes>(nodes: &mut N, index: u64, size: u64) -> Result<Option<Vec<Digest>>, N::Error> {
    if index >= size {
        return Ok(None);
    }
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            proof.push(range_root(nodes, middle, end)?);
            end = middle;
        } else {
            proof.push(range_root(nodes, start, middle)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(Some(proof))
}

/// The hashes that show the first `old` leaves to be the beginning of the first `new` ones
/// (RFC 9162, section 2.1.4.1). None unless `old` is at most `new`; empty when either shows itself.
///
/// # Errors
/// Those of `nodes`.
pub fn consistency_proof<N: Nodes>(nodes: &mut N, old: u64, new: u64) -> Result<Option<Vec<Digest>>, N::Error> {
    if old > new {
        return Ok(None);
    }
    if old == 0 || old == new {
        return Ok(Some(Vec::new()));
    }
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, new);
    // Walks down to where the old tree ends; `start == 0` all the way means the verifier knows that node.
    while old != end {
        let middle = start + split(end - start);
        if old <= middle {
            proof.push(range_root(nodes, middle, end)?);
            end = middle;
        } else {
            proof.push(range_root(nodes, start, middle)?);
            start = middle;
        }
    }
    if start != 0 {
        proof.push(range_root(nodes, start, end)?);
    }
    proof.reverse();
    Ok(Some(proof))
}

/// Whether `proof` shows that `leaf` (a leaf hash) is number `index` of the `size` leaves under
/// `root` (RFC 9162, section 2.1.3.2).
#[must_use]
pub fn verify_inclusion(leaf: Digest, index: u64, size: u64, proof: &[Digest], root: Digest) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, leaf);
    for &sibling in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == root
}

/// Whether `proof` shows that the `old` leaves under `old_root` are the beginning of the `new` leaves
/// under `new_root` (RFC 9162, section 2.1.4.2). Of an empty old tree nothing can be shown, and nothing
/// needs to be: every tree continues it.
#[must_use]
pub fn verify_consistency(old: u64, old_root: Digest, new: u64, new_root: Digest, proof: &[Digest]) -> bool {
    if old == 0 || old > new {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    let mut proof = proof.iter().copied();
    // A power of two is a node of the new tree, so the proof leaves its hash out.
    let first = if old.is_power_of_two() { Some(old_root) } else { proof.next() };
    let Some(first) = first else { return false };
    let (mut at, mut last) = (old - 1, new - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut from_old, mut from_new) = (first, first);
    for hash in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            from_old = node_hash(hash, from_old);
            from_new = node_hash(hash, from_new);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            from_new = node_hash(from_new, hash);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && from_old == old_root && from_new == new_root
}

/// The largest power of two below `size`, which is at least 2 (RFC 9162, section 2.1.1).
const fn split(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

/// The root of the leaves from `start` up to `end`, where `start` is a multiple of a power of two
/// that is at least `end - start`: the ranges into which a tree splits are.
fn range_root<N: Nodes>(nodes: &mut N, start: u64, end: u64) -> Result<Digest, N::Error> {
    let size = end - start;
    if size.is_power_of_two() {
        let level = size.trailing_zeros();
        return nodes.hash(Node { level, index: start >> level });
    }
    let middle = start + split(size);
    let left = range_root(nodes, start, middle)?;
    let right = range_root(nodes, middle, end)?;
    Ok(node_hash(left, right))
}

/// A tile with every hash inside it: what is asked for again and again is computed once.
#[derive(Debug, Clone, Default)]
pub struct Tile {
    /// For each level from the bottom, the hashes of the complete subtrees so far.
    levels: [Vec<Digest>; TILE_HEIGHT as usize],
}

impl Tile {
    /// A tile with these hashes at its bottom, at most 256.
    #[must_use]
    pub fn of(bottom: impl IntoIterator<Item = Digest>) -> Self {
        let mut tile = Self::default();
        for hash in bottom {
            tile.push(hash);
        }
        tile
    }

    /// Adds a hash at the bottom; the hash of the whole tile when that completed it.
    pub fn push(&mut self, mut hash: Digest) -> Option<Digest> {
        for level in &mut self.levels {
            level.push(hash);
            if level.len() % 2 == 1 {
                return None;
            }
            hash = node_hash(level[level.len() - 2], hash);
        }
        Some(hash)
    }

    /// Hashes at the bottom.
    #[must_use]
    pub fn width(&self) -> usize {
        self.levels[0].len()
    }

    /// The hashes at the bottom.
    #[must_use]
    pub fn bottom(&self) -> &[Digest] {
        &self.levels[0]
    }

    /// The hash of a complete subtree inside the tile, `level` (below 8) above its bottom.
    #[must_use]
    pub fn hash(&self, level: u32, index: usize) -> Option<Digest> {
        self.levels.get(level as usize)?.get(index).copied()
    }
}

#[cfg(test)]
mod tests;
