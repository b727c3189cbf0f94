//! Certificates: what comes in (`csr`, `pem_file`), what is built (`tbs`), how it is checked
//! (`lint`, `bundle`, `statement`), and the one place that touches CA keys (`signer`).

pub mod authorities;
pub mod bundle;
pub mod certificate;
pub mod csr;
mod der;
#[cfg(test)]
pub(crate) mod fixture;
pub mod identity;
pub mod inspection;
pub mod key_archive;
pub mod key_file;
pub mod lint;
pub mod pem_file;
pub mod pkcs12;
pub mod provenance;
pub mod salt_key;
pub mod signer;
pub mod statement;
pub mod tbs;
pub mod template;
