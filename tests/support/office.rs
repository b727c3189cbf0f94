//! The way from a request to a certificate by the functions that `CertificateAuthority::certify` calls, one
//! by one or all together, for whoever counts what they take. Only the store is left out: what is signed was
//! recorded once, at the beginning, and is signed again and again. All that is signed is of the same form and
//! nearly the same length.

use std::sync::Arc;

use psfca::ca::certificate::certificate_pem;
use psfca::ca::csr::{MadeKey, SubjectKey};
use psfca::ca::lint::{self, Linted};
use psfca::ca::signer::{Authority, Signed};
use psfca::ca::tbs::Tbs;
use psfca::clock::{Clock as _, Timestamp};
use psfca::grant::{CertificateKind, Grant};
use psfca::ledger::CertificateRecord;
use psfca::name::{DnsName, HostName};
use psfca::policy::{Verdict, judge};
use psfca::random::SystemRandom;
use psfca::serial::Serial;
use psfca::store::{Condition, Draft, Recorded};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, Signature, UnparsedPublicKey,
};

use super::stored_ledger::Books;

/// A CA, and a certificate that it has recorded.
pub struct Office {
    books: Books,
    host: HostName,
    /// A name for which hosts make the key.
    pub name: DnsName,
    /// A name for which the CA makes the key.
    pub made_name: DnsName,
    request: String,
    recorded: Option<(Recorded, Linted)>,
}

impl Office {
    /// A new CA with its ledger, in which a certificate is recorded.
    pub fn open() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let key = rcgen::KeyPair::generate().unwrap();
            let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
            let host = HostName::parse("pg0.iad1.psf.io").unwrap();
            let [name, made_name] = ["postgresql.psf.io", "made.psf.io"].map(|name| DnsName::parse(name).unwrap());
            let mut office = Self { books: Books::open().await, host, name, made_name, request, recorded: None };

            let grant = office.judge(&office.name);
            let key = office.key(&grant);
            let linted = office.lint(office.build(&grant, &key), &grant, &key);
            let draft = office.draft(&grant, &key, &linted, false);
            office.recorded = Some((office.books.ca.store.record(draft).await.unwrap(), linted));
            office
        })
    }

    /// Step 2, which allows it.
    pub fn judge(&self, name: &DnsName) -> Grant {
        match judge(&self.books.ca.declaration.current().declaration, &self.host, name) {
            Verdict::Granted(grant) => grant,
            Verdict::Denied(denial) => panic!("{denial}"),
        }
    }

    /// Step 3, from the host's request in PEM.
    pub fn key(&self, grant: &Grant) -> SubjectKey {
        SubjectKey::from_request(self.request.as_bytes(), grant.key()).unwrap()
    }

    /// Step 4.
    pub fn build(&self, grant: &Grant, key: &SubjectKey) -> Tbs {
        let serial = Serial::generate(self.now(), &SystemRandom).unwrap();
        self.books
            .ca
            .templates
            .leaf(grant, &self.books.ca.subject, key, self.issuer().certificate(), serial, self.now())
            .unwrap()
    }

    /// Step 5.
    pub fn lint(&self, tbs: Tbs, grant: &Grant, key: &SubjectKey) -> Linted {
        lint::leaf(tbs, grant, &self.books.ca.subject, key, self.issuer().certificate()).unwrap()
    }

    /// The beginning of step 6: the ledger's entry.
    pub fn draft(&self, grant: &Grant, key: &SubjectKey, linted: &Linted, ca_made_key: bool) -> Draft {
        let record = CertificateRecord {
            kind: grant.kind(),
            serial: linted.serial().clone(),
            name: grant.name().to_owned(),
            host: grant.host().cloned(),
            not_before: linted.not_before(),
            not_after: linted.not_after(),
            key_sha256: key.sha256(),
            ca_made_key,
            tbs_sha256: linted.sha256(),
            rule: grant.rule().clone(),
        };
        Draft::new(self.now(), record, Arc::clone(linted.bytes()), Condition::Always).unwrap()
    }

    /// Step 7, of what was recorded at the beginning.
    pub fn sign(&self) -> Signed {
        let (recorded, linted) = self.recorded.as_ref().unwrap();
        self.issuer().sign(recorded, linted).unwrap()
    }

    /// Of step 8, the chain.
    pub fn chain(&self, signed: &Signed) -> String {
        certificate_pem(&signed.der) + self.issuer().certificate().pem()
    }

    /// All of it for a host's request.
    pub fn certify(&self, linted: bool) -> (Draft, String) {
        let grant = self.judge(&self.name);
        let key = self.key(&grant);
        self.finish(&grant, &key, linted, false)
    }

    /// All of it with a key that is made here.
    pub fn bundle(&self, linted: bool) -> (Draft, String, MadeKey) {
        let grant = self.judge(&self.made_name);
        let (key, made) = SubjectKey::generate(grant.key()).unwrap();
        let (draft, mut bundle) = self.finish(&grant, &key, linted, true);
        bundle.push_str(&made.expose_pem());
        (draft, bundle, made)
    }

    /// Steps 4 to 8. Without the lint the entry is of what was linted at the beginning.
    fn finish(&self, grant: &Grant, key: &SubjectKey, linted: bool, ca_made_key: bool) -> (Draft, String) {
        let tbs = self.build(grant, key);
        let draft = match linted {
            true => self.draft(grant, key, &self.lint(tbs, grant, key), ca_made_key),
            false => {
                std::hint::black_box(tbs);
                self.draft(grant, key, &self.recorded.as_ref().unwrap().1, ca_made_key)
            }
        };
        (draft, self.chain(&self.sign()))
    }

    fn now(&self) -> Timestamp {
        self.books.clock.now()
    }

    fn issuer(&self) -> &Authority {
        self.books.ca.authorities.issuer(CertificateKind::Service)
    }
}

/// The cryptography of it alone, by ring, on a text of a certificate's length.
pub struct Bare {
    random: ring::rand::SystemRandom,
    key: EcdsaKeyPair,
    message: [u8; 600],
    signature: Signature,
}

impl Bare {
    /// With a key of its own.
    pub fn new() -> Self {
        let (random, algorithm, message) =
            (ring::rand::SystemRandom::new(), &ECDSA_P256_SHA256_ASN1_SIGNING, [0x30; 600]);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        let signature = key.sign(&random, &message).unwrap();
        Self { random, key, message, signature }
    }

    /// One P-256 signature.
    pub fn sign(&self) -> Signature {
        self.key.sign(&self.random, &self.message).unwrap()
    }

    /// One P-256 verification.
    pub fn verify(&self) {
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.key.public_key());
        public.verify(&self.message, self.signature.as_ref()).unwrap();
    }

    /// One P-256 key.
    pub fn make_key(&self) -> ring::pkcs8::Document {
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.random).unwrap()
    }

    /// What [`Office::certify`] has in it: possession is verified, and so is what was signed.
    pub fn certify(&self) -> Signature {
        self.verify();
        let signature = self.sign();
        self.verify();
        signature
    }

    /// What [`Office::bundle`] has in it.
    pub fn bundle(&self) -> (ring::pkcs8::Document, Signature) {
        let made = (self.make_key(), self.sign());
        self.verify();
        made
    }
}
