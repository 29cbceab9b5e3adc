//! The threads that serve devices: each runs one core's share of the connections on a runtime of its own.
//!
//! A connection stays on the thread it was given to, from its first byte to its last. Nothing of it is ever waited for by another thread,
//! so a message costs no hand-over between cores, and the read buffers can belong to the thread ([`super::relay`]). A thread that serves
//! the fewest connections gets the next one.
//!
//! The connection's task may ask anything of the rest of the program (the book, the store): channels and pools work from any runtime. What
//! blocks goes to the runtime's own blocking threads, at most [`BLOCKING_MAX`] for each worker.
//!
//! A task that panics ends its own connection: the runtime catches it, and what the task held (its place, its entry in the status) is
//! given back as the stack unwinds.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Most workers (`listen.workers`).
pub const WORKERS_MAX: usize = 256;
/// Threads of one worker that may wait for files or for the resolver at once.
const BLOCKING_MAX: usize = 16;
/// How long a blocking thread waits for more to do.
const BLOCKING_KEEP: Duration = Duration::from_secs(2);
/// How long the threads may take to end once their connections have.
const END_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// How many connections it serves.
    load: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

/// The threads that serve devices.
#[derive(Debug)]
pub struct Workers {
    list: Vec<Worker>,
    tasks: TaskTracker,
    end: CancellationToken,
}

/// Takes one from a worker's load when the task is gone, however it went.
struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Workers {
    /// Starts `count` threads; 0 is one for each core this program may use.
    ///
    /// # Errors
    /// What the operating system says to a new thread or a new poller.
    pub fn start(count: usize) -> io::Result<Self> {
        let count = match count {
            0 => std::thread::available_parallelism()
                .map_or(1, usize::from)
                .min(WORKERS_MAX),
            n => n,
        };
        let mut workers = Self {
            list: Vec::with_capacity(count),
            tasks: TaskTracker::new(),
            end: CancellationToken::new(),
        };
        for n in 0..count {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .on_thread_park(super::pace::gather)
                .max_blocking_threads(BLOCKING_MAX)
                .thread_keep_alive(BLOCKING_KEEP)
                .thread_name(format!("relay-{n}-files"))
                .build()?;
            let (handle, end) = (runtime.handle().clone(), workers.end.clone());
            let thread = std::thread::Builder::new().name(format!("relay-{n}")).spawn(move || {
                runtime.block_on(end.cancelled());
                // A file system that hangs does not hold the program up.
                runtime.shutdown_background();
            })?;
            workers.list.push(Worker {
                runtime: handle,
                load: Arc::default(),
                thread,
            });
        }
        Ok(workers)
    }

    /// How many threads there are.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.list.len()
    }

    /// How many tasks have not ended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether nobody is served.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Gives one connection's task to the thread that has the fewest. Sockets must be made for that thread's runtime inside the task
    /// (`TcpStream::from_std`).
    pub fn give(&self, task: impl Future<Output = ()> + Send + 'static) {
        let Some(worker) = self.list.iter().min_by_key(|w| w.load.load(Relaxed)) else {
            return;
        };
        worker.load.fetch_add(1, Relaxed);
        let load = Load(worker.load.clone());
        let task = async move {
            let _load = load;
            task.await;
        };
        self.tasks.spawn_on(task, &worker.runtime);
    }

    /// Waits until every task has ended, at most `patience`; answers how many have not.
    pub async fn wait(&self, patience: Duration) -> usize {
        self.tasks.close();
        let _ = tokio::time::timeout(patience, self.tasks.wait()).await;
        self.tasks.len()
    }

    /// Ends the threads; what still runs is dropped where it stands. Answers how many tasks that were.
    pub async fn stop(mut self) -> usize {
        // Counted before: a thread may be gone, and its tasks with it, by the next line.
        let left = self.tasks.len();
        self.end.cancel();
        let threads: Vec<_> = self.list.drain(..).map(|w| w.thread).collect();
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().filter_map(|t| t.join().err()).count());
        let _ = tokio::time::timeout(END_TIMEOUT, joined).await;
        left
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::mpsc;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn the_unit_allows_the_threads_that_may_be() {
        /// Blocking threads of the program's other runtime (tokio's default).
        const OTHERS: usize = 512;
        let unit = include_str!("../../systemd/onyx-gateway.service");
        let tasks = unit.lines().find_map(|l| l.strip_prefix("TasksMax="));
        let tasks: usize = tasks.unwrap().parse().unwrap();
        assert!(
            tasks >= WORKERS_MAX * (1 + BLOCKING_MAX) + OTHERS + WORKERS_MAX,
            "{tasks}"
        );
        assert!(unit.contains(&format!("at most\n# {WORKERS_MAX}")) && unit.contains(&format!("{BLOCKING_MAX} more")));
    }

    #[tokio::test]
    async fn connections_are_shared_out_and_stay_where_they_are() {
        let workers = Workers::start(3).unwrap();
        let (seen, names) = mpsc::channel();
        let release = CancellationToken::new();
        for _ in 0..9 {
            let (seen, release) = (seen.clone(), release.clone());
            workers.give(async move {
                let before = std::thread::current().name().map(str::to_owned);
                seen.send(before.clone()).unwrap();
                release.cancelled().await;
                assert_eq!(before.as_deref(), std::thread::current().name());
            });
        }
        let names = tokio::task::spawn_blocking(move || {
            let mut count = BTreeMap::new();
            for name in names.iter().take(9) {
                *count.entry(name.unwrap()).or_insert(0) += 1;
            }
            count
        });
        let want = [("relay-0", 3), ("relay-1", 3), ("relay-2", 3)].map(|(n, c)| (n.to_owned(), c));
        assert_eq!(names.await.unwrap(), want.into());
        assert_eq!((workers.threads(), workers.len()), (3, 9));
        release.cancel();
        assert_eq!(workers.wait(SOON).await, 0);
        assert_eq!(workers.stop().await, 0);
    }

    #[tokio::test]
    async fn a_panic_ends_one_task_and_gives_its_place_back() {
        let workers = Workers::start(1).unwrap();
        workers.give(async { panic!("on purpose") });
        let (done, wait) = tokio::sync::oneshot::channel();
        workers.give(async move {
            // The runtime of a worker has timers and blocking threads of its own.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let n = tokio::task::spawn_blocking(|| 7).await.unwrap();
            done.send(n).unwrap();
        });
        assert_eq!(wait.await.unwrap(), 7);
        assert_eq!(workers.wait(SOON).await, 0);
        assert_eq!(workers.list[0].load.load(Relaxed), 0);
        assert!(workers.is_empty());
    }

    #[tokio::test]
    async fn the_end_waits_for_nobody_for_ever() {
        let workers = Workers::start(2).unwrap();
        let (dropped, gone) = tokio::sync::oneshot::channel::<()>();
        workers.give(async move {
            let _dropped = dropped;
            std::future::pending::<()>().await;
        });
        assert_eq!(workers.wait(Duration::from_millis(20)).await, 1);
        assert_eq!(workers.stop().await, 1);
        assert!(gone.await.is_err(), "what was left is dropped");
    }
}
