//! What the threads of this process do.

use procfs::process::Process;
use serde::Serialize;
use utoipa::ToSchema;

/// Threads that are listed at most.
const THREADS_MAX: usize = 1_000;

/// The threads of this process.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ThreadReport {
    /// Of this form.
    pub version: u32,
    /// How many there are.
    pub count: u64,
    /// The first of them, by id; those of a name are counted up by their owner.
    pub threads: Vec<ThreadView>,
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ThreadView {
    /// Its id, as the system knows it.
    pub id: i32,
    /// Its name, cut by the system to 15 bytes.
    pub name: String,
    /// `R` runs, `S` sleeps, `D` waits for a disk, and so on.
    #[schema(value_type = String)]
    pub state: char,
    /// CPU time in user mode.
    pub user_s: f64,
    /// CPU time in the kernel.
    pub system_s: f64,
}

impl ThreadReport {
    /// Of this process, now. A thread that ends meanwhile is left out.
    pub fn take() -> Self {
        let process = Process::myself();
        let count = process.as_ref().ok().and_then(|process| process.stat().ok()).map_or(0, |stat| stat.num_threads);
        let ticks_per_s = procfs::ticks_per_second().max(1) as f64;
        let tasks = process.and_then(|process| process.tasks()).into_iter().flatten().flatten();
        let mut threads: Vec<ThreadView> = tasks
            .filter_map(|task| task.stat().ok())
            .take(THREADS_MAX)
            .map(|stat| ThreadView {
                id: stat.pid,
                name: stat.comm,
                state: stat.state,
                user_s: stat.utime as f64 / ticks_per_s,
                system_s: stat.stime as f64 / ticks_per_s,
            })
            .collect();
        threads.sort_by_key(|thread| thread.id);
        Self { version: 1, count: u64::try_from(count).unwrap_or_default(), threads }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_thread_shows_with_its_name() {
        let (started, starts) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let named = std::thread::Builder::new().name("shown".into());
        let thread = named.spawn(move || {
            started.send(()).expect("a listener");
            // Ends when the other side is dropped.
            let _ = ends.recv();
        });
        starts.recv().expect("it runs");
        let report = ThreadReport::take();
        assert!(report.threads.iter().any(|thread| thread.name == "shown"), "{report:?}");
        assert!(report.count as usize >= 2, "{report:?}");
        drop(end);
        thread.expect("started").join().expect("ends");
    }
}
