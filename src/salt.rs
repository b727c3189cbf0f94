//! What a host signs with its Salt minion key, so that the CA lets it in.

use crate::digest::Digest;
use crate::name::HostName;

/// What the signature is for. No other use of a minion's key begins with it, and another form of the
/// message gets another version.
const CONTEXT: &[u8] = b"psfca enrolment with a Salt minion key, version 1";

/// The signed message: that this host asks the CA with this root for an identity for this key, now.
/// Each part has its length before it (32 bits, big endian), so that no two requests have one message.
#[must_use]
pub fn message(ca_root: Digest, host: &HostName, nonce: &[u8], spki: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    for part in [CONTEXT, ca_root.as_bytes(), host.as_str().as_bytes(), nonce, spki] {
        // None of them comes near the limit.
        message.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        message.extend(part);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_requests_have_one_message() {
        let host = |name: &str| HostName::parse(name).unwrap();
        let root = Digest::of(b"root");
        let plain = message(root, &host("a.b"), b"nonce", b"key");
        assert!(plain.starts_with(b"\0\0\0\x31psfca enrolment with a Salt minion key, version 1\0\0\0\x20"));
        assert!(plain.ends_with(b"\0\0\0\x03a.b\0\0\0\x05nonce\0\0\0\x03key"));
        for other in [
            message(Digest::of(b"other"), &host("a.b"), b"nonce", b"key"),
            message(root, &host("a.bn"), b"once", b"key"),
            message(root, &host("a.b"), b"noncek", b"ey"),
        ] {
            assert_ne!(plain, other);
        }
    }
}
