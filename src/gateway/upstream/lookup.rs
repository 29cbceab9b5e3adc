//! Looking names up, so that a dead resolver harms nobody but those who need it.
//!
//! The operating system's resolver blocks a thread for as long as it likes (glibc: some 10 s for each dead server), also when nobody waits
//! any more. The same threads read credentials, so of a worker's ([`crate::gateway::workers`]) the resolver never gets more than
//! [`LOOKUPS_MAX`]; who finds none waits, and fails when `upstream.connect_timeout` is over, which its caller sees to.
//!
//! A fleet asks for one name: whoever comes while that is being looked up gets the same answer. A look-up that takes longer than
//! [`JOIN_FOR`] is not joined any more but begun a second time, at most [`EACH_MAX`] times at once for one name, so that one dead domain
//! leaves threads for the others. Nothing is kept once it is answered: how long a name is good for is the resolver's business.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// Most look-ups at once, in the whole program: half of one worker's blocking threads.
pub(super) const LOOKUPS_MAX: usize = 8;
/// Most look-ups at once of one name.
const EACH_MAX: usize = 2;
/// How long a look-up may have taken when somebody joins it; glibc asks the next server after 5 s (resolv.conf(5), `timeout`).
const JOIN_FOR: Duration = Duration::from_secs(5);
/// Most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;

/// A name's addresses, or what the resolver says.
type Answer = Result<Vec<SocketAddr>, Arc<io::Error>>;
type Resolve = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

#[derive(Debug)]
struct Running {
    since: Instant,
    count: usize,
    answer: watch::Receiver<Option<Answer>>,
}

/// All look-ups that are under way.
pub(super) struct Lookups {
    permits: Arc<Semaphore>,
    running: Arc<Mutex<HashMap<String, Running>>>,
    resolve: Arc<Resolve>,
}

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookups")
            .field("free", &self.permits.available_permits())
            .finish()
    }
}

/// The program's, with the operating system's resolver.
static SYSTEM: LazyLock<Lookups> =
    LazyLock::new(|| Lookups::with(|name| Ok(name.to_socket_addrs()?.take(ADDRESSES_MAX).collect())));

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lookups {
    /// The program's.
    pub(super) fn system() -> &'static Self {
        &SYSTEM
    }

    pub(super) fn with(resolve: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            running: Arc::default(),
            resolve: Arc::new(resolve),
        }
    }

    /// The addresses of `HOST:PORT`. An IP address is its own answer. May wait for ever: the caller has a deadline.
    pub(super) async fn find(&self, target: &str) -> Answer {
        if let Ok(address) = target.parse() {
            return Ok(vec![address]);
        }
        let joined = self.join(target);
        let mut answer = match joined {
            Some(answer) => answer,
            None => self.begin(target).await,
        };
        let gone = || Err(Arc::new(io::Error::other("the look-up broke off")));
        match answer.wait_for(Option::is_some).await {
            Ok(found) => found.clone().unwrap_or_else(gone),
            Err(_) => gone(),
        }
    }

    fn join(&self, target: &str) -> Option<watch::Receiver<Option<Answer>>> {
        let running = held(&self.running);
        let there = running.get(target)?;
        let young = there.since.elapsed() < JOIN_FOR && there.answer.borrow().is_none();
        (young || there.count >= EACH_MAX).then(|| there.answer.clone())
    }

    async fn begin(&self, target: &str) -> watch::Receiver<Option<Answer>> {
        let permit = self.permits.clone().acquire_owned().await;
        // Somebody else may have begun meanwhile.
        if let Some(answer) = self.join(target) {
            return answer;
        }
        let (tell, answer) = watch::channel(None);
        {
            let mut running = held(&self.running);
            let count = running.get(target).map_or(0, |r| r.count) + 1;
            let now = Running {
                since: Instant::now(),
                count,
                answer: answer.clone(),
            };
            running.insert(target.to_owned(), now);
        }
        let over = Over {
            running: self.running.clone(),
            name: target.to_owned(),
        };
        let resolve = self.resolve.clone();
        tokio::task::spawn_blocking(move || {
            let found = resolve(&over.name).map_err(Arc::new);
            drop(over);
            let _ = tell.send(Some(found));
            // Not before the thread is free, whoever still waits.
            drop(permit);
        });
        answer
    }
}

/// Takes a look-up from the list, also when it panics or its runtime ends before it begins.
struct Over {
    running: Arc<Mutex<HashMap<String, Running>>>,
    name: String,
}

impl Drop for Over {
    fn drop(&mut self) {
        let mut running = held(&self.running);
        if let Some(there) = running.get_mut(&self.name) {
            there.count -= 1;
            if there.count == 0 {
                running.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use tokio::time::timeout;

    use super::*;

    /// A resolver that hangs until it is let go, and counts.
    #[derive(Default)]
    struct Dead {
        begun: AtomicUsize,
        go: Mutex<bool>,
        told: Condvar,
    }

    impl Dead {
        fn let_go(&self) {
            *held(&self.go) = true;
            self.told.notify_all();
        }

        fn lookups(self: &Arc<Self>) -> Arc<Lookups> {
            let dead = self.clone();
            Arc::new(Lookups::with(move |_| {
                dead.begun.fetch_add(1, Relaxed);
                let mut go = held(&dead.go);
                while !*go {
                    go = dead.told.wait(go).unwrap_or_else(PoisonError::into_inner);
                }
                Ok(vec![([192, 0, 2, 1], 8883).into()])
            }))
        }
    }

    /// A worker's runtime: as many blocking threads as one has.
    fn worker() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(16)
            .build()
            .unwrap()
    }

    #[test]
    fn a_dead_resolver_leaves_threads_for_files_and_fails_in_time() {
        let dead = Arc::new(Dead::default());
        let lookups = dead.lookups();
        worker().block_on(async {
            let patience = Duration::from_millis(300);
            let waiting: Vec<_> = (0..100)
                .map(|n| {
                    let lookups = lookups.clone();
                    tokio::spawn(async move { timeout(patience, lookups.find(&format!("h{n}.example:1"))).await })
                })
                .collect();
            while dead.begun.load(Relaxed) < LOOKUPS_MAX {
                tokio::task::yield_now().await;
            }
            // Files are read while all of them hang, and an IP address needs no resolver.
            assert_eq!(tokio::task::spawn_blocking(|| 7).await.unwrap(), 7);
            let ip = lookups.find("[2001:db8::1]:8883").await.unwrap();
            assert_eq!(ip, ["[2001:db8::1]:8883".parse().unwrap()]);
            for waiter in waiting {
                assert!(waiter.await.unwrap().is_err(), "its own deadline ends the wait");
            }
            // Nobody waits any more; the threads still hang, and nobody gets another.
            assert_eq!(dead.begun.load(Relaxed), LOOKUPS_MAX);
            assert_eq!(lookups.permits.available_permits(), 0);
            dead.let_go();
            // All is well again.
            let found = lookups.find("late.example:1").await.unwrap();
            assert_eq!(found, [([192, 0, 2, 1], 8883).into()]);
            while lookups.permits.available_permits() < LOOKUPS_MAX {
                tokio::task::yield_now().await;
            }
            assert!(held(&lookups.running).is_empty());
        });
    }

    #[test]
    fn a_fleet_asks_once() {
        let dead = Arc::new(Dead::default());
        let lookups = dead.lookups();
        worker().block_on(async {
            let ask = |_| {
                let lookups = lookups.clone();
                tokio::spawn(async move { lookups.find("one.example:1").await })
            };
            let waiting: Vec<_> = (0..50).map(ask).collect();
            while dead.begun.load(Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
            dead.let_go();
            for waiter in waiting {
                assert_eq!(waiter.await.unwrap().unwrap().len(), 1);
            }
            assert_eq!(dead.begun.load(Relaxed), 1);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn one_dead_name_takes_two_threads_at_most() {
        let dead = Arc::new(Dead::default());
        let lookups = dead.lookups();
        for n in 1..=4 {
            let here = lookups.clone();
            let asked = tokio::spawn(async move { here.find("dead.example:1").await });
            while dead.begun.load(Relaxed) < EACH_MAX.min(n) {
                tokio::task::yield_now().await;
            }
            tokio::time::advance(JOIN_FOR).await;
            assert!(!asked.is_finished());
            asked.abort();
        }
        assert_eq!(lookups.permits.available_permits(), LOOKUPS_MAX - EACH_MAX);
        dead.let_go();
    }

    #[tokio::test]
    async fn what_the_resolver_says_is_told() {
        let lookups = Lookups::with(|_| Err(io::Error::other("no such name")));
        assert_eq!(
            lookups.find("x.example:1").await.unwrap_err().to_string(),
            "no such name"
        );
    }
}
