//! A challenge that comes back in an enrolment by a Salt key.
#![cfg_attr(fuzzing, no_main)]

use psfca::challenge::Challenges;
use psfca::clock::Timestamp;
use psfca::random::{NoRandomness, Random};

/// The same every time, so that a seed is one of this daemon's.
struct Fixed;

impl Random for Fixed {
    fn fill(&self, out: &mut [u8]) -> Result<(), NoRandomness> {
        out.fill(42);
        Ok(())
    }
}

const NOW: Timestamp = Timestamp::from_unix(1_795_255_200);

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(challenges) = Challenges::new(&Fixed) else { return };
    if let Ok(challenge) = challenges.read(text, NOW) {
        let given_out = challenges.give_out(NOW, &Fixed).map(|(text, _)| text);
        assert_eq!(given_out.as_deref(), Ok(text), "nobody else makes one, and it has one form");
        assert!(challenges.answer(&challenge, NOW).is_ok() && challenges.answer(&challenge, NOW).is_err());
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));
