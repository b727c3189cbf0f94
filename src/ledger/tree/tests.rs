use proptest::prelude::*;

use super::*;
use crate::ledger::leaf_hash;

/// Every leaf in memory; subtrees are hashed anew each time, by the definition alone.
struct Leaves(Vec<Digest>);

impl Nodes for Leaves {
    type Error = std::convert::Infallible;
    fn hash(&mut self, node: Node) -> Result<Digest, Self::Error> {
        let start = usize::try_from(node.index << node.level).unwrap();
        Ok(definition(&self.0[start..start + (1 << node.level)]))
    }
}

/// MTH as RFC 6962, section 2.1 writes it down.
fn definition(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => empty_root(),
        [one] => *one,
        many => {
            let (left, right) = many.split_at(many.len().next_power_of_two() / 2);
            node_hash(definition(left), definition(right))
        }
    }
}

fn leaves(size: u64) -> Leaves {
    Leaves((0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect())
}

/// The entries and roots of transparency-dev/merkle's and RFC 6962's reference test.
fn reference() -> (Vec<Vec<u8>>, Vec<&'static str>) {
    let entries = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let roots = vec![
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    (entries.iter().map(|hex| crate::digest::parse_hex(hex).unwrap()).collect(), roots)
}

#[test]
fn roots_are_those_of_the_published_reference() {
    let (entries, roots) = reference();
    let mut tree = Leaves(entries.iter().map(|entry| leaf_hash(entry)).collect());
    for (size, expected) in (1..).zip(roots) {
        assert_eq!(root(&mut tree, size).unwrap().to_string(), expected, "{size}");
    }
    assert_eq!(
        root(&mut tree, 0).unwrap().to_string(),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
}

/// The proofs that certificate-transparency (`merkle_tree_test.cc`) and transparency-dev/merkle publish for the same
/// tree: for inclusion index and size, for consistency old and new size.
#[test]
fn proofs_are_those_of_the_published_reference() {
    let [h0, h01, h23, h4, h45, h67, h6, h0123] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    let [h1, h4567] = [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ];
    let (entries, _) = reference();
    let mut tree = Leaves(entries.iter().map(|entry| leaf_hash(entry)).collect());
    let text = |proof: Option<Vec<Digest>>| proof.unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
    for (index, size, expected) in [
        (0, 1, vec![]),
        (0, 8, vec![h1, h23, h4567]),
        (5, 8, vec![h4, h67, h0123]),
        (2, 3, vec![h01]),
        (1, 5, vec![h0, h23, h4]),
    ] {
        assert_eq!(text(inclusion_proof(&mut tree, index, size).unwrap()), expected, "{index} in {size}");
    }
    for (old, new, expected) in [
        (1, 1, vec![]),
        (1, 8, vec![h1, h23, h4567]),
        (6, 8, vec![h45, h67, h0123]),
        (2, 5, vec![h23, h4]),
        (6, 7, vec![h45, h6, h0123]),
    ] {
        assert_eq!(text(consistency_proof(&mut tree, old, new).unwrap()), expected, "{old} in {new}");
    }
}

#[test]
fn every_proof_of_small_trees_verifies_and_no_other_place_does() {
    for size in 1..=40 {
        let mut tree = leaves(size);
        let new_root = root(&mut tree, size).unwrap();
        for index in 0..size {
            let proof = inclusion_proof(&mut tree, index, size).unwrap().unwrap();
            let leaf = tree.0[usize::try_from(index).unwrap()];
            for claimed in 0..size + 2 {
                assert_eq!(verify_inclusion(leaf, claimed, size, &proof, new_root), claimed == index);
            }
        }
        for old in 1..=size {
            let old_root = root(&mut tree, old).unwrap();
            let proof = consistency_proof(&mut tree, old, size).unwrap().unwrap();
            assert!(verify_consistency(old, old_root, size, new_root, &proof), "{old} of {size}");
        }
        assert!(!verify_consistency(0, empty_root(), size, new_root, &[]), "the RFC has no such proof");
        assert_eq!(inclusion_proof(&mut tree, size, size).unwrap(), None);
        assert_eq!(consistency_proof(&mut tree, size + 1, size).unwrap(), None);
    }
}

#[test]
fn a_tile_knows_every_hash_inside_it() {
    let mut tree = leaves(256);
    let mut tile = Tile::default();
    for (n, &leaf) in tree.0.clone().iter().enumerate() {
        let whole = tile.push(leaf);
        assert_eq!(whole.is_some(), n == 255);
        assert!(whole.is_none_or(|hash| hash == definition(&tree.0)));
    }
    for level in 0..8 {
        for index in 0..256 >> level {
            let expected = tree.hash(Node { level, index }).unwrap();
            assert_eq!(tile.hash(level, usize::try_from(index).unwrap()), Some(expected));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_proof_root_or_leaf_never_verifies(size in 2u64..600, at in any::<prop::sample::Index>(), bit in 0usize..256) {
        let mut tree = leaves(size);
        let index = u64::try_from(at.index(usize::try_from(size).unwrap())).unwrap();
        let new_root = root(&mut tree, size).unwrap();
        let leaf = tree.0[usize::try_from(index).unwrap()];
        let flip = |digest: Digest| {
            let mut bytes = *digest.as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            Digest::from_bytes(bytes)
        };
        let proof = inclusion_proof(&mut tree, index, size).unwrap().unwrap();
        prop_assert!(verify_inclusion(leaf, index, size, &proof, new_root));
        prop_assert!(!verify_inclusion(flip(leaf), index, size, &proof, new_root));
        prop_assert!(!verify_inclusion(leaf, index, size, &proof, flip(new_root)));
        for n in 0..proof.len() {
            let mut changed = proof.clone();
            changed[n] = flip(changed[n]);
            prop_assert!(!verify_inclusion(leaf, index, size, &changed, new_root));
        }
        let old = index + 1;
        let old_root = root(&mut tree, old).unwrap();
        let proof = consistency_proof(&mut tree, old, size).unwrap().unwrap();
        prop_assert!(verify_consistency(old, old_root, size, new_root, &proof));
        prop_assert!(!verify_consistency(old, flip(old_root), size, new_root, &proof));
        prop_assert!(!verify_consistency(old, old_root, size, flip(new_root), &proof));
        for n in 0..proof.len() {
            let mut changed = proof.clone();
            changed[n] = flip(changed[n]);
            prop_assert!(!verify_consistency(old, old_root, size, new_root, &changed));
        }
    }
}
