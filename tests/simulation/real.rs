//! The same fleet, small, with real keys and certificates: the library's own issue path and ledger, and what a host
//! checks of an answer.

use std::collections::BTreeMap;

use psfca::agent::{key, obtain};
use psfca::ca::bundle::{Bundle, Chain};
use psfca::ca::identity::HostIdentity;
use psfca::clock::Timestamp;
use psfca::issue::{IssueError, KeySource};
use psfca::name::{DnsName, HostName};
use psfca::profile::KeyKind;
use psfca::renewal::Validity;
use rustls::pki_types::CertificateDer;

use super::dice::Dice;
use super::fleet::{Authority, Certificate, Fleet, Without};
use super::support::stored_ledger::{BEGIN, Books};
use super::weather::{DAY, Weather, longest_outage};

const NAMES: [&str; 2] = ["postgresql.psf.io", "app.psf.io"];

struct Real {
    runtime: tokio::runtime::Runtime,
    books: std::rc::Rc<Books>,
    identities: BTreeMap<HostName, HostIdentity>,
}

impl Authority for Real {
    fn issue(&mut self, host: &HostName, name: &DnsName, now: Timestamp, _: &Dice) -> Option<Certificate> {
        self.books.clock.set(now.unix() - BEGIN);
        let ca = &self.books.ca;
        let key = key::generate(KeyKind::EcdsaP256, name.as_str()).unwrap();
        let request = key::request(&key).unwrap();
        let issuing = ca.issue(&self.identities[host], name, KeySource::Request(request.as_bytes()));
        let issued = match self.runtime.block_on(issuing) {
            Ok(issued) => issued,
            Err(IssueError::Denied(_)) => return None,
            Err(error) => panic!("{error}"),
        };
        issued.proof.verify(ca.checkpoints.verifier()).unwrap();
        let bundle = Bundle::new(Chain::parse(issued.chain_pem.as_bytes()).unwrap(), key).unwrap();
        let anchors = [CertificateDer::from(ca.authorities.root().der().to_vec())];
        obtain::check(bundle.chain(), &anchors, name, None, now).unwrap();
        let leaf = bundle.leaf();
        let validity = Validity::new(leaf.not_before, leaf.not_after, &leaf.serial);
        assert_eq!(issued.renew_after, validity.due(), "the CA and the host come to the same moment");
        Some(Certificate { serial: leaf.serial.clone(), validity })
    }
}

#[test]
fn the_same_fleet_with_real_certificates_serves_none_after_its_end() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let books = std::rc::Rc::new(runtime.block_on(Books::open()));
    let hosts: Vec<_> = (0..6).map(|number| HostName::parse(&format!("pg{number}.iad1.psf.io")).unwrap()).collect();
    let identities = hosts.iter().map(|host| (host.clone(), runtime.block_on(books.enroll(host.as_str())))).collect();
    let before = books.ca.store.head().size;
    let weather = Weather::one(2 * DAY, 2 * DAY + longest_outage());
    let real = Real { runtime, books: std::rc::Rc::clone(&books), identities };
    let mut fleet = Fleet::new(Timestamp::from_unix(BEGIN), 1, real, weather, Without::Nothing);
    for host in &hosts {
        for name in NAMES {
            fleet.add(host.clone(), DnsName::parse(name).unwrap(), false);
        }
    }
    let (outcome, _) = fleet.run(6 * DAY);
    assert_eq!(outcome.expired, []);
    assert!(outcome.issued >= 10 * hosts.len() as u64 && outcome.in_vain > 0, "{outcome:?}");
    assert_eq!(books.ca.store.head().size - before, outcome.issued, "each one stands in the ledger, and nothing else");
}
