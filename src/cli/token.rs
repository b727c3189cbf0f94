//! What `psfca token` says: the token alone on standard output, so that it can be piped; the rest
//! on standard error.

use std::io::{self, Write as _};

use crate::clock::Timestamp;
use crate::name::HostName;
use crate::wire::TokenAnswer;

/// Prints the token, and how long it works.
///
/// # Errors
/// When an output is closed.
pub fn print(host: &HostName, answer: &TokenAnswer, now: Timestamp) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{}", answer.token)?;
    let until = answer.expires.with_distance(now);
    let mut err = io::stderr().lock();
    writeln!(err, "For {host} alone, once, until {until}: psfca enroll reads it from standard input.")?;
    if answer.names == 0 {
        writeln!(err, "The declaration gives {host} no name yet; is it spelled right?")?;
    }
    Ok(())
}
