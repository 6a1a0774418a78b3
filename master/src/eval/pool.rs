//! Threads of the engine's own, and a queue of bounded length before them.
//!
//! They are not those of the runtime: a formula that takes its 35 ms must not hold up what serves everybody else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

/// A piece of work.
pub(super) type Task = Box<dyn FnOnce() + Send>;

/// The threads; they start with the first task and end when the pool is dropped.
pub(super) struct Pool {
    threads: usize,
    queue_max: usize,
    queue: OnceLock<SyncSender<Task>>,
}

impl Pool {
    pub(super) fn new(threads: usize, queue_max: usize) -> Self {
        Self { threads, queue_max, queue: OnceLock::new() }
    }

    /// Queues a task; false where the queue is full.
    pub(super) fn run(&self, task: Task) -> bool {
        self.queue.get_or_init(|| self.start()).try_send(task).is_ok()
    }

    fn start(&self) -> SyncSender<Task> {
        let (sender, receiver) = sync_channel(self.queue_max);
        let receiver = Arc::new(Mutex::new(receiver));
        for index in 0..self.threads {
            let receiver = Arc::clone(&receiver);
            let thread = thread::Builder::new().name(format!("eval-{index}")).spawn(move || work(&receiver));
            if let Err(error) = thread {
                // With none at all the queue is closed, and every request is told to try again.
                tracing::error!(%error, "thread for evaluations not started");
            }
        }
        sender
    }
}

fn work(receiver: &Mutex<Receiver<Task>>) {
    loop {
        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(task) = next else { return };
        // The panic's message is on stderr; whoever waits for the task sees its reply gone.
        if catch_unwind(AssertUnwindSafe(task)).is_err() {
            tracing::error!("an evaluation hit a defect");
        }
    }
}
