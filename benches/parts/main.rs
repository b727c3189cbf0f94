//! What each pure part of the CA takes, and the whole way from a request to a certificate without the
//! store's disk: `cargo bench --bench parts`.
//!
//! One row for each part: the median over batches, the least batch, and the median as a multiple of *ref*,
//! which is one P-256 verification and one signature, measured between those batches. Figures, not
//! promises: nothing here fails for being slow.
//!
//! `--once N PART` runs one part N times and measures nothing, so that callgrind can count instructions:
//! those of a run with 2N less those of a run with N are those of N. `--list` names the parts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark that cannot go on panics")]
#![allow(clippy::print_stdout, reason = "its table")]

mod certificate;
mod declared;
mod installed;
#[path = "../../tests/support/mod.rs"]
mod support;
mod table;
mod tree;

use support::office::Bare;
use table::{Table, Wanted};

fn wanted() -> Wanted {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench"); // said by cargo
    match words.next().as_deref() {
        None => Wanted::Measured,
        Some("--list") => Wanted::Listed,
        Some("--once") => {
            let times = words.next().and_then(|n| n.parse().ok()).expect("--once NUMBER PART");
            Wanted::Once { times, part: words.next().expect("--once NUMBER PART") }
        }
        Some(other) => panic!("unknown word {other}; there are --once NUMBER PART and --list"),
    }
}

fn main() {
    let bare = Bare::new();
    let mut table = Table::begin(wanted(), move || {
        bare.verify();
        bare.sign();
    });
    certificate::measure(&mut table);
    declared::measure(&mut table);
    tree::measure(&mut table);
    installed::measure(&mut table);
    table.end();
}
