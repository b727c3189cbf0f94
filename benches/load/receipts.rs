//! What the daemon answered, checked.

use std::collections::HashSet;

use psfca::serial::Serial;
use psfca::wire::SERIAL_HEADER;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::exchange::Answer;
use crate::fleet::Csr;

/// One in so many certificates is read whole.
const EACH: usize = 256;

/// Serial numbers of all certificates that came.
#[derive(Default)]
pub(crate) struct Receipts {
    serials: HashSet<String>,
}

impl Receipts {
    /// Takes an answer, which must be a certificate for `name` that never came before, for the key of `csr` or with the
    /// key that the CA made. Returns its serial number.
    pub(crate) fn take(&mut self, answer: &Answer, name: &str, csr: Option<&Csr>) -> String {
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        assert!(answer.body.starts_with(b"-----BEGIN CERTIFICATE-----\n"), "no certificate");
        let serial = answer.header(SERIAL_HEADER).expect("a serial number").to_owned();
        assert!(self.serials.insert(serial.clone()), "{serial} came twice");
        if self.serials.len() % EACH == 1 {
            read(&answer.body, name, csr, &serial);
        }
        serial
    }

    pub(crate) fn serials(&self) -> &HashSet<String> {
        &self.serials
    }
}

fn read(body: &[u8], name: &str, csr: Option<&Csr>, serial: &str) {
    let leaf = CertificateDer::pem_slice_iter(body).next().unwrap().unwrap();
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    assert_eq!(Serial::from_octets(leaf.tbs_certificate.raw_serial()).unwrap().to_string(), serial);
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names, [GeneralName::DNSName(name)]);
    let spki = match csr {
        Some(csr) => csr.spki.clone(),
        None => {
            let text = std::str::from_utf8(body).unwrap();
            let key = rcgen::KeyPair::from_pem(&text[text.find("-----BEGIN PRIVATE KEY-----").unwrap()..]).unwrap();
            rcgen::PublicKeyData::subject_public_key_info(&key)
        }
    };
    assert_eq!(leaf.public_key().raw, spki, "for another key");
}
