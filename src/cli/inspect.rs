//! What `psfca inspect` says.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use crate::ca::inspection::{CertificateView, Inspection, KeyView};
use crate::clock::Timestamp;
use crate::terminal::printable;

/// Prints what is in a file, and then what is broken.
///
/// # Errors
/// When standard output is closed.
pub fn print(file: &str, seen: &Inspection, now: Timestamp) -> io::Result<()> {
    io::stdout().lock().write_all(render(file, seen, now).as_bytes())
}

fn render(file: &str, seen: &Inspection, now: Timestamp) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{}", printable(file));
    for certificate in &seen.certificates {
        section(&mut out, &format!("certificate, line {}", certificate.line), &rows(certificate, now));
    }
    for request in &seen.requests {
        let rows = [("asks for", request.subject.clone()), ("key", request.key.clone())];
        section(&mut out, &format!("request, line {}", request.line), &rows);
    }
    for key in &seen.keys {
        section(&mut out, &format!("private key, line {}", key.line), &key_rows(key));
    }
    for other in &seen.others {
        section(&mut out, &format!("{} was not looked into", printable(other)), &[]);
    }
    if let Some(chain) = &seen.chain {
        section(&mut out, &format!("chain: {chain}"), &[]);
    }
    let _ = match seen.problems.is_empty() {
        true => writeln!(out, "\nnothing is wrong with it"),
        false => writeln!(out, "\nbroken:"),
    };
    for problem in &seen.problems {
        let _ = writeln!(out, "  {}", printable(problem));
    }
    out
}

fn section(out: &mut String, title: &str, rows: &[(&str, String)]) {
    let _ = writeln!(out, "\n{title}");
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(out, "  {name:<13} {}", printable(value));
    }
}

fn rows(view: &CertificateView, now: Timestamp) -> Vec<(&'static str, String)> {
    let own = |yes: bool| if yes { "itself (a root; its signature verifies)".to_owned() } else { view.issuer.clone() };
    let ca = match (view.ca, view.path_length) {
        (false, _) => String::new(),
        (true, None) => "yes".to_owned(),
        (true, Some(0)) => "yes, for leaves only (path length 0)".to_owned(),
        (true, Some(length)) => format!("yes, path length {length}"),
    };
    vec![
        ("subject", view.subject.clone()),
        ("issuer", own(view.self_signed)),
        ("serial", view.serial.clone()),
        ("names", view.names.join(", ")),
        ("usages", view.usages.join(", ")),
        ("CA", ca),
        ("key", view.key.clone()),
        ("signature", view.signature.clone()),
        ("not before", view.not_before.with_distance(now)),
        ("not after", view.not_after.with_distance(now)),
        ("SHA-256", view.sha256.to_string()),
        ("subject key", view.subject_key.clone().unwrap_or_default()),
        ("issuer's key", view.authority_key.clone().unwrap_or_default()),
    ]
}

fn key_rows(view: &KeyView) -> Vec<(&'static str, String)> {
    let belongs = match view.matches {
        Some(true) => "to the first certificate or request in the file",
        Some(false) => "to none of the first certificate or request",
        None => "",
    };
    vec![
        ("kind", view.key.clone().unwrap_or_else(|| "encrypted, so it cannot be looked into".to_owned())),
        ("public half", view.public_sha256.map(|digest| format!("SHA-256 {digest}")).unwrap_or_default()),
        ("belongs", belongs.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_cannot_drive_the_terminal() {
        let seen = Inspection { problems: vec!["\u{7}bell".to_owned()], ..Inspection::default() };
        let text = render("\u{9b}31m", &seen, Timestamp::from_unix(0));
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }
}
