//! The right edge of a growing Merkle tree: what hashing leaves one after the other needs, and no more.

use super::tree::{Node, empty_root, node_hash};
use crate::digest::Digest;

/// The complete subtrees into which the leaves so far fall apart, largest first.
#[derive(Debug, Clone, Default)]
pub struct Frontier {
    size: u64,
    nodes: Vec<Digest>,
}

impl Frontier {
    /// Leaves so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf hash; `completed` is told each interior node that is complete with it, lowest first.
    pub fn push(&mut self, leaf: Digest, mut completed: impl FnMut(Node, Digest)) {
        let (mut hash, mut level) = (leaf, 0);
        while self.size >> level & 1 == 1 {
            let Some(left) = self.nodes.pop() else { break };
            hash = node_hash(left, hash);
            level += 1;
            completed(Node { level, index: self.size >> level }, hash);
        }
        self.nodes.push(hash);
        self.size += 1;
    }

    /// The root over the leaves so far.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.nodes.iter().rev().copied().reduce(|right, left| node_hash(left, right)).unwrap_or_else(empty_root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::leaf_hash;
    use crate::ledger::tree::{self, Nodes};

    struct Remembered(std::collections::HashMap<Node, Digest>);
    impl Nodes for Remembered {
        type Error = std::convert::Infallible;
        fn hash(&mut self, node: Node) -> Result<Digest, Self::Error> {
            Ok(self.0[&node])
        }
    }

    #[test]
    fn the_root_of_every_size_is_that_of_the_tree() {
        let (mut frontier, mut nodes) = (Frontier::default(), Remembered(std::collections::HashMap::new()));
        for n in 0..600u64 {
            assert_eq!(Ok(frontier.root()), tree::root(&mut nodes, n), "{n} leaves");
            let leaf = leaf_hash(&n.to_be_bytes());
            nodes.0.insert(Node { level: 0, index: n }, leaf);
            frontier.push(leaf, |node, hash| assert_eq!(nodes.0.insert(node, hash), None));
            assert_eq!(frontier.size(), n + 1);
        }
    }
}
