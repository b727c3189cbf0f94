#!/usr/bin/env python3
"""Verifies an exported ledger (C2SP tlog-tiles) with the Python standard library and nothing of psfca.

Written from RFC 6962 and RFC 9162 (Merkle trees), RFC 8032 (Ed25519) and C2SP signed-note,
tlog-checkpoint and tlog-tiles.

    verify.py DIR KEY                 the tiles make the checkpoint's root, and KEY signed the checkpoint
    verify.py DIR KEY --old NOTE      and the tree continues that of the earlier checkpoint in NOTE
    verify.py DIR KEY --prove INDEX   and prints the hashes that lead from an entry to the root

KEY is NAME+HASH+KEY, as `psfca audit checkpoint --key` prints it.
"""

import argparse
import base64
import hashlib
import pathlib
import sys


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


# Ed25519, RFC 8032, section 5.1: slow and plain, for public data only.
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)


def recover_x(y, sign):
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    if square == 0:
        return None if sign else 0
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P:
        return None
    return P - x if x & 1 != sign else x


BASE_Y = 4 * pow(5, -1, P) % P
BASE_X = recover_x(BASE_Y, 0)
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def multiply(scalar, point):
    total = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point, scalar = add(point, point), scalar >> 1
    return total


def decompress(octets):
    if len(octets) != 32:
        return None
    y = int.from_bytes(octets, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


def ed25519_verifies(key, message, signature):
    if len(signature) != 64:
        return False
    a, r = decompress(key), decompress(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    left, right = multiply(s, BASE), add(r, multiply(h, a))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


# C2SP signed-note and tlog-checkpoint.
def open_checkpoint(note, verifier):
    """Origin, size and root, when the key signed the note."""
    name, key_hash, key = verifier.split("+", 2)
    key = base64.b64decode(key, validate=True)
    if sha256(name.encode(), b"\n", key)[:4].hex() != key_hash or key[0] != 1:
        raise ValueError("this is no Ed25519 key with its hash")
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    for line in signatures.splitlines():
        dash, signer, blob = line.split(" ")
        blob = base64.b64decode(blob, validate=True)
        if dash == "\u2014" and signer == name and blob[:4].hex() == key_hash:
            if not ed25519_verifies(key[1:], text.encode(), blob[4:]):
                raise ValueError("the checkpoint's signature is wrong")
            break
    else:
        raise ValueError("the checkpoint is not signed by this key")
    origin, size, root = text.splitlines()[:3]
    if origin != name or str(int(size)) != size:
        raise ValueError("the checkpoint is that of another ledger, or malformed")
    return int(size), base64.b64decode(root, validate=True)


# C2SP tlog-tiles.
def tile_path(kind, index, width):
    groups = ["%03d" % (index % 1000)]
    while index >= 1000:
        index //= 1000
        groups.insert(0, "x%03d" % (index % 1000))
    return "tile/%s/%s%s" % (kind, "/".join(groups), "" if width == 256 else ".p/%d" % width)


def tiles(directory, kind, count):
    for index in range((count + 255) // 256):
        width = min(256, count - 256 * index)
        yield index, width, (directory / tile_path(kind, index, width)).read_bytes()


def read_entries(directory, size):
    for index, width, octets in tiles(directory, "entries", size):
        at = 0
        for _ in range(width):
            length = int.from_bytes(octets[at : at + 2], "big")
            entry = octets[at + 2 : at + 2 + length]
            if len(entry) != length:
                raise ValueError("entry tile %d is cut short" % index)
            yield entry
            at += 2 + length
        if at != len(octets):
            raise ValueError("entry tile %d is longer than its entries" % index)


# RFC 9162, section 2.1; the tree in full, as the RFC defines it.
def node(left, right):
    return sha256(b"\x01", left, right)


def split(n):
    return 1 << (n - 1).bit_length() - 1


class Tree:
    def __init__(self, leaves):
        self.leaves, self.known = leaves, {}

    def root(self, start=0, end=None):
        end = len(self.leaves) if end is None else end
        if end == start:
            return sha256(b"")
        if end - start == 1:
            return self.leaves[start]
        if (start, end) not in self.known:
            middle = start + split(end - start)
            self.known[start, end] = node(self.root(start, middle), self.root(middle, end))
        return self.known[start, end]

    def inclusion(self, index, start=0, end=None):
        """PATH(m, D[n]), section 2.1.3.1."""
        end = len(self.leaves) if end is None else end
        if end - start == 1:
            return []
        middle = start + split(end - start)
        if index < middle:
            return self.inclusion(index, start, middle) + [self.root(middle, end)]
        return self.inclusion(index, middle, end) + [self.root(start, middle)]

    def consistency(self, old, start=0, end=None, whole=True):
        """SUBPROOF(m, D[n], b), section 2.1.4.1; `old` counts from `start`."""
        end = len(self.leaves) if end is None else end
        if old == end - start:
            return [] if whole else [self.root(start, end)]
        k = split(end - start)
        if old <= k:
            return self.consistency(old, start, start + k, whole) + [self.root(start + k, end)]
        return self.consistency(old - k, start + k, end, False) + [self.root(start, start + k)]


def inclusion_holds(leaf, index, size, proof, root):
    """Section 2.1.3.2."""
    fn, sn, r = index, size - 1, leaf
    for p in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            r = node(p, r)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node(r, p)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == root


def consistency_holds(old, old_root, new, new_root, proof):
    """Section 2.1.4.2."""
    if old == new:
        return not proof and old_root == new_root
    if old & old - 1 == 0:
        proof = [old_root] + proof
    if not proof:
        return False
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = proof[0]
    for c in proof[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node(c, fr), node(c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node(sr, c)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == old_root and sr == new_root


def check_hash_tiles(directory, leaves):
    """Every hash tile must hold the hashes that the entries give."""
    level, hashes = 0, leaves
    while hashes:
        for index, width, octets in tiles(directory, level, len(hashes)):
            if octets != b"".join(hashes[256 * index : 256 * index + width]):
                raise ValueError("hash tile %s is not that of the entries" % tile_path(level, index, width))
        whole = [hashes[at : at + 256] for at in range(0, len(hashes) - 255, 256)]
        level, hashes = level + 1, [Tree(tile).root() for tile in whole]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("directory", type=pathlib.Path)
    arguments.add_argument("key")
    arguments.add_argument("--old", type=pathlib.Path)
    arguments.add_argument("--prove", type=int)
    arguments = arguments.parse_args()

    size, root = open_checkpoint((arguments.directory / "checkpoint").read_text(), arguments.key)
    leaves = [sha256(b"\x00", entry) for entry in read_entries(arguments.directory, size)]
    tree = Tree(leaves)
    if tree.root() != root:
        raise ValueError("the entries do not make the checkpoint's root")
    check_hash_tiles(arguments.directory, leaves)
    for index in {0, size // 3, size // 2, size - 1} & set(range(size)):
        if not inclusion_holds(leaves[index], index, size, tree.inclusion(index), root):
            raise ValueError("the proof of entry %d does not hold" % index)
    print("%d entries, root %s" % (size, root.hex()))
    if arguments.old:
        old, old_root = open_checkpoint(arguments.old.read_text(), arguments.key)
        if old > size:
            raise ValueError("the earlier checkpoint has %d entries, these are %d" % (old, size))
        if old and not consistency_holds(old, old_root, size, root, tree.consistency(old)):
            raise ValueError("the ledger does not continue the earlier checkpoint of %d entries" % old)
        print("continues the %d entries of the earlier checkpoint" % old)
    if arguments.prove is not None:
        for sibling in tree.inclusion(arguments.prove):
            print(sibling.hex())


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, IndexError) as error:
        sys.exit("verify.py: %s" % error)
