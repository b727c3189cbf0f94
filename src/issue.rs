//! The order of operations by which a certificate comes to be. `docs/architecture.md` has the
//! same numbers.

use std::sync::Arc;
use std::time::Duration;

use crate::ca::authorities::Authorities;
use crate::ca::certificate::certificate_pem;
use crate::ca::csr::{CsrError, MadeKey, SubjectKey};
use crate::ca::identity::HostIdentity;
use crate::ca::lint::{self, LintError, Linted};
use crate::ca::signer::{SignError, Signed};
use crate::ca::tbs::{Tbs, TbsError};
use crate::ca::template::LeafTemplates;
use crate::challenge::{ChallengeError, Challenges};
use crate::checkpoints::Checkpoints;
use crate::clock::{Clock, Timestamp};
use crate::grant::Grant;
use crate::host::HostState;
use crate::in_force::DeclarationSlot;
use crate::ledger::checkpoint::InclusionProof;
use crate::ledger::{CertificateRecord, EntryError};
use crate::name::{DnsName, HostName};
use crate::policy::{Denial, Verdict, judge};
use crate::profile::SubjectFields;
use crate::random::{NoRandomness, Random};
use crate::renewal::Validity;
use crate::serial::Serial;
use crate::store::{Condition, Draft, RecordError, Recorded, Store, StoreError};

/// How often a request is judged again because the declaration changed under it.
const JUDGEMENTS: u32 = 3;

/// The CA as the spine needs it.
pub struct CertificateAuthority {
    /// Certificates and keys.
    pub authorities: Authorities,
    /// The ledger.
    pub store: Arc<Store>,
    /// `cert_opts`, for the subjects of leaves.
    pub subject: SubjectFields,
    /// What leaves were built like before.
    pub templates: LeafTemplates,
    /// The trust domain of host identities.
    pub trust_domain: DnsName,
    /// The declaration in force.
    pub declaration: DeclarationSlot,
    /// What a signature in an enrolment has to contain.
    pub challenges: Challenges,
    /// For how long after its end an identity can still be renewed.
    pub identity_grace: Duration,
    /// What signs the ledger's heads.
    pub checkpoints: Checkpoints,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for serials and tokens.
    pub random: Arc<dyn Random>,
}

/// Where the subject's key comes from.
#[derive(Debug, Clone, Copy)]
pub enum KeySource<'a> {
    /// A PKCS#10 request, PEM or DER.
    Request(&'a [u8]),
    /// A key that was taken out of its request, and so verified, already.
    Verified(&'a SubjectKey),
    /// The CA makes the key, where the grant allows it.
    MadeHere,
}

/// Why a host that shows an identity is not served.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Past its end.
    #[error(
        "the identity of {host} expired at {end}: it can be renewed for a while (psfca renew) and is good for nothing \
         else; after that only a token that replaces it helps: psfca token {host} --replace"
    )]
    Expired {
        /// The host.
        host: HostName,
        /// The end of its identity.
        end: Timestamp,
    },
    /// Never enrolled.
    #[error("{0} is not enrolled")]
    Unknown(HostName),
    /// The host has enrolled again since, with a token that replaced this identity.
    #[error("{0} has enrolled again since this identity was issued; only the newer one counts")]
    Replaced(HostName),
    /// Switched off by an operator.
    #[error("{0} is disabled")]
    Disabled(HostName),
    /// Two keys asked to renew one identity.
    #[error("{host}", host = RecordError::HostFrozen(.0.clone()))]
    Frozen(HostName),
    /// Removed by an operator: the identity is none any more.
    #[error("{0} was removed; only a token that replaces lets it come back: psfca token {0} --replace")]
    Removed(HostName),
    /// Whether it is served could not be found out.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// Step 1: who asks is not served.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Step 1: the challenge in a signature does not count.
    #[error(transparent)]
    Challenge(#[from] ChallengeError),
    /// Step 1: the signature is not by the host's accepted Salt minion key, or there is none.
    #[error("{because}", because = RecordError::SaltKeyNotAccepted(.0.clone()))]
    Signature(HostName),
    /// Step 2: the declaration does not allow it.
    #[error("{0}")]
    Denied(Denial),
    /// Step 3: the key is not certified.
    #[error(transparent)]
    Key(#[from] CsrError),
    /// Step 3: the declaration does not let the CA make the key.
    #[error("{name} has no ca_made_key: true in the declaration, so the host makes the key and sends a request")]
    NoCaMadeKey {
        /// The name.
        name: String,
    },
    /// Step 4: the certificate cannot be built.
    #[error(transparent)]
    Build(#[from] TbsError),
    /// Step 4: no serial number.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// Step 5: the certificate is not what was granted.
    #[error(transparent)]
    Lint(#[from] LintError),
    /// Step 6: the entry is too large.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// Step 6: the certificate was not recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Step 7: the certificate was not signed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// A certificate that may leave: recorded, signed, verified.
#[must_use]
#[derive(Debug)]
pub struct Issued {
    /// The leaf and the CA certificates a client needs between it and its anchor, PEM.
    pub chain_pem: String,
    /// The leaf, DER.
    pub leaf: Vec<u8>,
    /// The leaf's serial number.
    pub serial: Serial,
    /// Its ledger entry, and the proof that the entry is in the ledger.
    pub proof: InclusionProof,
    /// Its last moment.
    pub not_after: Timestamp,
    /// When to come again ([`Validity::due`]).
    pub renew_after: Timestamp,
    /// The private key, where the CA made it.
    pub made_key: Option<MadeKey>,
}

/// The daemon's own certificate, for its TLS listener.
#[must_use]
#[derive(Debug)]
pub struct DaemonCertificate {
    /// Leaf, issuing CA and root, DER.
    pub chain: Vec<Vec<u8>>,
    /// The leaf's key.
    pub key: MadeKey,
    /// When to make the next.
    pub renew_after: Timestamp,
}

impl CertificateAuthority {
    /// Step 1 of every request with an identity: the connection has proven the host; whether the
    /// identity is still valid and the host enabled is asked each time.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub async fn admit<'a>(&self, identity: &'a HostIdentity) -> Result<&'a HostName, IdentityError> {
        self.admit_until(identity, identity.not_after).await
    }

    /// As [`Self::admit`], until the end of the grace after the identity's own end.
    pub(crate) async fn admit_in_grace<'a>(&self, identity: &'a HostIdentity) -> Result<&'a HostName, IdentityError> {
        self.admit_until(identity, identity.not_after.plus(self.identity_grace)).await
    }

    async fn admit_until<'a>(&self, identity: &'a HostIdentity, end: Timestamp) -> Result<&'a HostName, IdentityError> {
        let host = &identity.host;
        if self.clock.now() > end {
            return Err(IdentityError::Expired { host: host.clone(), end: identity.not_after });
        }
        let found = self.store.host(host).ok_or_else(|| IdentityError::Unknown(host.clone()))?;
        match found.state {
            HostState::Removed => Err(IdentityError::Removed(host.clone())),
            HostState::Disabled => Err(IdentityError::Disabled(host.clone())),
            HostState::Frozen => Err(IdentityError::Frozen(host.clone())),
            HostState::Enabled if self.store.is_current(&identity.shown(), &found).await? => Ok(host),
            HostState::Enabled => Err(IdentityError::Replaced(host.clone())),
        }
    }

    /// Whether anything can be issued to hosts; asked before everything else, and again inside the append.
    ///
    /// # Errors
    /// [`RecordError::Closed`].
    pub fn require_open(&self) -> Result<(), RecordError> {
        if self.store.closed().is_some() { Err(RecordError::Closed) } else { Ok(()) }
    }

    /// Issues `name` to the host of `identity`, if the declaration in force says so.
    ///
    /// # Errors
    /// [`IssueError`]; no certificate exists then, though an entry may.
    pub async fn issue(
        &self,
        identity: &HostIdentity,
        name: &DnsName,
        key: KeySource<'_>,
    ) -> Result<Issued, IssueError> {
        self.require_open()?;
        let mut judgements = 0;
        loop {
            // 1. The connection proves the host; the request never says who is asking.
            let host = self.admit(identity).await?;

            // 2. Judge against the declaration now in force, at first issue and at every renewal.
            let in_force = self.declaration.current();
            let grant = match judge(&in_force.declaration, host, name) {
                Verdict::Granted(grant) => grant,
                Verdict::Denied(denial) => return Err(IssueError::Denied(denial)),
            };
            let declaration = in_force.declaration.digest();
            let condition = Condition::Service { identity: identity.shown(), declaration };

            // 3 to 8. A declaration that came in force meanwhile means: judge again.
            judgements += 1;
            match self.certify(&grant, key, condition).await {
                Err(IssueError::Record(RecordError::DeclarationChanged)) if judgements < JUDGEMENTS => {}
                outcome => return outcome,
            }
        }
    }

    /// Issues the daemon's own certificate. Its chain ends with the root, so that a host that comes
    /// with a token can find the root whose fingerprint the token names.
    ///
    /// # Errors
    /// [`IssueError`].
    pub async fn certify_daemon(&self, grant: &Grant) -> Result<DaemonCertificate, IssueError> {
        let issued = self.certify(grant, KeySource::MadeHere, Condition::Always).await?;
        let key = issued.made_key.ok_or_else(|| IssueError::NoCaMadeKey { name: grant.name().to_owned() })?;
        let issuing = self.authorities.issuer(grant.kind()).certificate().der().to_vec();
        let root = self.authorities.root().der().to_vec();
        Ok(DaemonCertificate { chain: vec![issued.leaf, issuing, root], key, renew_after: issued.renew_after })
    }

    /// Steps 3 to 8, for any grant; identities and the daemon's own certificate join here.
    ///
    /// # Errors
    /// [`IssueError`]; no certificate exists then, though an entry may.
    pub(crate) async fn certify(
        &self,
        grant: &Grant,
        key: KeySource<'_>,
        condition: Condition,
    ) -> Result<Issued, IssueError> {
        // 3. The public key: from a request after proof of possession, or made here if allowed.
        let (key, made_key) = match key {
            KeySource::Request(body) => (SubjectKey::from_request(body, grant.key())?, None),
            KeySource::Verified(key) => (key.clone(), None),
            KeySource::MadeHere if grant.ca_made_key() => {
                let (key, made) = SubjectKey::generate(grant.key())?;
                (key, Some(made))
            }
            KeySource::MadeHere => return Err(IssueError::NoCaMadeKey { name: grant.name().to_owned() }),
        };

        // 4. Build the to-be-signed bytes; everything but the key comes from the grant.
        let now = self.clock.now();
        let issuer = self.authorities.issuer(grant.kind());
        let serial = Serial::generate(now, &*self.random)?;
        let tbs = self.templates.leaf(grant, &self.subject, &key, issuer.certificate(), serial, now)?;

        // 5. Read them back with another parser and compare with the grant.
        let linted = lint::leaf(tbs, grant, &self.subject, &key, issuer.certificate())?;

        // 6. Append to the ledger, durably, if the condition still holds inside the append.
        let record = CertificateRecord {
            kind: grant.kind(),
            serial: linted.serial().clone(),
            name: grant.name().to_owned(),
            host: grant.host().cloned(),
            not_before: linted.not_before(),
            not_after: linted.not_after(),
            key_sha256: key.sha256(),
            ca_made_key: made_key.is_some(),
            tbs_sha256: linted.sha256(),
            rule: grant.rule().clone(),
        };
        let draft = Draft::new(now, record, Arc::clone(linted.bytes()), condition)?;
        let mut recorded = self.store.record(draft.clone()).await?;

        // 7. Sign exactly what was recorded, and verify the signature. Where the same key was given an
        //    identity before, it is given that again, unless cert_opts or the CA have changed since.
        let given_again = match recorded.is_repeated() {
            true => self.give_again(&recorded, grant, &key),
            false => None,
        };
        let (signed, certificate) = match given_again {
            Some(found) => found,
            None => {
                if recorded.is_repeated() {
                    recorded = self.store.record(draft.anew()).await?;
                }
                (issuer.sign(&recorded, &linted)?, linted)
            }
        };

        // 8. Answer; the signature goes beside the entry with the next batch.
        self.store.release(&recorded, signed.signature);
        let chain_pem = certificate_pem(&signed.der) + issuer.certificate().pem();
        Ok(Issued {
            chain_pem,
            leaf: signed.der,
            serial: certificate.serial().clone(),
            proof: self.checkpoints.prove(&recorded, &self.store).await,
            not_after: certificate.not_after(),
            renew_after: Validity::new(certificate.not_before(), certificate.not_after(), certificate.serial()).due(),
            made_key,
        })
    }

    /// What was recorded before for the same key, signed: by the signature that was stored, or, where
    /// a crash came before it was, by a new one over the same bytes. None where those bytes are not
    /// what would be certified now.
    fn give_again(&self, recorded: &Recorded, grant: &Grant, key: &SubjectKey) -> Option<(Signed, Linted)> {
        let issuer = self.authorities.issuer(grant.kind());
        let tbs = Tbs::of_recorded(recorded)?;
        let linted = lint::leaf(tbs, grant, &self.subject, key, issuer.certificate()).ok()?;
        let signed = issuer.signed_before(recorded).or_else(|| issuer.sign(recorded, &linted).ok())?;
        Some((signed, linted))
    }
}
