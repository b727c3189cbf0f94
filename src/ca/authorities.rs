//! The CA's own certificates and keys as they lie in the state directory.

use std::path::{Path, PathBuf};

use super::certificate::{CaCertificate, CaCertificateError};
use super::key_file::KeyError;
use super::signer::Authority;
use crate::grant::CertificateKind;

/// The names of the files; the directory is `STATE/ca`.
#[derive(Debug, Clone)]
pub struct CaFiles {
    directory: PathBuf,
}

impl CaFiles {
    /// The files under the state directory `state`.
    #[must_use]
    pub fn in_state(state: &Path) -> Self {
        Self { directory: state.join("ca") }
    }

    /// The directory itself.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The root's certificate.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.directory.join("root.pem")
    }

    /// The root's key, where it was not put elsewhere. The daemon never reads it.
    #[must_use]
    pub fn root_key(&self) -> PathBuf {
        self.directory.join("root.key")
    }

    /// The issuing CA's certificate.
    #[must_use]
    pub fn issuing(&self) -> PathBuf {
        self.directory.join("issuing.pem")
    }

    /// The issuing CA's key.
    #[must_use]
    pub fn issuing_key(&self) -> PathBuf {
        self.directory.join("issuing.key")
    }

    /// The identity CA's certificate.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.directory.join("identity.pem")
    }

    /// The identity CA's key.
    #[must_use]
    pub fn identity_key(&self) -> PathBuf {
        self.directory.join("identity.key")
    }

    /// The key that signs the ledger's checkpoints; it is no CA key.
    #[must_use]
    pub fn ledger_key(&self) -> PathBuf {
        self.directory.join("ledger.key")
    }
}

/// Why the CA cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthoritiesError {
    /// There is none yet.
    #[error("there is no CA in {0}; run psfca init first")]
    Absent(PathBuf),
    /// A certificate cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate is not what it must be.
    #[error("{path}: {source}")]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: CaCertificateError,
    },
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The CA with everything that the daemon needs: two keys that sign, and the root's certificate.
#[derive(Debug)]
pub struct Authorities {
    root: CaCertificate,
    issuing: Authority,
    identity: Authority,
}

/// The public part of [`Authorities`], for whoever only wants to look.
#[derive(Debug, Clone)]
pub struct CaCertificates {
    /// The root, which clients trust.
    pub root: CaCertificate,
    /// The issuing CA, which signs leaves.
    pub issuing: CaCertificate,
    /// The identity CA, which signs host identities.
    pub identity: CaCertificate,
}

impl CaCertificates {
    /// Reads the three certificates; no key is touched.
    ///
    /// # Errors
    /// [`AuthoritiesError`].
    pub fn load(files: &CaFiles) -> Result<Self, AuthoritiesError> {
        // What cannot be looked at is not absent: the error is about permissions then.
        if !files
            .directory()
            .try_exists()
            .map_err(|source| AuthoritiesError::File { path: files.directory().to_owned(), source })?
        {
            return Err(AuthoritiesError::Absent(files.directory().to_owned()));
        }
        Ok(Self {
            root: certificate(&files.root())?,
            issuing: certificate(&files.issuing())?,
            identity: certificate(&files.identity())?,
        })
    }

    /// Each with its kind, in the order in which people read them.
    pub fn each(&self) -> impl Iterator<Item = (CertificateKind, &CaCertificate)> {
        [
            (CertificateKind::Root, &self.root),
            (CertificateKind::IssuingCa, &self.issuing),
            (CertificateKind::IdentityCa, &self.identity),
        ]
        .into_iter()
    }
}

impl Authorities {
    /// Reads certificates and the two keys; the root's key is not needed.
    ///
    /// # Errors
    /// [`AuthoritiesError`].
    pub fn load(files: &CaFiles) -> Result<Self, AuthoritiesError> {
        let CaCertificates { root, issuing, identity } = CaCertificates::load(files)?;
        Ok(Self {
            root,
            issuing: Authority::load(issuing, &files.issuing_key())?,
            identity: Authority::load(identity, &files.identity_key())?,
        })
    }

    /// The root's certificate: the trust anchor.
    #[must_use]
    pub const fn root(&self) -> &CaCertificate {
        &self.root
    }

    /// Who signs a certificate of `kind` that the daemon issues.
    #[must_use]
    pub const fn issuer(&self, kind: CertificateKind) -> &Authority {
        match kind {
            CertificateKind::Identity => &self.identity,
            _ => &self.issuing,
        }
    }

    /// The certificates alone.
    #[must_use]
    pub fn certificates(&self) -> CaCertificates {
        CaCertificates {
            root: self.root.clone(),
            issuing: self.issuing.certificate().clone(),
            identity: self.identity.certificate().clone(),
        }
    }

    /// The kind of key with which a recorded certificate of `kind` was signed.
    #[must_use]
    pub const fn signing_key(&self, kind: CertificateKind) -> crate::profile::KeyKind {
        match kind {
            CertificateKind::Root | CertificateKind::IssuingCa => self.root.key(),
            CertificateKind::Identity | CertificateKind::IdentityCa => self.identity.certificate().key(),
            CertificateKind::Service | CertificateKind::Daemon => self.issuing.certificate().key(),
        }
    }
}

fn certificate(path: &Path) -> Result<CaCertificate, AuthoritiesError> {
    let text = std::fs::read(path).map_err(|source| AuthoritiesError::File { path: path.to_owned(), source })?;
    let wrong = |source| AuthoritiesError::Certificate { path: path.to_owned(), source };
    let block = pem::parse(&text).map_err(|error| wrong(CaCertificateError::Malformed(error.to_string())))?;
    CaCertificate::from_der(block.contents()).map_err(wrong)
}
