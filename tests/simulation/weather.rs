//! When the CA is away, and what happens to hosts.

use std::time::Duration;

use psfca::outage::{self, TIMER};

use super::dice::Dice;

pub(crate) const HOUR: i64 = 3_600;
pub(crate) const DAY: i64 = 24 * HOUR;
/// How far a host's clock is off at most.
pub(crate) const MOST_SKEW: i64 = 300;
/// How often in a row something goes wrong on a host: a reply lost, a hook that fails, a kill. Each costs two runs of the
/// timer at most.
pub(crate) const MISFORTUNES: u8 = 4;
/// For so long after an outage its end shows in the load.
pub(crate) const RECOVERY: i64 = 2 * HOUR;

/// Why nobody gets a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing answers.
    Away,
    /// The CA answers 503 with Retry-After.
    Overloaded,
    /// The CA answers 500 to whoever wants a certificate of many days; all others are served.
    PartlySick,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Spell {
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) trouble: Trouble,
}

/// Seconds since the beginning, each list in order and without overlap.
#[derive(Debug)]
pub(crate) struct Weather {
    outages: Vec<Spell>,
    sick: Vec<Spell>,
}

/// The longest outage that certificates of one day must survive: the budget, less what a host's own misfortunes cost.
pub(crate) fn longest_outage() -> i64 {
    let misfortunes = TIMER * 2 * u32::from(MISFORTUNES) + Duration::from_secs(MOST_SKEW.unsigned_abs());
    let longest = outage::of_life(Duration::from_secs(DAY.unsigned_abs())) - misfortunes;
    i64::try_from(longest.as_secs()).unwrap()
}

impl Weather {
    /// About three outages in a month, of any length up to the longest; and now and then some days during which
    /// certificates of many days cannot be had.
    pub(crate) fn draw(dice: &Dice, end: i64) -> Self {
        let (mut outages, mut sick) = (Vec::new(), Vec::new());
        let mut at = DAY;
        while at < end {
            at += dice.between(8 * HOUR, 20 * DAY);
            let trouble = if dice.happens(400_000) { Trouble::Overloaded } else { Trouble::Away };
            let longest = longest_outage();
            let to = at + if dice.happens(300_000) { longest } else { dice.between(60, longest) };
            outages.push(Spell { from: at, to, trouble });
            // Without room between them two outages are one.
            at = to + 8 * HOUR;
        }
        let mut at = dice.between(15 * DAY, 18 * DAY);
        while at < end {
            let to = at + dice.between(3 * DAY / 2, 3 * DAY);
            sick.push(Spell { from: at, to, trouble: Trouble::PartlySick });
            at = to + dice.between(30 * DAY, 60 * DAY);
        }
        for spells in [&mut outages, &mut sick] {
            spells.retain(|spell| spell.to < end);
        }
        Self { outages, sick }
    }

    /// Nothing ever happens.
    pub(crate) const fn none() -> Self {
        Self { outages: Vec::new(), sick: Vec::new() }
    }

    /// One outage.
    pub(crate) fn one(from: i64, to: i64) -> Self {
        Self { outages: vec![Spell { from, to, trouble: Trouble::Away }], sick: Vec::new() }
    }

    pub(crate) fn at(&self, time: i64) -> Option<Trouble> {
        let at = |spells: &[Spell]| {
            let next = spells.partition_point(|spell| spell.from <= time);
            spells[..next].last().filter(|spell| time < spell.to).map(|spell| spell.trouble)
        };
        at(&self.outages).or_else(|| at(&self.sick))
    }

    /// The times in which nobody is served.
    pub(crate) fn outages(&self) -> &[Spell] {
        &self.outages
    }

    /// Whether an outage, or its end, shows in the load of the hour that begins then.
    pub(crate) fn shows_at(&self, time: i64) -> bool {
        self.outages.iter().any(|spell| time + HOUR > spell.from && time < spell.to + RECOVERY)
    }
}
