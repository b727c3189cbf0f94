//! psfca, an internal certificate authority. `docs/architecture.md` walks one request through these files.
#![forbid(unsafe_code)]

// Layer 0: words.
pub mod accounts;
pub mod clock;
pub mod diagnostic;
pub mod digest;
pub mod durable;
pub mod enrollment;
pub mod grant;
pub mod host;
pub mod name;
pub mod profile;
pub mod random;
pub mod refusal;
pub mod restoration;
pub mod salt;
pub mod serial;
pub mod source;
pub mod telemetry;
pub mod terminal;
pub mod text;
pub mod token;
pub mod wire;
pub mod yaml;

// Layer 1: decisions, pure.
pub mod config;
pub mod declaration;
pub mod expiry;
pub mod fleet;
pub mod ledger;
pub mod loading;
pub mod outage;
pub mod pattern;
pub mod policy;
pub mod rate;
pub mod renewal;
pub mod report;
pub mod root_statement;

// Layer 2: the store.
pub mod store;

// Layer 3: crypto and connections.
pub mod ca;
pub mod challenge;
pub mod client;
pub mod tls;

// Layer 4: the spine.
pub mod backup;
pub mod checkpoints;
pub mod cosigning;
pub mod enroll;
pub mod in_force;
pub mod init;
pub mod issue;
pub mod recover;
pub mod restore;
pub mod urgency;
pub mod verification;

// Layer 5: edges.
pub mod agent;
pub mod api;
pub mod cli;
pub mod server;
pub mod witness;

// Layer 6: roots.
pub mod run;
