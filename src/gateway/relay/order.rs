//! What a connection is told from outside: that it has to end, and why. The one that tells need not wait, and the one that is told pays nothing
//! for it while it is not: a load of one byte each time it is woken.

use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use crate::gateway::subscriber::Bar;

/// That a connection has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The gateway stops: what upstream owes the device comes first.
    Drain,
    /// The subscriber may not be connected any more.
    Leave(Bar),
    /// The gateway stops and waits no longer.
    Now,
}

impl Order {
    /// A later order goes before an earlier one with a smaller number.
    fn number(self) -> u8 {
        match self {
            Self::Drain => 1,
            Self::Leave(Bar::Removed) => 2,
            Self::Leave(Bar::Disabled) => 3,
            Self::Leave(Bar::Locked) => 4,
            Self::Now => 5,
        }
    }

    fn of(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Drain,
            2 => Self::Leave(Bar::Removed),
            3 => Self::Leave(Bar::Disabled),
            4 => Self::Leave(Bar::Locked),
            5 => Self::Now,
            _ => return None,
        })
    }
}

/// One connection's orders. They may be given before it is relayed; it finds them then.
#[derive(Debug, Default)]
pub struct Orders {
    highest: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

impl Orders {
    /// Gives one, and wakes the connection.
    pub fn give(&self, order: Order) {
        let before = self.highest.fetch_max(order.number(), SeqCst);
        if before < order.number() {
            let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Who is woken from now on. To be followed by [`Self::standing`].
    pub(super) fn wake(&self, waker: &Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    /// The order that stands.
    pub(super) fn standing(&self) -> Option<Order> {
        Order::of(self.highest.load(SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn the_weightier_order_stands_and_wakes_once() {
        let (orders, count) = (Orders::default(), Arc::new(Count::default()));
        assert_eq!(orders.standing(), None);
        orders.give(Order::Drain);
        assert_eq!(orders.standing(), Some(Order::Drain), "also before anybody listens");
        orders.wake(&count.clone().into());
        orders.give(Order::Drain);
        assert_eq!(count.0.load(SeqCst), 0, "nothing new");
        for bar in [Bar::Removed, Bar::Disabled, Bar::Locked] {
            orders.give(Order::Leave(bar));
            assert_eq!(orders.standing(), Some(Order::Leave(bar)));
        }
        orders.give(Order::Drain);
        assert_eq!(orders.standing(), Some(Order::Leave(Bar::Locked)));
        orders.give(Order::Now);
        assert_eq!((orders.standing(), count.0.load(SeqCst)), (Some(Order::Now), 4));
    }
}
