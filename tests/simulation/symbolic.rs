//! A CA that judges by the product's `judge` and signs nothing: a certificate is its serial number and its dates.

use psfca::clock::Timestamp;
use psfca::declaration::{Declaration, Rules};
use psfca::diagnostic::SourceFile;
use psfca::name::{DnsName, HostName};
use psfca::policy::{Verdict, judge};
use psfca::profile::BACKDATE;
use psfca::renewal::Validity;
use psfca::serial::Serial;

use super::dice::Dice;
use super::fleet::{Authority, Certificate, Fleet, Without};

/// Service names; a quarter of them lives one day.
const NAMES: usize = 40;

pub(crate) struct Symbolic {
    declaration: Declaration,
    without: Without,
}

fn days(number: usize) -> u32 {
    [1, 30, 90, 90][number % 4]
}

impl Symbolic {
    pub(crate) fn new(without: Without) -> Self {
        let names =
            |number: usize| format!("    name{number}.psf.io: {{days: {}, roles: [role{number}]}}\n", days(number));
        let roles = |number: usize| format!("  role{number}: \"host*.name{number}.psf.io\"\n");
        let text = format!(
            "tls:\n  gen_certs:\n{}roles:\n{}",
            (0..NAMES).map(names).collect::<String>(),
            (0..NAMES).map(roles).collect::<String>()
        );
        let file = SourceFile::new("tls.yaml", text);
        let max_lifetime = psfca::profile::Lifetime::days(std::num::NonZero::new(90).unwrap());
        let rules = Rules { max_lifetime, ..Rules::default() };
        let declaration = Declaration::parse(&[file], &rules).unwrap_or_else(|mistakes| panic!("{mistakes}")).0;
        Self { declaration, without }
    }

    pub(crate) fn populate(fleet: &mut Fleet<Self>, hosts: usize) {
        for number in 0..hosts {
            let name = format!("name{}.psf.io", number % NAMES);
            let host = HostName::parse(&format!("host{number}.{name}")).unwrap();
            fleet.add(host, DnsName::parse(&name).unwrap(), days(number % NAMES) > 1);
        }
    }
}

impl Authority for Symbolic {
    fn issue(&mut self, host: &HostName, name: &DnsName, now: Timestamp, dice: &Dice) -> Option<Certificate> {
        let Verdict::Granted(grant) = judge(&self.declaration, host, name) else { return None };
        let serial = match self.without {
            // The draw is made from the number.
            Without::Jitter => Serial::parse("01").unwrap(),
            _ => Serial::generate(now, dice).unwrap(),
        };
        let validity = Validity::new(now.minus(BACKDATE), now.plus(grant.lifetime().as_duration()), &serial);
        Some(Certificate { serial, validity })
    }
}
