//! The list of free pages: trunks, each of which leads to the next and names further free pages.

use super::usage::Use;
use super::{Pages, Source};
use crate::store::StoreError;

/// Takes every page on it.
pub(super) fn walk<S: Source>(pages: &mut Pages<S>) -> Result<(), StoreError> {
    let Pages { source, header, usage, faults, .. } = pages;
    let (mut trunk, mut found, mut octets) = (header.first_free, 0, Vec::new());
    while trunk != 0 {
        if let Err(why) = usage.take(trunk, Use::Free, 0) {
            faults.tell(format!("page {trunk} of the free pages: {why}"));
            return Ok(());
        }
        source.read(trunk, &mut octets)?;
        let (numbers, _) = octets.get(..header.size.usable).unwrap_or_default().as_chunks::<4>();
        let mut numbers = numbers.iter().map(|number| u32::from_be_bytes(*number));
        let (next, count) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if count as usize > numbers.len() {
            faults.tell(format!("page {trunk} of the free pages: it says that it names {count}"));
            return Ok(());
        }
        for leaf in numbers.take(count as usize) {
            if let Err(why) = usage.take(leaf, Use::Free, 0) {
                faults.tell(format!("page {leaf} of the free pages: {why}"));
            }
        }
        found += u64::from(count) + 1;
        trunk = next;
    }
    if found != u64::from(header.free) {
        faults.tell(format!("the header says that {} pages are free, and the list has {found}", header.free));
    }
    Ok(())
}
