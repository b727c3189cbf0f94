//! The Merkle tree at a million leaves, its hashes in memory.

use std::convert::Infallible;

use psfca::digest::Digest;
use psfca::ledger::frontier::Frontier;
use psfca::ledger::leaf_hash;
use psfca::ledger::tree::{self, Node, Nodes};

use crate::table::Table;

const LEAVES: u64 = 1_000_000;

/// Complete subtrees by level.
struct InMemory(Vec<Vec<Digest>>);

impl Nodes for InMemory {
    type Error = Infallible;

    fn hash(&mut self, node: Node) -> Result<Digest, Infallible> {
        Ok(self.0[node.level as usize][usize::try_from(node.index).unwrap()])
    }
}

pub(crate) fn measure(table: &mut Table) {
    if !table.wants("tree") {
        return;
    }
    let entry = [b'e'; 800];
    table.part("tree/leaf hash of 800 octets", || leaf_hash(&entry));

    let (mut frontier, mut nodes) = (Frontier::default(), InMemory(vec![Vec::new(); 21]));
    let leaf = |number: u64| leaf_hash(&number.to_be_bytes());
    for number in 0..LEAVES {
        nodes.0[0].push(leaf(number));
        frontier.push(leaf(number), |node, hash| nodes.0[node.level as usize].push(hash));
    }
    let (root, last) = (frontier.root(), leaf(LEAVES));
    let mut growing = frontier.clone();
    table.part("tree/append a leaf", || growing.push(last, |_, _| ()));
    table.part("tree/root", || frontier.root());

    // Everywhere in the tree, in no order.
    let mut place = (0..LEAVES).map(|n| n.wrapping_mul(2_654_435_761) % LEAVES).cycle();
    let mut next = move || place.next().unwrap();
    let (index, old) = (654_321, 345_678);
    table.part("tree/inclusion proof", || tree::inclusion_proof(&mut nodes, next(), LEAVES));
    let proof = tree::inclusion_proof(&mut nodes, index, LEAVES).unwrap().unwrap();
    table.part("tree/verify inclusion", || assert!(tree::verify_inclusion(leaf(index), index, LEAVES, &proof, root)));
    let mut place = (0..LEAVES).map(|n| 1 + n.wrapping_mul(2_654_435_761) % LEAVES).cycle();
    table.part("tree/consistency proof", || tree::consistency_proof(&mut nodes, place.next().unwrap(), LEAVES));
    let proof = tree::consistency_proof(&mut nodes, old, LEAVES).unwrap().unwrap();
    let Ok(old_root) = tree::root(&mut nodes, old);
    table.part("tree/verify consistency", || {
        assert!(tree::verify_consistency(old, old_root, LEAVES, root, &proof));
    });
}
