//! How a host comes to an identity: with a token at first, with the identity itself from then on.
//! Both make a grant here and join the issue sequence at its step 3.

use crate::ca::csr::SubjectKey;
use crate::ca::identity::HostIdentity;
use crate::clock::Timestamp;
use crate::enrollment::EnrolledBy;
use crate::grant::{Grant, Rule};
use crate::issue::{CertificateAuthority, IssueError, Issued, KeySource};
use crate::name::HostName;
use crate::profile::{IDENTITY_LIFETIME, KeyKind};
use crate::store::{Condition, NewToken};
use crate::token::TokenSecret;

/// How long a token can be spent.
pub const TOKEN_LIFETIME: std::time::Duration = std::time::Duration::from_secs(3_600);

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
