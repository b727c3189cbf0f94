//! Distinguished encoding, strictly: what lenient parsers read over and strict clients refuse.

use x509_parser::asn1_rs::{Any, Class, FromDer as _, Tag};

/// Whether `bytes` are DER all the way down, as certificates use it: sets are relative
/// distinguished names, booleans are `TRUE`, padding is zero, extension values are DER themselves
/// (X.690, sections 10 and 11).
pub(super) fn is_strict(bytes: &[u8]) -> bool {
    each(bytes, is_strict_element).is_some()
}

/// How many elements follow one another, if `bytes` are nothing else and all of them pass.
fn each(mut bytes: &[u8], pass: impl Fn(&Any<'_>) -> bool) -> Option<usize> {
    let mut count = 0;
    while !bytes.is_empty() {
        let (rest, element) = Any::from_der(bytes).ok()?;
        if !pass(&element) {
            return None;
        }
        (bytes, count) = (rest, count + 1);
    }
    Some(count)
}

fn is_strict_element(element: &Any<'_>) -> bool {
    if element.class() != Class::Universal {
        return !element.header.is_constructed() || is_strict(element.data);
    }
    match element.tag() {
        Tag::Sequence => sequence(element.data),
        Tag::Set => {
            let pair = |child: &Any<'_>| child.tag() == Tag::Sequence && begins_with_oid(child.data);
            each(element.data, |child| is_strict_element(child) && pair(child)) == Some(1)
        }
        Tag::Boolean => element.data == [0xff],
        Tag::BitString => bits(element.data),
        Tag::Integer | Tag::OctetString | Tag::Oid | Tag::Null => true,
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::UtcTime | Tag::GeneralizedTime => true,
        // Nothing else occurs in a certificate; an object descriptor, for one, passes for an identifier elsewhere.
        _ => false,
    }
}

/// An octet string after an identifier is an extension's value, which is DER again.
fn sequence(bytes: &[u8]) -> bool {
    let extension = begins_with_oid(bytes);
    let value = |child: &Any<'_>| !extension || child.tag() != Tag::OctetString || is_strict(child.data);
    each(bytes, |child| is_strict_element(child) && value(child)).is_some()
}

fn begins_with_oid(bytes: &[u8]) -> bool {
    Any::from_der(bytes).is_ok_and(|(_, first)| first.class() == Class::Universal && first.tag() == Tag::Oid)
}

/// The first octet counts the unused bits at the end, which must be zero. Only key usage has any,
/// and in a list of named bits the last one used is set (X.690, section 11.2.2).
fn bits(data: &[u8]) -> bool {
    match (data.first(), data.last()) {
        (Some(0), _) => true,
        (Some(unused @ 1..8), Some(last)) if data.len() > 1 => last.trailing_zeros() == u32::from(*unused),
        _ => false,
    }
}
