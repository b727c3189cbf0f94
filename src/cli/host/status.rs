//! What `psfca status` says to people.

use std::io::{self, Write as _};

use super::{MAX_REMARK, loaded, say};
use crate::clock::Timestamp;
use crate::report::{Asked, BundleStatus, LedgerRecovery, Status, Unasked};
use crate::terminal::cut;

/// Says how things stand.
///
/// # Errors
/// When standard output is closed.
pub fn status(status: &Status, now: Timestamp) -> io::Result<()> {
    let mut out = Vec::new();
    let servers: Vec<_> = status.server.iter().map(ToString::to_string).collect();
    let identity = &status.identity;
    writeln!(out, "host      {}", status.host)?;
    writeln!(out, "server    {}", servers.join(", "))?;
    if let Some(unasked) = &status.unasked {
        let error = cut(&unasked.error, MAX_REMARK);
        let unasked = Unasked { error: error.into_owned(), ..unasked.clone() };
        writeln!(out, "          NOTE on {}: {unasked}", unasked.at.with_distance(now))?;
    }
    writeln!(out, "identity  until {}", identity.validity.not_after.with_distance(now))?;
    writeln!(out, "          renewed from {}, serial {}", identity.due.with_distance(now), identity.serial)?;
    if let Some(asked) = &status.identity_asked {
        writeln!(out, "          {}", in_vain(asked, now))?;
    }
    if identity.validity.is_critical(now) {
        let verb = if identity.validity.not_after < now { "expired" } else { "expires" };
        let distance = identity.validity.not_after.distance(now);
        writeln!(out, "          PROBLEM it {verb} {distance} and was not renewed: psfca renew says why")?;
    }
    match &status.trust_problem {
        None => writeln!(out, "trust     as enrolled")?,
        Some(problem) => writeln!(out, "trust     PROBLEM: {problem}")?,
    }
    let ledger = &status.ledger;
    writeln!(out, "ledger    {} entries of {}, seen {}", ledger.size, ledger.origin, ledger.seen.with_distance(now))?;
    if let Some(LedgerRecovery { statement, obeyed, seen, size, .. }) = &ledger.recovered {
        let (statement, obeyed) = (statement.with_distance(now), obeyed.with_distance(now));
        writeln!(out, "          recovered by the root's word of {statement}, obeyed {obeyed}:")?;
        writeln!(out, "          {seen} entries had been seen, and {size} took their place")?;
    }
    if let Some(problem) = &ledger.problem {
        writeln!(out, "          PROBLEM: {problem}")?;
    }
    for problem in &status.settings_problems {
        writeln!(out, "settings  PROBLEM: {problem}")?;
    }
    for stray in &status.strays {
        writeln!(out, "note      {stray}")?;
    }
    for bundle in &status.bundles {
        writeln!(out)?;
        bundle_status(&mut out, bundle, now)?;
    }
    if status.bundles.is_empty() {
        writeln!(out, "\nno bundles; psfca renew asks the CA what this host may have")?;
    }
    say(&out)
}

fn bundle_status(out: &mut impl io::Write, bundle: &BundleStatus, now: Timestamp) -> io::Result<()> {
    writeln!(out, "{}", bundle.name)?;
    writeln!(out, "  file    {}", bundle.path.display())?;
    if let Some(certificate) = &bundle.certificate {
        writeln!(out, "  serial  {}", certificate.serial)?;
        writeln!(out, "  until   {}", certificate.validity.not_after.with_distance(now))?;
        if bundle.entitled {
            writeln!(out, "  due     {}", certificate.due.with_distance(now))?;
        }
    }
    if !bundle.entitled {
        writeln!(out, "  note    this host may no longer have it, as far as the CA last said")?;
    }
    if bundle.by_hand {
        writeln!(out, "  note    its key is RSA, which psfca does not make: psfca issue {} --csr FILE", bundle.name)?;
    }
    if let Some(asked) = &bundle.asked {
        writeln!(out, "  note    {}", in_vain(asked, now))?;
    }
    loaded(out, &bundle.loaded, now)?;
    match &bundle.problem {
        Some(problem) => writeln!(out, "  PROBLEM {problem}"),
        None => Ok(()),
    }
}

fn in_vain(asked: &Asked, now: Timestamp) -> String {
    let Asked { times, last, until: _, error } = asked;
    let times = if *times == 1 { "once".to_owned() } else { format!("{times} times") };
    format!("asked in vain {times}, last {}: {}", last.distance(now), cut(error, MAX_REMARK))
}
