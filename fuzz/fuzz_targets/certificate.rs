//! A certificate in DER: a client's identity, a CA's, the leaf of a chain.
#![cfg_attr(fuzzing, no_main)]

use psfca::ca::bundle::Chain;
use psfca::ca::certificate::CaCertificate;
use psfca::ca::identity::HostIdentity;
use psfca::name::DnsName;

pub(crate) fn run(data: &[u8]) {
    let Ok(trust_domain) = DnsName::parse("psf.io") else { return };
    let _ = HostIdentity::from_certificate(data, &trust_domain);
    let _ = Chain::new(vec![data.to_vec().into()]);
    if let Ok(certificate) = CaCertificate::from_der(data) {
        assert_eq!(certificate.der(), data);
        let _ = certificate.has_signed(data, data);
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));
