//! One value that a writer replaces while readers use it: swapped by one store, freed when no
//! reader can hold it any longer. The only `unsafe` of this crate's lookup.
//!
//! JUSTIFICATION: a lock or a reference count a packet costs a reader 11 to 13 ns (`RwLock`,
//! `ArcSwap`); an epoch pinned once a batch of 32 costs 0.7 ns a packet.

use std::fmt;
use std::sync::atomic::Ordering;

use crossbeam::epoch::{self, Atomic, Owned};

/// Keeps what was read alive. Taken once a batch, and dropped before anything that blocks: while
/// it lives, nothing that a writer replaced is freed.
pub struct Guard(epoch::Guard);

/// Begins a batch of lookups, in any number of tables.
pub fn pin() -> Guard {
    Guard(epoch::pin())
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

/// Holds a `T` at all times: `current` is never null.
pub(super) struct Published<T> {
    current: Atomic<T>,
}

impl<T: Send + Sync + 'static> Published<T> {
    pub(super) fn new(value: T) -> Self {
        Self { current: Atomic::new(value) }
    }

    /// The value of this moment; it stays readable while both the guard and `self` do.
    #[allow(unsafe_code)]
    pub(super) fn load<'v>(&'v self, guard: &'v Guard) -> &'v T {
        let shared = self.current.load(Ordering::Acquire, &guard.0);
        // SAFETY: `current` always holds a value that `Atomic::new` or `replace` put there, fully
        // written before the store this load acquires. It is freed either by `replace`, which
        // waits for every guard of the default collector that was alive at the swap (and a
        // [`Guard`] is made by `pin` alone, so it is one of those), or by `drop`, which cannot run
        // while `self` is borrowed for `'v`.
        unsafe { shared.deref() }
    }

    /// Puts `value` in place of the one before, which is freed when no guard can reach it.
    #[allow(unsafe_code)]
    pub(super) fn replace(&self, value: T) {
        let guard = epoch::pin();
        let old = self.current.swap(Owned::new(value), Ordering::AcqRel, &guard);
        // SAFETY: `old` came out of `current` by a swap, so no other thread can swap it out or
        // load it from here on, and it is destroyed once. `T` is `Send` and `'static`, so any
        // thread may run its destructor, at any later time.
        unsafe { guard.defer_destroy(old) };
        // A thread keeps up to 64 values to be freed together; a full table is 8 MiB, so rather one.
        guard.flush();
    }
}

impl<T> Drop for Published<T> {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        let current = std::mem::take(&mut self.current);
        // SAFETY: `&mut self` means that nothing borrowed from `load` lives, and `current` is
        // never null and owned here alone.
        drop(unsafe { current.into_owned() });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    struct Counted(Arc<AtomicUsize>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_replaced_value_outlives_the_guard_that_reads_it() {
        let dropped = Arc::new(AtomicUsize::new(0));
        let published = Published::new(Counted(dropped.clone()));
        let guard = pin();
        let first = published.load(&guard);
        published.replace(Counted(dropped.clone()));
        // Plenty of chances to collect too early.
        for _ in 0..1_000 {
            epoch::pin().flush();
        }
        assert_eq!(first.0.load(Ordering::SeqCst), 0);
        drop(guard);
        // Other tests pin the same collector, so that it advances only between their batches.
        while dropped.load(Ordering::SeqCst) == 0 {
            epoch::pin().flush();
        }
        drop(published);
        assert_eq!(dropped.load(Ordering::SeqCst), 2);
    }
}
