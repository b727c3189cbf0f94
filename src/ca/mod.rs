//! The certificate authority: what signs, what is signed, and the PEM files in which it travels.

pub mod bundle;
#[cfg(test)]
pub(crate) mod fixture;
pub mod inspection;
pub mod pem_file;
