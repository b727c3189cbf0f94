//! The header of a database file, and what follows from it for all pages.

use super::Faults;

/// Octets before the B-tree on the first page.
pub(super) const LENGTH: usize = 100;
/// No page is used that has this octet of the file, by which SQLite locks it.
const LOCKED: usize = 1 << 30;
/// UTF-8.
const ENCODING: u32 = 1;

/// How large a page is.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageSize {
    pub(super) whole: usize,
    /// What of it SQLite uses.
    pub(super) usable: usize,
}

impl PageSize {
    /// None where this is no header of a database.
    pub(super) fn parse(octets: &[u8]) -> Option<Self> {
        let (magic, rest) = octets.split_first_chunk::<16>()?;
        let [high, low, _, _, reserved, ..] = *rest.first_chunk::<84>()?;
        // What does not fit into two octets is written as 1.
        let whole = match u16::from_be_bytes([high, low]) {
            1 => 65_536,
            size => usize::from(size),
        };
        let usable = whole.checked_sub(usize::from(reserved))?;
        let sound = magic == b"SQLite format 3\0" && whole.is_power_of_two() && whole >= 512 && usable >= 480;
        sound.then_some(Self { whole, usable })
    }
}

/// What the header says, and how many pages there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) size: PageSize,
    /// How many pages there are.
    pub(super) pages: u32,
    /// How many it says that there are.
    said: u32,
    /// The first page of the list of free ones, if any, and how many are free.
    pub(super) first_free: u32,
    pub(super) free: u32,
    /// The highest root of a tree, where the file has a pointer map; otherwise 0.
    largest_root: u32,
    /// Whether pages are only given back when somebody asks, which needs a pointer map.
    incremental: u32,
    encoding: u32,
}

impl Header {
    /// Reads the first page's; `pages` is how many there are.
    pub(super) fn parse(first: &[u8], pages: u32) -> Option<Self> {
        let number = |at: usize| Some(u32::from_be_bytes(*first.get(at..)?.first_chunk()?));
        let size = PageSize::parse(first).filter(|size| size.whole == first.len())?;
        Some(Self {
            size,
            pages,
            said: number(28)?,
            first_free: number(32)?,
            free: number(36)?,
            largest_root: number(52)?,
            encoding: number(56)?,
            incremental: number(64)?,
        })
    }

    pub(super) fn check(&self, largest_root: u32, faults: &mut Faults) {
        if self.said != self.pages {
            faults.tell(format!("the header says that there are {} pages, and there are {}", self.said, self.pages));
        }
        if self.encoding != ENCODING {
            faults.tell("the header says that texts are not in UTF-8");
        }
        let expected = if self.has_pointer_map() { largest_root } else { 0 };
        if self.largest_root != expected {
            faults.tell(format!("the header says that the highest root is page {}", self.largest_root));
        }
        if self.incremental != 0 && !self.has_pointer_map() {
            faults.tell("the header says that pages are given back, and there is no pointer map");
        }
    }

    pub(super) const fn has_pointer_map(&self) -> bool {
        self.largest_root != 0
    }

    /// The page that holds the octet by which SQLite locks the file.
    pub(super) fn locked_page(&self) -> u32 {
        u32::try_from(LOCKED / self.size.whole + 1).unwrap_or(u32::MAX)
    }

    /// How many pages a page of the pointer map is about; they follow it.
    pub(super) fn mapped_by_one(&self) -> u32 {
        u32::try_from(self.size.usable / 5).unwrap_or(u32::MAX)
    }

    /// The pages of the pointer map.
    pub(super) fn map_pages(&self) -> impl Iterator<Item = u32> + use<> {
        let (locked, pages) = (self.locked_page(), self.pages);
        let regular = (2..=pages).step_by(self.mapped_by_one() as usize + 1);
        let regular = regular.take(if self.has_pointer_map() { usize::MAX } else { 0 });
        regular.map(move |page| if page == locked { page + 1 } else { page }).filter(move |page| *page <= pages)
    }
}
