//! A set of offsets of one partition: one bit each, from the oldest that is not settled to the newest.

use std::collections::VecDeque;
use std::ops::Range;

/// A set of offsets from `start` on, whose lowest ones can be forgotten.
///
/// Invariant: the memory is one bit for each offset between what was forgotten and what was inserted last.
#[derive(Debug, Clone)]
pub struct Offsets {
    start: i64,
    /// Offset of the first bit of the first word: `start` and a multiple of 64.
    first: i64,
    words: VecDeque<u64>,
    count: u64,
    last: Option<i64>,
}

impl Offsets {
    /// Makes an empty set for the offsets from `start` on.
    #[must_use]
    pub fn starting_at(start: i64) -> Self {
        Self { start, first: start, words: VecDeque::new(), count: 0, last: None }
    }

    /// Adds `offset`; says whether it is new. What is below the start or was forgotten changes nothing.
    pub fn insert(&mut self, offset: i64) -> bool {
        let Some((word, bit)) = self.place(offset) else { return false };
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += u64::from(new);
        self.last = self.last.max(Some(offset));
        new
    }

    /// Whether `offset` is in the set and not forgotten.
    #[must_use]
    pub fn contains(&self, offset: i64) -> bool {
        self.place(offset).is_some_and(|(word, bit)| self.words.get(word).is_some_and(|it| it & bit != 0))
    }

    /// Number of offsets that were ever in the set.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether the set never held anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The highest offset that was ever in the set.
    #[must_use]
    pub fn last(&self) -> Option<i64> {
        self.last
    }

    /// Forgets what lies below `offset`, by whole words: up to 63 offsets below it may be kept.
    pub fn forget(&mut self, offset: i64) {
        let words = usize::try_from((offset - self.first) / 64).unwrap_or(0);
        self.words.drain(..words.min(self.words.len()));
        self.first += 64 * words as i64;
    }

    /// The offsets of `range` that are here and not in `other`, which had the same start and forgot the same; lowest first.
    pub fn difference<'a>(&'a self, other: &'a Self, range: Range<i64>) -> impl Iterator<Item = i64> + 'a {
        debug_assert_eq!(self.first, other.first, "only sets of one range can be compared");
        self.bits(range, |index| !other.words.get(index).copied().unwrap_or(0))
    }

    /// How many offsets of `range` are here.
    #[must_use]
    pub fn count_in(&self, range: Range<i64>) -> u64 {
        self.bits(range, |_| u64::MAX).count() as u64
    }

    /// The offsets of `range` whose bits are also in the mask of their word.
    fn bits<'a>(
        &'a self,
        range: Range<i64>,
        mask: impl Fn(usize) -> u64 + 'a,
    ) -> impl Iterator<Item = i64> + 'a {
        let skipped = usize::try_from((range.start - self.first) / 64).unwrap_or(0);
        let words = self.words.iter().enumerate().skip(skipped).flat_map(move |(index, word)| {
            let mut left = word & mask(index);
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(self.first + index as i64 * 64 + i64::from(bit))
            })
        });
        words.skip_while(move |it| *it < range.start).take_while(move |it| *it < range.end)
    }

    fn place(&self, offset: i64) -> Option<(usize, u64)> {
        if offset < self.start.max(self.first) {
            return None;
        }
        let index = usize::try_from(offset.checked_sub(self.first)?).ok()?;
        Some((index / 64, 1 << (index % 64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_as_a_set(start in -3_i64..500, a in proptest::collection::vec(0_i64..700, 0..200),
            b in proptest::collection::vec(0_i64..700, 0..200), forgotten in 0_i64..700, to in 0_i64..800) {
            let (mut left, mut right) = (Offsets::starting_at(start), Offsets::starting_at(start));
            let (mut left_model, mut right_model) = (BTreeSet::new(), BTreeSet::new());
            for (set, model, offsets) in [(&mut left, &mut left_model, &a), (&mut right, &mut right_model, &b)] {
                for &offset in offsets {
                    prop_assert_eq!(set.insert(offset), offset >= start && model.insert(offset));
                }
            }
            prop_assert_eq!(left.len(), left_model.len() as u64);
            prop_assert_eq!(left.last(), left_model.last().copied());
            prop_assert!((0..900).all(|it| left.contains(it) == left_model.contains(&it)));
            left.forget(forgotten);
            right.forget(forgotten);
            let kept = forgotten.max(start);
            let difference: Vec<i64> = left.difference(&right, kept..to).collect();
            let expected = left_model.difference(&right_model).copied().filter(|it| (kept..to).contains(it));
            prop_assert_eq!(difference, expected.collect::<Vec<_>>());
            let counted = left_model.iter().filter(|it| (kept..to).contains(*it)).count();
            prop_assert_eq!(left.count_in(kept..to), counted as u64);
            prop_assert!((kept..900).all(|it| left.contains(it) == left_model.contains(&it)));
            prop_assert_eq!(left.last(), left_model.last().copied());
            // What was forgotten stays so, and what comes afterwards finds its place.
            prop_assert!(!left.insert(start - 1) && left.insert(1000) && left.contains(1000));
        }
    }

    #[test]
    fn what_is_forgotten_takes_no_memory() {
        let mut set = Offsets::starting_at(5);
        for offset in 5..1_000_000 {
            set.insert(offset);
            set.forget(offset - 100);
            assert!(set.words.len() <= 4, "{offset}: {} words", set.words.len());
        }
        assert_eq!((set.len(), set.last()), (999_995, Some(999_999)));
    }
}
