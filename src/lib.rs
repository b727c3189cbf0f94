//! psfca, an internal certificate authority. `docs/architecture.md` walks one request through these files.
#![forbid(unsafe_code)]

// Layer 0: words.
pub mod clock;
pub mod digest;
pub mod durable;
pub mod grant;
pub mod name;
pub mod profile;
pub mod random;
pub mod serial;
pub mod token;
pub mod wire;

// Layer 1: decisions.
pub mod renewal;
pub mod report;

// Layer 3: crypto and connections.
pub mod ca;
pub mod client;
pub mod tls;

// Layer 5: edges.
pub mod agent;
pub mod cli;

// Layer 6: roots.
pub mod run;
