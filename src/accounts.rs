//! Users and groups of this machine by name, from `/etc/passwd` and `/etc/group`.

use std::path::Path;

/// Why a user or group is not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// The file cannot be read.
    #[error("{file}: {source}")]
    File {
        /// Which file.
        file: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// There is no such line.
    #[error("there is no {kind} {name:?} on this machine ({file})")]
    Unknown {
        /// `user` or `group`.
        kind: &'static str,
        /// What was looked for.
        name: String,
        /// Where.
        file: &'static str,
    },
}

/// The id of a group, by name or as a number.
///
/// # Errors
/// [`AccountError`].
pub fn group_id(name: &str) -> Result<u32, AccountError> {
    look_up("group", "/etc/group", name)
}

/// The id of a user, by name or as a number.
///
/// # Errors
/// [`AccountError`].
pub fn user_id(name: &str) -> Result<u32, AccountError> {
    look_up("user", "/etc/passwd", name)
}

/// The name of a user, or `'#1000'` (for a shell's `sudo -u`) when there is none.
#[must_use]
pub fn user_name(id: u32) -> String {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_in(&text, id).map_or_else(|| format!("'#{id}'"), str::to_owned)
}

fn look_up(kind: &'static str, file: &'static str, name: &str) -> Result<u32, AccountError> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let text = std::fs::read_to_string(Path::new(file)).map_err(|source| AccountError::File { file, source })?;
    id_in(&text, name).ok_or_else(|| AccountError::Unknown { kind, name: name.to_owned(), file })
}

/// Both files have `name:password:id:…` in each line.
fn id_in(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

fn name_in(text: &str, id: u32) -> Option<&str> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_by_the_whole_name_or_given_as_numbers() {
        let text = "root:x:0:\nssl-certs:x:7:\nssl-cert:x:117:postgres\nbroken\n";
        assert_eq!(id_in(text, "ssl-cert"), Some(117));
        assert_eq!(id_in(text, "ssl"), None);
        assert_eq!(name_in(text, 117), Some("ssl-cert"));
        assert_eq!(name_in(text, 118), None);
        assert_eq!(id_in(text, "broken"), None);
        assert_eq!(group_id("1234").unwrap(), 1234);
        assert_eq!(user_id("root").unwrap(), 0);
        let error = group_id("no-such-group").unwrap_err();
        assert_eq!(error.to_string(), "there is no group \"no-such-group\" on this machine (/etc/group)");
    }
}
