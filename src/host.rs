//! The standing of a host with the CA, and how an operator changes it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::HostName;
use crate::text::serde_as_text;

/// Whether a host is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// Enrolled, and served.
    Enabled,
    /// Enrolled, and refused everything until an operator enables it.
    Disabled,
    /// Two keys asked to renew one identity of it; refused everything until an operator decides.
    Frozen,
    /// No longer enrolled; the name is remembered, so that only an operator can let it come back.
    Removed,
}

impl HostState {
    /// As it is written in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Frozen => "frozen",
            Self::Removed => "removed",
        }
    }

    /// Every state.
    pub const ALL: [Self; 4] = [Self::Enabled, Self::Disabled, Self::Frozen, Self::Removed];

    /// Reads what [`HostState::as_str`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// What `action` makes of a host in this state; none where that cannot be. A removed host has no
    /// identity that could be enabled or disabled.
    #[must_use]
    pub const fn after(self, action: HostAction) -> Option<Self> {
        match (self, action) {
            (_, HostAction::Remove) => Some(Self::Removed),
            (Self::Removed, HostAction::Disable | HostAction::Enable) => None,
            (_, HostAction::Disable) => Some(Self::Disabled),
            (_, HostAction::Enable) => Some(Self::Enabled),
        }
    }
}

impl fmt::Display for HostState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an operator does to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostAction {
    /// Refuse it everything.
    Disable,
    /// Serve it again.
    Enable,
    /// Forget its enrolment.
    Remove,
}

impl HostAction {
    /// As it is written on the command line and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::Remove => "remove",
        }
    }
}

/// Who did something as an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorName {
    /// The user at the other end of the admin socket, as the kernel says.
    OperatorUid(u32),
    /// A host that ca.yaml names under `operators`, by its identity.
    OperatorHost(HostName),
}

impl fmt::Display for OperatorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OperatorUid(uid) => write!(f, "uid {uid}"),
            Self::OperatorHost(host) => write!(f, "{host}"),
        }
    }
}

/// An operator's change of a host, as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostChange {
    /// The host.
    pub host: HostName,
    /// Who did it.
    #[serde(flatten)]
    pub operator: OperatorName,
    /// What the operator said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<Remark>,
}

/// Why an operator did something, in the operator's words (`--reason`): one line of 1 to 200 printable characters,
/// so that a listing can show it as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark(String);

/// Most characters of a [`Remark`].
const MAX_REMARK: usize = 200;

/// A text that is no [`Remark`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a reason is one line of 1 to {MAX_REMARK} printable characters")]
pub struct NotARemark;

impl Remark {
    /// Takes a text as it is.
    ///
    /// # Errors
    /// [`NotARemark`]: empty, too long, or with a character that does not print.
    pub fn parse(text: &str) -> Result<Self, NotARemark> {
        let fits = !text.trim().is_empty() && text.chars().count() <= MAX_REMARK && text.chars().all(Self::prints);
        if fits { Ok(Self(text.to_owned())) } else { Err(NotARemark) }
    }

    /// What `escape_debug` leaves alone prints: no controls, no marks that turn the direction of text.
    fn prints(c: char) -> bool {
        matches!(c, '"' | '\'' | '\\') || c.escape_debug().eq([c])
    }

    /// As much of a longer text, of any characters, as a remark has room for; none where nothing prints.
    #[must_use]
    pub fn abridged(text: &str) -> Option<Self> {
        let lines = text.split(char::is_control).map(str::trim).filter(|line| !line.is_empty());
        let line = lines.collect::<Vec<_>>().join(" ");
        Self::parse(line.chars().filter(|&c| Self::prints(c)).take(MAX_REMARK).collect::<String>().trim()).ok()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Remark {
    type Err = NotARemark;

    fn from_str(text: &str) -> Result<Self, NotARemark> {
        Self::parse(text)
    }
}

serde_as_text!(Remark);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_host_is_neither_enabled_nor_disabled() {
        for action in [HostAction::Disable, HostAction::Enable] {
            assert_eq!(HostState::Removed.after(action), None);
        }
        for state in [HostState::Enabled, HostState::Disabled, HostState::Removed] {
            assert_eq!(state.after(HostAction::Remove), Some(HostState::Removed));
            assert_eq!(HostState::parse(state.as_str()), Some(state));
        }
        assert_eq!(HostState::Enabled.after(HostAction::Disable), Some(HostState::Disabled));
        assert_eq!(HostState::Disabled.after(HostAction::Enable), Some(HostState::Enabled));
    }

    #[test]
    fn a_remark_prints_as_it_is() {
        for good in ["disk swapped", "Übergabe an \"ops\", it's gone \\o/", &"x".repeat(200)] {
            assert_eq!(Remark::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "  ", "two\nlines", "tab\t", "\u{1b}[31m", "\u{202e}txt", "\u{200b}", "a\0", &"x".repeat(201)] {
            assert_eq!(Remark::parse(bad), Err(NotARemark), "{bad:?}");
        }
    }

    #[test]
    fn of_any_text_as_much_is_a_remark_as_prints() {
        let long = format!("  one\r\n\ttwo \u{202e}{}", "x".repeat(300));
        let abridged = Remark::abridged(&long).unwrap();
        assert_eq!(abridged.as_str(), format!("one two {}", "x".repeat(192)));
        assert_eq!(Remark::abridged("\n\0 \u{200b}"), None);
    }
}
