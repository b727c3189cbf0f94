//! Leaves of the same name differ in serial number, dates and key alone, so each name is encoded once, and after
//! that only these are put in their places. `lint` reads every result back whole, like any other.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::certificate::CaCertificate;
use super::csr::SubjectKey;
use super::tbs::{self, Tbs, TbsError, Validity};
use crate::clock::Timestamp;
use crate::grant::Grant;
use crate::profile::{KeyKind, SubjectAltNames, SubjectFields, Usages};
use crate::serial::Serial;

/// Names whose encoding is kept, at about a kilobyte each; when there are more, all are encoded anew.
const REMEMBERED: usize = 16_384;

/// The last encoding of each name.
#[derive(Debug, Default)]
pub struct LeafTemplates(Mutex<HashMap<String, Arc<Template>>>);

impl LeafTemplates {
    /// As [`tbs::leaf`], to the octet.
    ///
    /// # Errors
    /// As [`tbs::leaf`].
    pub fn leaf(
        &self,
        grant: &Grant,
        subject: &SubjectFields,
        key: &SubjectKey,
        issuer: &CaCertificate,
        serial: Serial,
        now: Timestamp,
    ) -> Result<Tbs, TbsError> {
        let kept = self.templates().get(grant.name()).map(Arc::clone);
        if let Some(template) = kept.filter(|template| template.is_for(grant, subject, key, issuer)) {
            let validity = Validity::within(issuer, now, grant.lifetime().as_duration())?;
            if let Some(bytes) = template.filled(&serial, validity, key) {
                let Validity { not_before, not_after } = validity;
                return Ok(Tbs { bytes, serial, not_before, not_after });
            }
        }
        let tbs = tbs::leaf(grant, subject, key, issuer, serial, now)?;
        if let Some(template) = Template::of(&tbs, grant, subject, key, issuer) {
            let mut templates = self.templates();
            if templates.len() >= REMEMBERED {
                templates.clear();
            }
            templates.insert(grant.name().to_owned(), Arc::new(template));
        }
        Ok(tbs)
    }

    fn templates(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Template>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One leaf, what it was made from, and where in it lies what the next one has otherwise.
#[derive(Debug)]
struct Template {
    bytes: Vec<u8>,
    alt_names: SubjectAltNames,
    usages: Usages,
    key: KeyKind,
    subject: SubjectFields,
    issuer: Vec<u8>,
    serial: Range<usize>,
    validity: Range<usize>,
    spki: Range<usize>,
    key_id: Range<usize>,
}

impl Template {
    /// None where a part is not found, or not once alone.
    fn of(tbs: &Tbs, grant: &Grant, subject: &SubjectFields, key: &SubjectKey, issuer: &CaCertificate) -> Option<Self> {
        let bytes = tbs.bytes.to_vec();
        let validity = Validity { not_before: tbs.not_before, not_after: tbs.not_after };
        Some(Self {
            serial: place(&bytes, &integer(&tbs.serial))?,
            validity: place(&bytes, &utc_times(validity)?)?,
            spki: place(&bytes, key.spki())?,
            key_id: place(&bytes, key.identifier())?,
            alt_names: grant.alt_names().clone(),
            usages: grant.usages(),
            key: key.kind(),
            subject: subject.clone(),
            issuer: issuer.der().to_vec(),
            bytes,
        })
    }

    fn is_for(&self, grant: &Grant, subject: &SubjectFields, key: &SubjectKey, issuer: &CaCertificate) -> bool {
        (self.key, self.usages) == (key.kind(), grant.usages())
            && self.alt_names == *grant.alt_names()
            && self.subject == *subject
            && self.issuer == issuer.der()
    }

    /// None where something has not the length that it had.
    fn filled(&self, serial: &Serial, validity: Validity, key: &SubjectKey) -> Option<Arc<[u8]>> {
        let mut bytes: Arc<[u8]> = self.bytes.as_slice().into();
        let all = Arc::get_mut(&mut bytes)?;
        let mut put = |place: &Range<usize>, value: &[u8]| {
            let room = all.get_mut(place.clone()).filter(|room| room.len() == value.len())?;
            room.copy_from_slice(value);
            Some(())
        };
        put(&self.serial, &integer(serial))?;
        put(&self.validity, &utc_times(validity)?)?;
        put(&self.spki, key.spki())?;
        put(&self.key_id, key.identifier())?;
        Some(bytes)
    }
}

/// Where `part` lies, if it lies there once.
fn place(bytes: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let mut places = bytes.windows(part.len()).enumerate().filter(|(_, window)| *window == part);
    let (start, _) = places.next()?;
    places.next().is_none().then_some(start..start + part.len())
}

/// The DER INTEGER of a serial number (X.690, section 8.3): a zero goes before a set top bit.
fn integer(serial: &Serial) -> Vec<u8> {
    let octets = serial.octets();
    let zero = usize::from(octets.first().is_some_and(|top| top & 0x80 != 0));
    // A serial number has 20 octets at most.
    let mut der = vec![0x02, (octets.len() + zero) as u8];
    der.resize(2 + zero, 0);
    der.extend_from_slice(octets);
    der
}

/// Both dates as DER UTCTime; none outside of 1950 to 2049, which certificates write otherwise
/// (RFC 5280, section 4.1.2.5).
fn utc_times(validity: Validity) -> Option<[u8; 30]> {
    let mut der = [0; 30];
    for (room, moment) in der.chunks_exact_mut(15).zip([validity.not_before, validity.not_after]) {
        let moment = moment.to_offset();
        let year = u8::try_from(moment.year() - 1_950).ok().filter(|year| *year < 100)?;
        let numbers = [
            (year + 50) % 100,
            u8::from(moment.month()),
            moment.day(),
            moment.hour(),
            moment.minute(),
            moment.second(),
        ];
        room[..2].copy_from_slice(&[0x17, 13]);
        for (digits, number) in room[2..14].chunks_exact_mut(2).zip(numbers) {
            digits.copy_from_slice(&[b'0' + number / 10, b'0' + number % 10]);
        }
        room[14] = b'Z';
    }
    Some(der)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::ca::fixture::{self, YEAR, ca, fields, grant, terms};
    use crate::grant::ServiceTerms;

    /// Grants and keys of which some have the same name, and one has no place for its identifier alone.
    fn asked() -> Vec<(Grant, SubjectKey)> {
        let key = |kind| SubjectKey::generate(kind).unwrap().0;
        let fewer = ServiceTerms { aliases: Vec::new(), usages: Usages::Server, ..terms() };
        let other_key = ServiceTerms { key: KeyKind::Ed25519, ..terms() };
        let first = key(KeyKind::EcdsaP256);
        vec![
            (grant("postgresql.psf.io", &terms()), first.clone()),
            (grant("postgresql.psf.io", &terms()), key(KeyKind::EcdsaP256)),
            (grant("postgresql.psf.io", &fewer), key(KeyKind::EcdsaP256)),
            (grant("postgresql.psf.io", &other_key), key(KeyKind::Ed25519)),
            (grant("lb.psf.io", &terms()), first),
            (grant(&format!("{}.psf.io", "a".repeat(60)), &terms()), key(KeyKind::EcdsaP256)),
        ]
    }

    proptest! {
        #[test]
        fn what_a_template_gives_is_what_the_encoder_gives_whatever_came_before(
            steps in proptest::collection::vec((any::<prop::sample::Index>(), 0..50u32, any::<u32>(), any::<[u8; 18]>()), 1..20),
        ) {
            // Two issuers, beyond 2049, where dates have another form.
            let (templates, issuers, asked) =
                (LeafTemplates::default(), [(); 2].map(|()| ca(KeyKind::EcdsaP256, 50 * YEAR)), asked());
            for (which, years, seconds, octets) in steps {
                let (grant, key) = which.get(&asked);
                let issuer = &issuers[usize::from(seconds % 5 == 0)];
                let now = fixture::now().plus(years * YEAR + Duration::from_secs(u64::from(seconds % 31_536_000)));
                // Of any length, and with a set top bit.
                let Ok(serial) = Serial::from_octets(&octets[usize::from(octets[0] % 3)..]) else { continue };
                let plain = tbs::leaf(grant, &fields(), key, issuer, serial.clone(), now);
                let templated = templates.leaf(grant, &fields(), key, issuer, serial, now);
                prop_assert_eq!(plain, templated);
            }
        }
    }

    #[test]
    fn a_part_that_stands_there_twice_has_no_place() {
        assert_eq!(place(b"abcabd", b"abd"), Some(3..6));
        assert_eq!(place(b"abcabd", b"ab"), None);
        assert_eq!(place(b"abcabd", b"x"), None);
    }

    #[test]
    fn the_second_leaf_of_a_name_is_made_from_the_first() {
        let (templates, issuer, asked) = (LeafTemplates::default(), ca(KeyKind::EcdsaP256, YEAR), asked());
        let (grant, key) = &asked[0];
        let _ = templates.leaf(grant, &fields(), key, &issuer, fixture::serial(), fixture::now()).unwrap();
        let kept = Arc::clone(&templates.templates()[grant.name()]);
        let (grant, key) = &asked[1];
        assert!(kept.is_for(grant, &fields(), key, &issuer));
        let validity = Validity::within(&issuer, fixture::now(), grant.lifetime().as_duration()).unwrap();
        assert!(kept.filled(&fixture::serial(), validity, key).is_some());
    }
}
