//! Who goes first when there is more to do than places to do it.

use crate::ca::identity::HostIdentity;
use crate::issue::CertificateAuthority;
use crate::policy::{Verdict, judge};
use crate::renewal::is_nearly_over;
use crate::store::StoreError;

impl CertificateAuthority {
    /// Whether the host of `identity` needs the CA soon: it is served, and its identity, or its newest certificate for a
    /// name that it may still have, has less than a quarter of its life left or none; an identity in its grace has none. A name that the host never had
    /// makes nothing urgent: no service rests on it yet.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_urgent(&self, identity: &HostIdentity) -> Result<bool, StoreError> {
        let Ok(host) = self.admit_in_grace(identity).await else { return Ok(false) };
        let now = self.clock.now();
        if is_nearly_over(identity.issued, identity.not_after, now) {
            return Ok(true);
        }
        let newest = self.store.newest_of(host.clone()).await?;
        let in_force = self.declaration.current();
        let may_have = |name| matches!(judge(&in_force.declaration, host, name), Verdict::Granted(_));
        Ok(newest.iter().any(|one| is_nearly_over(one.recorded, one.not_after, now) && may_have(&one.name)))
    }
}
