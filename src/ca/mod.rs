//! Certificates: what comes in (`csr`), what is built (`tbs`), how it is checked (`lint`), and the
//! one place that touches CA keys (`signer`).

pub mod authorities;
pub mod certificate;
pub mod csr;
pub mod identity;
pub mod lint;
pub mod signer;
pub mod tbs;
