//! The certificates' signatures, by the CA certificates that the ledger itself has. An elliptic curve
//! costs a hundred times what the hashes of an entry cost, so several threads share it.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

use crate::ca::authorities::CaCertificates;
use crate::ca::certificate::CaCertificate;
use crate::ca::signer::assemble;
use crate::grant::CertificateKind;
use crate::profile::KeyKind;

/// Certificates that a thread takes at a time.
const BATCH: usize = 128;

/// The CA certificates met so far; a ledger may have several of a kind, one after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Issuers {
    root: Arc<Vec<CaCertificate>>,
    issuing: Arc<Vec<CaCertificate>>,
    identity: Arc<Vec<CaCertificate>>,
}

impl Issuers {
    /// The roots.
    pub(super) fn roots(&self) -> &[CaCertificate] {
        &self.root
    }

    /// The newest of each kind.
    pub(super) fn newest(&self) -> Option<CaCertificates> {
        let newest = |list: &[CaCertificate]| list.first().cloned();
        Some(CaCertificates {
            root: newest(&self.root)?,
            issuing: newest(&self.issuing)?,
            identity: newest(&self.identity)?,
        })
    }

    /// Adds a CA certificate, if its signature is right.
    pub(super) fn add(&mut self, kind: CertificateKind, tbs: &[u8], signature: &[u8]) -> Result<(), String> {
        let unfit = |error| format!("the CA certificate that the entry stands for is none: {error}");
        // Its own key is read first; by whose key it was signed only matters to the bytes around it.
        let found = CaCertificate::from_der(&assemble(tbs, signature, KeyKind::EcdsaP256)).map_err(unfit)?;
        let own = std::slice::from_ref(&found);
        let signers = if kind == CertificateKind::IssuingCa { &**self.root } else { own };
        let Some(signer) = signers.iter().find(|signer| signer.has_signed(tbs, signature)) else {
            return Err("the CA certificate's stored signature is wrong".to_owned());
        };
        let whole = CaCertificate::from_der(&assemble(tbs, signature, signer.key())).map_err(unfit)?;
        let list = match kind {
            CertificateKind::Root => &mut self.root,
            CertificateKind::IssuingCa => &mut self.issuing,
            _ => &mut self.identity,
        };
        // The newest first: most of what follows is signed by it.
        Arc::make_mut(list).insert(0, whole);
        Ok(())
    }
}

/// What a thread is to look at.
struct Batch {
    issuers: Arc<Vec<CaCertificate>>,
    certificates: Vec<Certificate>,
}

struct Certificate {
    index: u64,
    tbs: Vec<u8>,
    signature: Vec<u8>,
}

/// The threads, and what waits for them.
pub(super) struct Workers<'s> {
    send: Option<SyncSender<Batch>>,
    threads: Vec<ScopedJoinHandle<'s, Vec<u64>>>,
    /// For the issuing CA and for the identity CA.
    waiting: [Batch; 2],
    count: u64,
}

impl<'s> Workers<'s> {
    pub(super) fn start<'e>(scope: &'s Scope<'s, 'e>, threads: usize) -> Self {
        let (send, receive) = sync_channel(threads * 4);
        let receive = Arc::new(Mutex::new(receive));
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                let receive = Arc::clone(&receive);
                scope.spawn(move || work(&receive))
            })
            .collect();
        let empty = || Batch { issuers: Arc::default(), certificates: Vec::new() };
        Self { send: (!threads.is_empty()).then_some(send), threads, waiting: [empty(), empty()], count: 0 }
    }

    /// Whether signatures are left out.
    pub(super) const fn are_idle(&self) -> bool {
        self.send.is_none()
    }

    /// Counts signatures that were verified elsewhere.
    pub(super) const fn count(&mut self, more: u64) {
        self.count += more;
    }

    /// Has the signature of a leaf checked.
    pub(super) fn check(&mut self, issuers: &Issuers, index: u64, kind: CertificateKind, tbs: &[u8], signature: &[u8]) {
        self.count += 1;
        let (place, issuers) = match kind {
            CertificateKind::Identity => (1, &issuers.identity),
            _ => (0, &issuers.issuing),
        };
        if !Arc::ptr_eq(&self.waiting[place].issuers, issuers) {
            self.hand_over(place);
            self.waiting[place].issuers = Arc::clone(issuers);
        }
        self.waiting[place].certificates.push(Certificate { index, tbs: tbs.to_vec(), signature: signature.to_vec() });
        if self.waiting[place].certificates.len() >= BATCH {
            self.hand_over(place);
        }
    }

    fn hand_over(&mut self, place: usize) {
        let certificates = std::mem::take(&mut self.waiting[place].certificates);
        let batch = Batch { issuers: Arc::clone(&self.waiting[place].issuers), certificates };
        if let Some(send) = &self.send {
            // It fails when every thread has panicked, and that is passed on by `finish`.
            let _ = send.send(batch);
        }
    }

    /// How many signatures were verified, and the entries whose signature is wrong.
    pub(super) fn finish(mut self) -> (u64, Vec<u64>) {
        (0..self.waiting.len()).for_each(|place| self.hand_over(place));
        drop(self.send);
        let mut wrong = Vec::new();
        for thread in self.threads {
            match thread.join() {
                Ok(found) => wrong.extend(found),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        wrong.sort_unstable();
        (self.count, wrong)
    }
}

fn work(receive: &Mutex<Receiver<Batch>>) -> Vec<u64> {
    let mut wrong = Vec::new();
    loop {
        let next = receive.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Batch { issuers, certificates }) = next else { return wrong };
        for Certificate { index, tbs, signature } in certificates {
            if !issuers.iter().any(|issuer| issuer.has_signed(&tbs, &signature)) {
                wrong.push(index);
            }
        }
    }
}
