//! A role's pattern, asked about hosts.
#![cfg_attr(fuzzing, no_main)]

use psfca::name::HostName;
use psfca::pattern::Pattern;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Pattern::parse(text) {
        Err(error) => assert!(text.get(error.range.clone()).is_some(), "{error} is nowhere in the text"),
        Ok(pattern) => {
            let longest = ["a".repeat(63), "a".repeat(63), "a".repeat(63), "a".repeat(61)].join(".");
            for host in ["pg0.iad1.psf.io", "a", &longest] {
                let _ = HostName::parse(host).map(|host| pattern.matches(&host));
            }
            assert_eq!(Pattern::parse(&pattern.to_string()), Ok(pattern));
        }
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));
