//! Times and memory.

use std::path::Path;
use std::time::Duration;

/// Times of the same thing, in order.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn of(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut times: Vec<_> = times.into_iter().collect();
        times.sort_unstable();
        Self(times)
    }

    /// In milliseconds.
    pub(crate) fn median(&self) -> f64 {
        self.at(self.0.len() / 2)
    }

    /// In milliseconds.
    pub(crate) fn p99(&self) -> f64 {
        self.at(self.0.len() * 99 / 100)
    }

    fn at(&self, place: usize) -> f64 {
        self.0[place.min(self.0.len() - 1)].as_secs_f64() * 1_000.0
    }
}

/// This process's own memory in kB; what it has mapped of files, which the kernel may take back, is not counted.
pub(crate) fn anonymous_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Has the kernel forget what it keeps of the file in memory.
pub(crate) fn forget_cache(path: &Path) {
    let file = std::fs::File::open(path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}
