//! What `psfca audit verify` prints.

use std::io::{self, IsTerminal as _, Write};

use crate::ledger::checkpoint::Checkpoint;
use crate::terminal::printable;
use crate::verification::{Finding, Summary};

/// Columns of the progress bar.
const BAR: u64 = 40;

/// Prints differences as they are found, and how far it is where somebody watches.
pub struct Printer {
    json: bool,
    /// Whether signatures are verified.
    signatures: bool,
    total: u64,
    watched: bool,
    /// How many columns of the bar are drawn.
    drawn: Option<u64>,
    error: Option<io::Error>,
}

impl Printer {
    /// For a ledger of about `total` entries; `signatures` says whether those of certificates are verified.
    #[must_use]
    pub fn new(json: bool, signatures: bool, total: u64) -> Self {
        Self { json, signatures, total: total.max(1), watched: io::stderr().is_terminal(), drawn: None, error: None }
    }

    /// One difference, on a line of its own.
    pub fn finding(&mut self, finding: &Finding) {
        self.clear();
        let line = match (self.json, finding.index) {
            (true, _) => serde_json::to_string(finding).unwrap_or_default(),
            (false, Some(index)) => format!("entry {index}: {}", printable(&finding.what)),
            (false, None) => printable(&finding.what).into_owned(),
        };
        if let Err(error) = writeln!(io::stdout(), "{line}") {
            self.error.get_or_insert(error);
        }
    }

    /// So many entries were read.
    pub fn progress(&mut self, entries: u64) {
        let columns = (entries.min(self.total) * BAR) / self.total;
        if self.watched && self.drawn != Some(columns) {
            self.drawn = Some(columns);
            let (done, left) = ("#".repeat(columns as usize), "-".repeat((BAR - columns) as usize));
            let _ = write!(io::stderr(), "\r[{done}{left}] {entries} of {} entries", self.total);
        }
    }

    fn clear(&mut self) {
        if self.drawn.take().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    /// The end: what was looked at, and the verdict.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn summary(mut self, summary: &Summary, against: Option<&Checkpoint>) -> io::Result<()> {
        self.clear();
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, summary)?;
            return writeln!(out);
        }
        let mut line = |name: &str, value: String| writeln!(out, "{name:<14}{value}");
        line("entries", summary.entries.to_string())?;
        line("root", summary.root.to_string())?;
        let unreleased = match summary.unreleased {
            0 if self.signatures => ", all with their signatures".to_owned(),
            0 => String::new(),
            some => format!(
                ", {some} of them without a signature: recorded, and perhaps never released, or being stored at this moment"
            ),
        };
        line("certificates", format!("{}{unreleased}", summary.certificates))?;
        if summary.dropped > 0 {
            line(
                "dropped",
                format!("{} bodies, after their retention; their hashes are in the entries", summary.dropped),
            )?;
        }
        let signatures = match self.signatures {
            true => format!("{} verified", summary.signatures),
            false => "left out".to_owned(),
        };
        line("signatures", signatures)?;
        let checkpoint = against.map_or_else(
            || "none was given, so that this ledger was not exchanged is not shown (--against)".to_owned(),
            |checkpoint| format!("that of {} with {} entries", checkpoint.origin, checkpoint.size),
        );
        line("checkpoint", checkpoint)?;
        match summary.differences {
            0 => writeln!(out, "Everything holds."),
            1 => writeln!(out, "1 difference."),
            many => writeln!(out, "{many} differences."),
        }
    }
}
