//! `cert_opts`: the subject of the CA's certificates.

use crate::name::DnsName;
use crate::profile::SubjectFields;
use crate::yaml::Node;
use crate::yaml::reader::Reader;

pub(super) fn subject(reader: &mut Reader<'_>, node: &Node) -> SubjectFields {
    const KNOWN: [&str; 7] = ["C", "ST", "L", "O", "OU", "emailAddress", "CN"];
    let fields = reader.fields(node, "cert_opts", &KNOWN);
    if let Some(node) = fields.get("CN") {
        reader.error(
            &node.span,
            "cert_opts cannot have CN: the common name is the CA's name",
            "remove CN and set the key \"name\"",
        );
    }
    let mut part = |key: &str, most: usize| {
        let node = fields.get(key)?;
        reader.parsed(node, key, "shorten or correct it", |text| subject_part(text, most))
    };
    let parts = SubjectFields {
        country: part("C", 2),
        state: part("ST", 128),
        locality: part("L", 128),
        organization: part("O", 64),
        organizational_unit: part("OU", 64),
        email: part("emailAddress", 255),
    };
    if let (Some(country), Some(node)) = (&parts.country, fields.get("C"))
        && (country.len() != 2 || !country.bytes().all(|b| b.is_ascii_uppercase()))
    {
        reader.error(&node.span, format!("{country:?} is not a country code"), "write two capital letters, such as US");
    }
    if let (Some(email), Some(node)) = (&parts.email, fields.get("emailAddress"))
        && !is_email(email)
    {
        reader.error(&node.span, format!("{email:?} is not an e-mail address"), "write LOCAL@DOMAIN in ASCII");
    }
    parts
}

/// The bounds are those of RFC 5280, appendix A.1.
fn subject_part(text: &str, most: usize) -> Result<String, String> {
    let length = text.chars().count();
    if length > most {
        return Err(format!("it has {length} characters; {most} is the most (RFC 5280)"));
    }
    if text.chars().any(char::is_control) || text.trim() != text {
        return Err("it begins or ends with white space, or holds a control character".to_owned());
    }
    Ok(text.to_owned())
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let local_fits =
        !local.is_empty() && local.bytes().all(|b| b.is_ascii_graphic() && !b"()<>[]:;,\\\"@".contains(&b));
    local_fits && DnsName::parse(&domain.to_ascii_lowercase()).is_ok()
}
