#!/usr/bin/env python3
"""Verifies a chain with Python's `cryptography`: cryptography_verify.py ANCHORS.pem CHAIN.pem DNS-NAME

CHAIN.pem is the leaf, then the intermediates (a private key in the file is passed over). Exits 0 and prints the chain's
subjects, or exits 1 and says why.
"""

import sys

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError


def certificates(path):
    with open(path, "rb") as file:
        return x509.load_pem_x509_certificates(file.read())


anchors, chain, name = sys.argv[1:]
leaf, *intermediates = certificates(chain)
verifier = PolicyBuilder().store(Store(certificates(anchors))).build_server_verifier(x509.DNSName(name))
try:
    verified = verifier.verify(leaf, intermediates)
except VerificationError as error:
    sys.exit(f"{chain}: {error}")
print("\n".join(certificate.subject.rfc4514_string() for certificate in verified))
