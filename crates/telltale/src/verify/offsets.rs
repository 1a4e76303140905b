//! A set of offsets of one partition: one bit each, allocated as far as it is used.

use std::ops::Range;

/// A set of offsets within a range that is fixed when it is made.
///
/// Invariant: the memory is at most one bit for each offset of the range, whatever is inserted.
#[derive(Debug, Clone)]
pub struct Offsets {
    range: Range<i64>,
    words: Vec<u64>,
    count: u64,
}

impl Offsets {
    /// Makes an empty set for the offsets of `range`.
    #[must_use]
    pub fn within(range: Range<i64>) -> Self {
        Self { range, words: Vec::new(), count: 0 }
    }

    /// Adds `offset`; `None` when it is outside the range, else whether it is new.
    pub fn insert(&mut self, offset: i64) -> Option<bool> {
        let (word, bit) = self.place(offset)?;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += u64::from(new);
        Some(new)
    }

    /// Whether `offset` is in the set.
    #[must_use]
    pub fn contains(&self, offset: i64) -> bool {
        self.place(offset).is_some_and(|(word, bit)| self.words.get(word).is_some_and(|it| it & bit != 0))
    }

    /// Number of offsets in the set.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether the set holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The highest offset in the set.
    #[must_use]
    pub fn last(&self) -> Option<i64> {
        let (index, word) = self.words.iter().enumerate().rev().find(|(_, word)| **word != 0)?;
        Some(self.range.start + (index * 64 + 63 - word.leading_zeros() as usize) as i64)
    }

    /// The offsets that are here and not in `other`, which has the same range; lowest first.
    pub fn difference<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = i64> + 'a {
        debug_assert_eq!(self.range, other.range, "only sets of one range can be compared");
        self.words.iter().enumerate().flat_map(move |(index, word)| {
            let mut left = word & !other.words.get(index).copied().unwrap_or(0);
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(self.range.start + index as i64 * 64 + i64::from(bit))
            })
        })
    }

    fn place(&self, offset: i64) -> Option<(usize, u64)> {
        if !self.range.contains(&offset) {
            return None;
        }
        let index = usize::try_from(offset - self.range.start).ok()?;
        Some((index / 64, 1 << (index % 64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_offset_outside_the_range_costs_nothing() {
        let mut set = Offsets::within(5..10);
        for outside in [i64::MIN, -1, 4, 10, i64::MAX] {
            assert_eq!(set.insert(outside), None, "{outside}");
        }
        assert!(set.is_empty());
        assert!(set.words.is_empty());
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(start in -3_i64..500, a in proptest::collection::vec(0_i64..700, 0..200),
            b in proptest::collection::vec(0_i64..700, 0..200)) {
            let range = start..start + 300;
            let (mut left, mut right) = (Offsets::within(range.clone()), Offsets::within(range.clone()));
            let (mut left_model, mut right_model) = (BTreeSet::new(), BTreeSet::new());
            for (set, model, offsets) in [(&mut left, &mut left_model, &a), (&mut right, &mut right_model, &b)] {
                for &offset in offsets {
                    let expected = range.contains(&offset).then(|| model.insert(offset));
                    prop_assert_eq!(set.insert(offset), expected);
                }
            }
            prop_assert_eq!(left.len(), left_model.len() as u64);
            prop_assert_eq!(left.last(), left_model.last().copied());
            let difference: Vec<i64> = left.difference(&right).collect();
            let expected: Vec<i64> = left_model.difference(&right_model).copied().collect();
            prop_assert_eq!(difference, expected);
            prop_assert!((0..900).all(|it| left.contains(it) == left_model.contains(&it)));
        }
    }
}
