//! A team of threads that share the tasks of one kernel.
//!
//! The calling thread always takes part, so a team of one costs nothing and a rank thread never
//! becomes a pool worker. Tasks are numbered by the shape of the problem; which thread runs a task
//! is left to timing, what a task computes is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A fixed number of threads: the caller plus `size - 1` pool workers. Cheap to clone.
#[derive(Clone, Default)]
pub struct Threads {
    helpers: Option<Arc<rayon::ThreadPool>>,
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Threads({})", self.size())
    }
}

impl Threads {
    /// A team of `size` threads, the caller included; 0 counts as 1.
    ///
    /// # Errors
    /// The operating system refused to start a thread.
    pub fn new(size: usize) -> std::io::Result<Self> {
        if size <= 1 {
            return Ok(Self::default());
        }
        rayon::ThreadPoolBuilder::new()
            .num_threads(size - 1)
            .thread_name(|i| format!("slimpipe-helper-{}", i + 1))
            .build()
            .map(|pool| Self { helpers: Some(Arc::new(pool)) })
            .map_err(std::io::Error::other)
    }

    /// Number of threads in the team, the caller included.
    pub fn size(&self) -> usize {
        1 + self.helpers.as_ref().map_or(0, |pool| pool.current_num_threads())
    }

    /// Runs `task(0)`, ..., `task(count - 1)`, each exactly once, and returns when all are done.
    ///
    /// A panic in a task reaches the caller after the other tasks ended.
    pub fn run(&self, count: usize, task: impl Fn(usize) + Sync) {
        let Some(pool) = self.helpers.as_ref().filter(|_| count > 1) else {
            (0..count).for_each(task);
            return;
        };
        let next = AtomicUsize::new(0);
        let drain = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return;
                }
                task(index);
            }
        };
        pool.in_place_scope(|scope| {
            for _ in 1..self.size().min(count) {
                scope.spawn(|_| drain());
            }
            drain();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_exactly_once_on_any_team() {
        for size in [0, 1, 2, 5] {
            let team = Threads::new(size).unwrap();
            assert_eq!(team.size(), size.max(1));
            let hits: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
            team.run(100, |i| {
                hits[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1));
        }
    }
}
