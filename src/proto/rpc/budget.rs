//! A number of bytes shared by all connections, taken without a lock while there is enough and
//! waited for in order of arrival when there is not. A part can be kept for those that ask for little
//! and hold nothing, so that who asks for much does not make them wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Before the others, and of all there is. At most [`Budget::small_max`] bytes.
    Small,
    /// After the small ones, and not of the reserve.
    Any,
}

/// Bytes to take from.
#[derive(Debug)]
pub(super) struct Budget {
    total: usize,
    /// What is left to [`Claim::Small`].
    reserve: usize,
    free: AtomicUsize,
    /// Length of the queue, so that nobody needs its lock while it is empty.
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    small: VecDeque<Waiter>,
    any: VecDeque<Waiter>,
}

impl Queue {
    /// Those that wait, in order of arrival, so also by `id`.
    fn of(&mut self, claim: Claim) -> &mut VecDeque<Waiter> {
        match claim {
            Claim::Small => &mut self.small,
            Claim::Any => &mut self.any,
        }
    }

    fn position(&mut self, claim: Claim, id: u64) -> Option<usize> {
        self.of(claim).binary_search_by_key(&id, |waiter| waiter.id).ok()
    }
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    amount: usize,
    waker: Option<Waker>,
}

impl Budget {
    /// `total` bytes, `reserve` of them for small claims.
    pub(super) fn new(total: usize, reserve: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            reserve: reserve.min(total),
            free: AtomicUsize::new(total),
            waiting: AtomicUsize::new(0),
            queue: Mutex::default(),
        })
    }

    /// The most that is granted.
    pub(super) fn most(&self) -> usize {
        self.total - self.reserve
    }

    /// The most that is a small claim: so little that the reserve is enough for many.
    pub(super) fn small_max(&self) -> usize {
        self.reserve / 64
    }

    /// Takes `amount` at once; false when there is not enough or others were first.
    pub(super) fn try_take(&self, amount: usize, claim: Claim) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0 && self.subtract(amount, claim)
    }

    fn subtract(&self, amount: usize, claim: Claim) -> bool {
        let left = match claim {
            Claim::Small => 0,
            Claim::Any => self.reserve,
        };
        let take = |free: usize| free.checked_sub(amount).filter(|free| *free >= left);
        self.free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    }

    /// Gives `amount` back.
    pub(super) fn give(&self, amount: usize) {
        if amount == 0 {
            return;
        }
        // SeqCst here and in `wait`: either this sees the waiter or the waiter sees the bytes.
        self.free.fetch_add(amount, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.grant(&mut self.queue.lock());
        }
    }

    fn grant(&self, queue: &mut Queue) {
        for claim in [Claim::Small, Claim::Any] {
            while let Some(first) = queue.of(claim).front() {
                if !self.subtract(first.amount, claim) {
                    break;
                }
                let granted = queue.of(claim).pop_front();
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                if let Some(waker) = granted.and_then(|waiter| waiter.waker) {
                    waker.wake();
                }
            }
        }
    }

    /// Stands in the queue for `amount`, at most [`Budget::most`].
    pub(super) fn wait(self: &Arc<Self>, amount: usize, claim: Claim) -> Ticket {
        let amount = amount.min(self.most());
        let mut queue = self.queue.lock();
        let id = queue.next;
        queue.next += 1;
        queue.of(claim).push_back(Waiter { id, amount, waker: None });
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.grant(&mut queue);
        drop(queue);
        Ticket { budget: Arc::clone(self), claim, id, amount, taken: false }
    }

    /// True when somebody waits.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// The sum of what is waited for.
    pub(super) fn wanted(&self) -> usize {
        if !self.is_wanted() {
            return 0;
        }
        let queue = self.queue.lock();
        queue.small.iter().chain(&queue.any).fold(0, |sum, waiter| sum.saturating_add(waiter.amount))
    }
}

/// A place in the queue. Dropping it gives the place, or what was granted, back.
#[derive(Debug)]
pub(super) struct Ticket {
    budget: Arc<Budget>,
    claim: Claim,
    id: u64,
    amount: usize,
    taken: bool,
}

impl Ticket {
    /// Ready with the amount when it is granted; the caller then owes it to the budget.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<usize> {
        let mut queue = self.budget.queue.lock();
        if let Some(at) = queue.position(self.claim, self.id)
            && let Some(waiter) = queue.of(self.claim).get_mut(at)
        {
            waiter.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.taken = true;
        Poll::Ready(self.amount)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let mut queue = self.budget.queue.lock();
        if let Some(at) = queue.position(self.claim, self.id) {
            queue.of(self.claim).remove(at);
            self.budget.waiting.fetch_sub(1, Ordering::SeqCst);
            self.budget.grant(&mut queue);
        } else {
            drop(queue);
            self.budget.give(self.amount);
        }
    }
}

/// Bytes taken from a budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    budget: Arc<Budget>,
    amount: usize,
}

impl Lease {
    /// Takes over `amount`, which was taken from `budget` already.
    pub(super) fn of(budget: &Arc<Budget>, amount: usize) -> Self {
        Self { budget: Arc::clone(budget), amount }
    }

    /// Hands the amount over to the caller, who now owes it to the budget.
    pub(super) fn release(mut self) -> usize {
        std::mem::take(&mut self.amount)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.give(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(ticket: &mut Ticket) -> bool {
        ticket.poll(&Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn no_more_than_the_total_is_taken() {
        let budget = Budget::new(100, 0);
        assert!(
            budget.try_take(60, Claim::Any)
                && !budget.try_take(41, Claim::Any)
                && budget.try_take(40, Claim::Any)
        );
        budget.give(60);
        assert!(budget.try_take(60, Claim::Any));
    }

    #[test]
    fn waiters_are_served_in_order_and_not_overtaken() {
        let budget = Budget::new(100, 0);
        assert!(budget.try_take(90, Claim::Any));
        let mut large = budget.wait(50, Claim::Any);
        let mut small = budget.wait(5, Claim::Any);
        assert!(!ready(&mut large) && !ready(&mut small));
        assert!(!budget.try_take(1, Claim::Any), "a newcomer must not overtake");
        assert_eq!(budget.wanted(), 55);
        budget.give(40);
        assert!(ready(&mut large) && !ready(&mut small));
        budget.give(5);
        assert!(ready(&mut small));
        assert_eq!(budget.wanted(), 0);
    }

    #[test]
    fn a_dropped_ticket_lets_the_next_pass_and_loses_nothing() {
        let budget = Budget::new(100, 0);
        assert!(budget.try_take(50, Claim::Any));
        let large = budget.wait(80, Claim::Any);
        let mut small = budget.wait(50, Claim::Any);
        assert!(!ready(&mut small));
        drop(large);
        assert!(ready(&mut small));
        let granted = budget.wait(10, Claim::Any);
        budget.give(100);
        drop(granted);
        assert!(budget.try_take(100, Claim::Any) && !budget.try_take(1, Claim::Any));
    }

    #[test]
    fn more_than_the_total_waits_for_all_of_it() {
        let budget = Budget::new(100, 0);
        assert!(budget.try_take(1, Claim::Any));
        let mut all = budget.wait(1000, Claim::Any);
        assert!(!ready(&mut all));
        budget.give(1);
        assert_eq!(all.poll(&Context::from_waker(Waker::noop())), Poll::Ready(100));
    }

    #[test]
    fn small_claims_have_a_reserve_and_go_first() {
        let budget = Budget::new(6500, 6400);
        assert_eq!((budget.most(), budget.small_max()), (100, 100));
        assert!(budget.try_take(100, Claim::Any) && !budget.try_take(1, Claim::Any));
        let mut any = budget.wait(10, Claim::Any);
        assert!(!ready(&mut any));
        assert!((0..64).all(|_| ready(&mut budget.wait(100, Claim::Small))), "who waits does not stop them");
        let mut small = budget.wait(100, Claim::Small);
        assert!(!ready(&mut small));
        assert_eq!(budget.wanted(), 110);
        budget.give(100);
        assert!(ready(&mut small) && !ready(&mut any));
        budget.give(6400);
        assert!(!ready(&mut any), "the reserve is filled first");
        budget.give(10);
        assert!(ready(&mut any) && !budget.is_wanted());
    }

    #[test]
    fn a_lease_is_given_back_once() {
        let budget = Budget::new(10, 0);
        assert!(budget.try_take(10, Claim::Any));
        drop(Lease::of(&budget, 4));
        assert_eq!(Lease::of(&budget, 6).release(), 6);
        assert!(budget.try_take(4, Claim::Any) && !budget.try_take(1, Claim::Any));
    }

    #[test]
    fn threads_that_take_and_give_lose_nothing_and_none_hangs() {
        let budget = Budget::new(10, 0);
        std::thread::scope(|scope| {
            for n in 1..=4 {
                let budget = &budget;
                scope.spawn(move || {
                    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
                    for _ in 0..2000 {
                        if !budget.try_take(n * 2, Claim::Any) {
                            let mut ticket = budget.wait(n * 2, Claim::Any);
                            while ticket.poll(&Context::from_waker(&waker)).is_pending() {
                                std::thread::park();
                            }
                        }
                        budget.give(n * 2);
                    }
                });
            }
        });
        assert!(budget.try_take(10, Claim::Any) && !budget.is_wanted());
    }

    struct Unpark(std::thread::Thread);

    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
}
