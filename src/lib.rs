//! psfca, an internal certificate authority. `docs/architecture.md` walks one request through these files.
#![forbid(unsafe_code)]

// Layer 0: words.
pub mod clock;
pub mod diagnostic;
pub mod digest;
pub mod grant;
pub mod name;
pub mod profile;
pub mod random;
pub mod serial;
pub mod token;
pub mod wire;
pub mod yaml;

// Layer 1: decisions.
pub mod config;
pub mod declaration;
pub mod pattern;
pub mod policy;

// Layer 5: edges.
pub mod cli;

// Layer 6: roots.
pub mod run;
