//! Turns completions that arrive in any order into acknowledgements in the order of receipt.

use std::collections::VecDeque;

/// Receipts in the order they were entered; each leaves once it and all before it are complete.
///
/// Invariant: the head is incomplete, or the ledger is empty, whenever [`Ledger::complete`] has returned. So
/// one message that Kafka does not take holds back the acknowledgements of all later ones, and never the
/// other way round.
#[derive(Debug)]
pub struct Ledger<R> {
    /// Number of the entry at the head.
    first: u64,
    entries: VecDeque<(R, bool)>,
}

impl<R> Default for Ledger<R> {
    fn default() -> Self {
        Self { first: 0, entries: VecDeque::new() }
    }
}

impl<R> Ledger<R> {
    /// Makes an empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters a receipt and returns its number; numbers rise by one.
    pub fn enter(&mut self, receipt: R) -> u64 {
        self.entries.push_back((receipt, false));
        self.first + self.entries.len() as u64 - 1
    }

    /// Marks the entry `number` complete and hands every receipt that may go now to `release`, oldest first.
    ///
    /// A number that has already left or was never entered changes nothing.
    pub fn complete(&mut self, number: u64, mut release: impl FnMut(R)) {
        let Some(index) = number.checked_sub(self.first).and_then(|it| usize::try_from(it).ok()) else {
            return;
        };
        let Some(entry) = self.entries.get_mut(index) else { return };
        entry.1 = true;
        while let Some((receipt, _)) = self.entries.pop_front_if(|(_, complete)| *complete) {
            self.first += 1;
            release(receipt);
        }
    }

    /// The receipt `number`, unless it has left.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut R> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(index).map(|(receipt, _)| receipt)
    }

    /// Number of receipts that have not left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether all receipts have left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// In whatever order completions come, receipts leave in the order they were entered, and an entry
        /// that is never completed holds back every later one.
        #[test]
        fn receipts_leave_in_order_and_a_lost_one_holds_back_the_rest(
            order in Just((0..60_u64).collect::<Vec<_>>()).prop_shuffle(),
            lost in 0..80_u64,
            entered_before in 1..60_usize,
        ) {
            let mut ledger = Ledger::new();
            let mut left = Vec::new();
            for number in 0..entered_before as u64 {
                prop_assert_eq!(ledger.enter(number), number);
            }
            let mut next = entered_before as u64;
            for number in order.into_iter().filter(|&it| it != lost) {
                while next <= number {
                    prop_assert_eq!(ledger.enter(next), next);
                    next += 1;
                }
                ledger.complete(number, |it| left.push(it));
                ledger.complete(number, |it| left.push(it));
            }
            prop_assert_eq!(&left, &(0..lost.min(60)).collect::<Vec<_>>());
            prop_assert_eq!(ledger.len() as u64, next - lost.min(60).min(next));
        }
    }

    #[test]
    fn unknown_numbers_change_nothing() {
        let mut ledger = Ledger::new();
        ledger.complete(0, |_: u8| panic!("nothing was entered"));
        ledger.enter(1_u8);
        ledger.complete(7, |_| panic!("7 was not entered"));
        assert_eq!(ledger.len(), 1);
    }
}
