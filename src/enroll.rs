//! How a host comes to an identity: with a token, an operator's approval or its Salt minion key at first, with the identity
//! itself from then on. Each makes a grant here and joins the issue sequence at its step 3.

use crate::ca::csr::SubjectKey;
use crate::ca::identity::HostIdentity;
use crate::ca::salt_key::SaltKey;
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::enrollment::EnrolledBy;
use crate::grant::{Grant, Rule};
use crate::issue::{CertificateAuthority, IssueError, Issued, KeySource};
use crate::name::HostName;
use crate::profile::{IDENTITY_LIFETIME, KeyKind};
use crate::salt;
use crate::source::Source;
use crate::store::{Asked, Condition, NewRequest, NewToken, RecordError};
use crate::token::TokenSecret;

/// How long a token can be spent.
pub const TOKEN_LIFETIME: std::time::Duration = std::time::Duration::from_secs(3_600);

/// What becomes of a key that asks to be a host.
#[must_use]
#[derive(Debug)]
pub enum Approval {
    /// It was approved.
    Issued(Box<Issued>),
    /// Nobody has decided yet.
    Waiting {
        /// SHA-256 of the key, to be compared.
        key_sha256: Digest,
        /// When the request is dropped.
        expires: Timestamp,
    },
}

impl CertificateAuthority {
    /// Makes a one-time token with which `host` can enrol within the hour. Only its hash is kept.
    ///
    /// # Errors
    /// `AlreadyEnrolled` unless `replaces`; no randomness; or the store failed.
    pub async fn make_token(
        &self,
        host: &HostName,
        replaces: bool,
        operator_uid: u32,
    ) -> Result<(TokenSecret, Timestamp), IssueError> {
        let at = self.clock.now();
        let secret = TokenSecret::generate(&*self.random)?;
        let expires = at.plus(TOKEN_LIFETIME);
        let token = NewToken { at, hash: secret.hash(), host: host.clone(), expires, replaces, operator_uid };
        self.store.make_token(token).await?;
        Ok((secret, expires))
    }

    /// Gives an identity to whoever holds a good token, for the host that the token names.
    ///
    /// # Errors
    /// [`IssueError`]; the token is then not spent, unless by the same key before.
    pub async fn enroll(&self, secret: &TokenSecret, request: &[u8]) -> Result<(Issued, HostName), IssueError> {
        self.require_open()?;

        // 1. The token proves the host. Which key asks matters, since a key that has spent the
        //    token may come again for an answer that was lost.
        let key = SubjectKey::from_request(request, KeyKind::EcdsaP256)?;
        let token = secret.hash();
        let host = self.store.token_host(token, key.sha256(), self.clock.now()).await?;

        // 2. The token is the rule.
        let grant = Grant::identity(&host, &self.trust_domain, IDENTITY_LIFETIME, Rule::Token { token });

        // 3 to 8. The token is checked again and spent, and the host enrolled, inside the append.
        let issued = self
            .certify(&grant, KeySource::Verified(&key), Condition::Enrollment { by: EnrolledBy::Token { token } })
            .await?;
        Ok((issued, host))
    }

    /// Gives an identity for `host` to the key of `request`, once an operator has approved that key. Until then
    /// the key waits, and it is noted that it comes `from` there.
    ///
    /// # Errors
    /// [`IssueError`], also where there are too many that wait.
    pub async fn enroll_approved(&self, host: &HostName, request: &[u8], from: Source) -> Result<Approval, IssueError> {
        self.require_open()?;

        // 1. Nothing proves the host but the operator who has compared the fingerprint of its key.
        let key = SubjectKey::from_request(request, KeyKind::EcdsaP256)?;
        let (at, key_sha256) = (self.clock.now(), key.sha256());
        let operator_uid =
            match self.store.ask_enrollment(NewRequest { at, host: host.clone(), key_sha256, from }).await? {
                Asked::Approved { operator_uid } => operator_uid,
                Asked::Waiting { expires } => return Ok(Approval::Waiting { key_sha256, expires }),
            };

        // 2. The approval is the rule.
        let grant = Grant::identity(host, &self.trust_domain, IDENTITY_LIFETIME, Rule::Approval { operator_uid });

        // 3 to 8. The approval is looked for again, and the host enrolled, inside the append.
        let condition = Condition::Enrollment { by: EnrolledBy::Approval { operator_uid } };
        Ok(Approval::Issued(Box::new(self.certify(&grant, KeySource::Verified(&key), condition).await?)))
    }

    /// A challenge for [`Self::enroll_by_salt_key`], and its end.
    ///
    /// # Errors
    /// No randomness.
    pub fn challenge(&self) -> Result<(String, Timestamp), IssueError> {
        Ok(self.challenges.give_out(self.clock.now(), &*self.random)?)
    }

    /// Gives an identity for `host` to the key of `request`, if the host's accepted Salt minion key has signed
    /// that it asks this CA for that, now.
    ///
    /// # Errors
    /// [`IssueError`]; once the signature was good, the challenge is used up.
    pub async fn enroll_by_salt_key(
        &self,
        host: &HostName,
        request: &[u8],
        challenge: &str,
        signature: &[u8],
    ) -> Result<Issued, IssueError> {
        self.require_open()?;

        // 1. The signature proves the host, and which key is asked for. The challenge is used up only by a
        //    good one, so that nobody else can use it up.
        let key = SubjectKey::from_request(request, KeyKind::EcdsaP256)?;
        let challenge = self.challenges.read(challenge, self.clock.now())?;
        let unsigned = || IssueError::Signature(host.clone());
        let accepted = self.store.salt_key(host).await.map_err(RecordError::from)?.ok_or_else(unsigned)?;
        let accepted = SaltKey::from_spki(accepted).map_err(|_| unsigned())?;
        let message = salt::message(self.authorities.root().fingerprint(), host, challenge.octets(), key.spki());
        if !accepted.has_signed(&message, signature) {
            return Err(unsigned());
        }
        self.challenges.answer(&challenge, self.clock.now())?;

        // 2. The accepted key is the rule.
        let salt_key = accepted.sha256();
        let grant = Grant::identity(host, &self.trust_domain, IDENTITY_LIFETIME, Rule::SaltKey { salt_key });

        // 3 to 8. That the key is still accepted is asked again, and the host enrolled, inside the append.
        let condition = Condition::Enrollment { by: EnrolledBy::SaltKey { salt_key } };
        self.certify(&grant, KeySource::Verified(&key), condition).await
    }

    /// Renews the identity that the connection has proven, with a key of the host's choice.
    ///
    /// # Errors
    /// [`IssueError`].
    pub async fn renew_identity(&self, identity: &HostIdentity, request: &[u8]) -> Result<Issued, IssueError> {
        self.require_open()?;

        // 1. The connection proves the host, for a while also with an identity that has ended.
        let host = self.admit_in_grace(identity).await?;

        // 2. An identity of an enabled host is the rule.
        let renewed = Some(identity.serial.clone());
        let grant = Grant::identity(host, &self.trust_domain, IDENTITY_LIFETIME, Rule::Identity { renewed });

        // 3 to 8. Inside the append: the key that renewed it before is given the same again, and two
        //    keys freeze the host.
        self.certify(&grant, KeySource::Request(request), Condition::Renewal { identity: identity.shown() }).await
    }
}
