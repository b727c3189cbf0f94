#!/usr/bin/env python3
"""Verifies a ledger with the Python standard library and nothing of psfca.

Written from RFC 6962 and RFC 9162 (Merkle trees), RFC 8032 (Ed25519) and C2SP signed-note,
tlog-checkpoint, tlog-tiles and tlog-proof.

    verify.py tiles DIR KEY [--old NOTE]...     an export: KEY signed its checkpoint, its entries make that
                                                root and every hash tile, and it continues each NOTE
    verify.py proof FILE KEY                    the proof that came with a certificate; prints its entry
    verify.py consistency OLD NEW KEY FILE      the answer of GET /v1/ledger/consistency between two notes
    verify.py vectors DIR                       test data of github.com/transparency-dev/merkle (testdata/)
    verify.py self-test                         the vectors of RFC 8032, section 7.1

KEY is NAME+HASH+KEY, as `psfca audit checkpoint --key` prints it. Exit code 0: everything holds.
"""

import argparse
import base64
import hashlib
import json
import pathlib
import sys


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def unbase64(text):
    octets = base64.b64decode(text, validate=True)
    if base64.b64encode(octets).decode() != text:
        raise ValueError("%r is not canonical base64" % text)
    return octets


# Ed25519, RFC 8032, section 5.1: slow and not in constant time, for public data only.
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
    y = int.from_bytes(octets, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


def ed25519_verifies(key, message, signature):
    if len(key) != 32 or len(signature) != 64:
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
    """Size and root, when the key signed the note. Signatures of other keys are not looked at."""
    name, key_hash, key = verifier.split("+", 2)
    key = unbase64(key)
    if sha256(name.encode(), b"\n", key)[:4].hex() != key_hash or key[0] != 1:
        raise ValueError("this is no Ed25519 key with its hash")
    text, gap, signatures = note.rpartition("\n\n")
    text += "\n"
    if not gap or not signatures.endswith("\n"):
        raise ValueError("the checkpoint is no signed note")
    for line in signatures.split("\n")[:-1]:
        dash, signer, blob = line.split(" ")
        blob = unbase64(blob)
        if dash == "\u2014" and signer == name and blob[:4].hex() == key_hash:
            if not ed25519_verifies(key[1:], text.encode(), blob[4:]):
                raise ValueError("the checkpoint's signature is wrong")
            break
    else:
        raise ValueError("the checkpoint is not signed by this key")
    origin, size, root = text.split("\n")[:3]
    root = unbase64(root)
    if origin != name or str(int(size)) != size or len(root) != 32:
        raise ValueError("the checkpoint is that of another ledger, or malformed")
    return int(size), root


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
            if len(entry) != length or length == 0:
                raise ValueError("entry tile %d is cut short" % index)
            yield entry
            at += 2 + length
        if at != len(octets):
            raise ValueError("entry tile %d is longer than its entries" % index)


# RFC 9162, section 2.1; the tree in full, as the RFC defines it.
def leaf_hash(entry):
    return sha256(b"\x00", entry)


def node(left, right):
    return sha256(b"\x01", left, right)


def split(n):
    """The largest power of two smaller than n."""
    return 1 << ((n - 1).bit_length() - 1)


class Tree:
    def __init__(self, leaves):
        self.leaves, self.known = leaves, {}

    def root(self, start=0, end=None):
        """MTH(D[start:end]), section 2.1.1."""
        end = len(self.leaves) if end is None else end
        if end == start:
            return sha256()
        if end - start == 1:
            return self.leaves[start]
        if (start, end) not in self.known:
            middle = start + split(end - start)
            self.known[start, end] = node(self.root(start, middle), self.root(middle, end))
        return self.known[start, end]

    def inclusion(self, index, start=0, end=None):
        """PATH(m, D_n), section 2.1.3.1."""
        end = len(self.leaves) if end is None else end
        if end - start == 1:
            return []
        middle = start + split(end - start)
        if index < middle:
            return self.inclusion(index, start, middle) + [self.root(middle, end)]
        return self.inclusion(index, middle, end) + [self.root(start, middle)]

    def consistency(self, old, start=0, end=None, whole=True):
        """SUBPROOF(m, D_n, b), section 2.1.4.1; `old` counts from `start`."""
        end = len(self.leaves) if end is None else end
        if old == end - start:
            return [] if whole else [self.root(start, end)]
        k = split(end - start)
        if old <= k:
            return self.consistency(old, start, start + k, whole) + [self.root(start + k, end)]
        return self.consistency(old - k, start + k, end, False) + [self.root(start, start + k)]


def inclusion_holds(leaf, index, size, proof, root):
    """Section 2.1.3.2."""
    if index >= size or any(len(hash) != 32 for hash in [leaf, root, *proof]):
        return False
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
    """Section 2.1.4.2, for an old tree that is not empty: everything continues the empty one."""
    if not 0 < old <= new or any(len(hash) != 32 for hash in proof):
        return False
    if old == new:
        return not proof and old_root == new_root
    if not proof:
        return False
    if old & (old - 1) == 0:
        proof = [old_root] + proof
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
    """Every hash tile must hold the hashes that the entries give; returns how many there are."""
    level, hashes, count = 0, leaves, 0
    while hashes:
        for index, width, octets in tiles(directory, level, len(hashes)):
            if octets != b"".join(hashes[256 * index : 256 * index + width]):
                raise ValueError("hash tile %s is not that of the entries" % tile_path(level, index, width))
            count += 1
        whole = [hashes[at : at + 256] for at in range(0, len(hashes) - 255, 256)]
        level, hashes = level + 1, [Tree(tile).root() for tile in whole]
    return count


def verify_tiles(arguments):
    size, root = open_checkpoint((arguments.directory / "checkpoint").read_text(), arguments.key)
    leaves = [leaf_hash(entry) for entry in read_entries(arguments.directory, size)]
    tree = Tree(leaves)
    if tree.root() != root:
        raise ValueError("the entries do not make the checkpoint's root")
    count = check_hash_tiles(arguments.directory, leaves)
    print("%d entries, root %s, %d hash tiles" % (size, root.hex(), count))
    # Every entry and every earlier size of a small ledger, a thousand of a large one.
    step = max(1, size // 1000)
    for at in range(0, size, step):
        if not inclusion_holds(leaves[at], at, size, tree.inclusion(at), root):
            raise ValueError("the proof of entry %d does not hold" % at)
        if not consistency_holds(at + 1, tree.root(0, at + 1), size, root, tree.consistency(at + 1)):
            raise ValueError("the proof from size %d does not hold" % (at + 1))
    for note in arguments.old:
        old, old_root = open_checkpoint(note.read_text(), arguments.key)
        if old > size:
            raise ValueError("the earlier checkpoint has %d entries, these are %d" % (old, size))
        holds = old == 0 or consistency_holds(old, old_root, size, root, tree.consistency(old))
        if tree.root(0, old) != old_root or not holds:
            raise ValueError("the ledger does not continue the earlier checkpoint of %d entries" % old)
        print("continues the %d entries of %s" % (old, note.name))


def verify_proof(arguments):
    head, _, checkpoint = arguments.file.read_text().partition("\n\n")
    size, root = open_checkpoint(checkpoint, arguments.key)
    magic, extra, index, *hashes = head.split("\n")
    if magic != "c2sp.org/tlog-proof@v1" or extra[:6] != "extra " or index[:6] != "index ":
        raise ValueError("this is no proof of an entry")
    entry, index = unbase64(extra[6:]), int(index[6:])
    if not inclusion_holds(leaf_hash(entry), index, size, [unbase64(line) for line in hashes], root):
        raise ValueError("the proof does not hold")
    print("entry %d of %d: %s" % (index, size, entry.decode()))


def verify_consistency(arguments):
    old, old_root = open_checkpoint(arguments.old.read_text(), arguments.key)
    new, new_root = open_checkpoint(arguments.new.read_text(), arguments.key)
    answer = json.loads(arguments.file.read_text())
    hashes = [bytes.fromhex(text) for text in answer["hashes"]]
    if (answer["old"], answer["new"]) != (old, new) or not consistency_holds(old, old_root, new, new_root, hashes):
        raise ValueError("the proof from %d to %d entries does not hold" % (old, new))
    print("%d entries continue %d" % (new, old))


def verify_vectors(arguments):
    for kind in ["inclusion", "consistency"]:
        files = sorted((arguments.directory / kind).rglob("*.json"))
        good = 0
        for file in files:
            case = json.loads(file.read_text())
            octets = lambda field: base64.b64decode(case[field] or "")
            proof = [base64.b64decode(text) for text in case["proof"] or []]
            if kind == "inclusion":
                holds = inclusion_holds(octets("leafHash"), case["leafIdx"], case["treeSize"], proof, octets("root"))
            else:
                holds = consistency_holds(case["size1"], octets("root1"), case["size2"], octets("root2"), proof)
            if holds == case["wantErr"]:
                raise ValueError("%s: %s" % (file, "holds" if holds else "does not hold"))
            good += holds
        print("%s: %d cases, %d of them good" % (kind, len(files), good))


# RFC 8032, section 7.1: key, message, signature.
ED25519_VECTORS = """
d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a -
e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b
3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c 72
92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00
fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025 af82
6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a
"""


def self_test(_):
    fields = ED25519_VECTORS.split()
    for at in range(0, len(fields), 3):
        key, message, signature = (bytes.fromhex(field.strip("-")) for field in fields[at : at + 3])
        if not ed25519_verifies(key, message, signature):
            raise ValueError("a signature of RFC 8032 does not verify")
        for changed in range(64):
            wrong = bytearray(signature)
            wrong[changed] ^= 1 << changed % 8
            if ed25519_verifies(key, message, bytes(wrong)) or ed25519_verifies(key, message + b"\0", signature):
                raise ValueError("a changed signature verifies")
    print("%d signatures" % (len(fields) // 3))


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)

    def command(name, run, *paths):
        words = commands.add_parser(name)
        words.set_defaults(run=run)
        for path in paths:
            words.add_argument(path, type=str if path == "key" else pathlib.Path)
        return words

    command("tiles", verify_tiles, "directory", "key").add_argument("--old", type=pathlib.Path, action="append", default=[])
    command("proof", verify_proof, "file", "key")
    command("consistency", verify_consistency, "old", "new", "key", "file")
    command("vectors", verify_vectors, "directory")
    command("self-test", self_test)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, KeyError, OSError, IndexError) as error:
        sys.exit("verify.py: %s" % error)
