#!/usr/bin/env python3
"""Verifies a witness' cosignature by C2SP tlog-cosignature alone: cosignature.py NOTE VERIFIER

Prints the time of the cosignature, seconds since 1970. Python has no Ed25519 of its own, so OpenSSL does that step.
"""
import base64
import hashlib
import struct
import subprocess
import sys
import tempfile


def main(note_path, verifier):
    note = open(note_path, encoding="utf-8").read()
    name, key_id, key = verifier.strip().split("+", 2)
    kind, key = base64.b64decode(key)[0], base64.b64decode(key)[1:]
    assert kind == 4 and len(key) == 32, "not a cosigner's key"
    assert hashlib.sha256(name.encode() + b"\n\x04" + key).hexdigest()[:8] == key_id, "another key id"

    text, lines = note[: note.rindex("\n\n") + 1], note[note.rindex("\n\n") + 2 :]
    for line in lines.splitlines():
        dash, who, blob = line.split(" ")
        blob = base64.b64decode(blob)
        if dash == "\u2014" and who == name and blob[:4].hex() == key_id:
            break
    else:
        sys.exit("no cosignature by that key")
    assert len(blob) == 4 + 8 + 64, "another length"
    (time,) = struct.unpack(">Q", blob[4:12])
    message = f"cosignature/v1\ntime {time}\n{text}".encode()

    # SubjectPublicKeyInfo of Ed25519 (RFC 8410, section 4).
    der = bytes.fromhex("302a300506032b6570032100") + key
    with tempfile.TemporaryDirectory() as directory:
        files = {}
        for part, content in (("key", der), ("signature", blob[12:]), ("message", message)):
            files[part] = f"{directory}/{part}"
            with open(files[part], "wb") as out:
                out.write(content)
        verify = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER", "-inkey", files["key"]]
        verify += ["-sigfile", files["signature"], "-in", files["message"]]
        subprocess.run(verify, check=True, stdout=subprocess.DEVNULL)
    print(time)


main(sys.argv[1], sys.argv[2])
