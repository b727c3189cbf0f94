//! What a service says before TLS begins, in each protocol that is probed.
#![cfg_attr(fuzzing, no_main)]

use psfca::agent::probe::{Probe, preamble};
use tokio::io::{AsyncWriteExt as _, duplex};

pub(crate) fn run(data: &[u8]) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
    for url in ["postgres://127.0.0.1:1", "mysql://127.0.0.1:1", "smtp://127.0.0.1:1"] {
        let Ok(probe) = Probe::parse(url) else { panic!("{url} is a probe") };
        runtime.block_on(async {
            let (mut ours, mut theirs) = duplex(data.len() + 4096);
            // It hangs up after that, so nothing waits.
            let said = theirs.write_all(data).await.is_ok() && theirs.shutdown().await.is_ok();
            assert!(said, "a pipe that is large enough");
            if let Err(error) = preamble::speak(&probe, &mut ours).await {
                assert!(error.to_string().len() < 20_000, "{error}");
            }
        });
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));
