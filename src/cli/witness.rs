//! The words of `psfca witness`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::LogFormat;

/// `psfca witness`
#[derive(Debug, Args)]
pub struct Witness {
    /// The witness' settings
    #[arg(long, value_name = "FILE", default_value = "/etc/psfca/witness.yaml")]
    pub config: PathBuf,
    /// Print the key that verifies its cosignatures (NAME+HASH+KEY) and exit; it is made where there is none
    #[arg(long)]
    pub key: bool,
    /// How log lines look
    #[arg(long, value_enum, default_value = "text")]
    pub log: LogFormat,
}
