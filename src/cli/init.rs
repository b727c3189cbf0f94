//! What `psfca init` says.

use std::io::{self, Write as _};
use std::path::Path;

use crate::ca::certificate::CaCertificate;
use crate::config::CaConfig;

/// Says what was made, and what to do next.
///
/// # Errors
/// When standard output is closed.
pub fn print(config: &CaConfig, root: &CaCertificate, root_key: Option<&Path>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{} was made in {}", root.common_name(), config.state_dir.display())?;
    writeln!(out, "  trust bundle  {}", config.trust_bundle.display())?;
    writeln!(out, "  root          SHA-256 {}, until {}", root.fingerprint(), root.not_after())?;
    match root_key {
        Some(path) => writeln!(
            out,
            "  root key      {}, encrypted; carry it away with its passphrase: the daemon does not need it",
            path.display()
        )?,
        None => writeln!(
            out,
            "  root key      {}/ca/root.key, not encrypted; psfca init --root-key FILE keeps it elsewhere",
            config.state_dir.display()
        )?,
    }
    writeln!(out, "Next: systemctl enable --now psfca, or without systemd: psfca serve")
}
