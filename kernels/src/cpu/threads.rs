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

    /// Cuts `data` into chunks of `size` (the last may be shorter) and runs `task(i, chunk i)` on each.
    ///
    /// # Panics
    /// `size` is 0.
    pub fn chunks<T: Send>(
        &self,
        data: &mut [T],
        size: usize,
        task: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let (len, base) = (data.len(), Shared(data.as_mut_ptr()));
        self.run(len.div_ceil(size), |i| {
            let start = i * size;
            // SAFETY: `run` calls each `i` once, so the chunks are disjoint parts of `data`, which is
            // borrowed mutably until all tasks are done.
            task(i, unsafe { base.part(start, size.min(len - start)) });
        });
    }

    /// As [`Threads::chunks`], with matching chunks of two slices.
    ///
    /// # Panics
    /// A size is 0, or the slices have different numbers of chunks.
    pub fn chunks2<A: Send, B: Send>(
        &self,
        (a, size_a): (&mut [A], usize),
        (b, size_b): (&mut [B], usize),
        task: impl Fn(usize, &mut [A], &mut [B]) + Sync,
    ) {
        let count = a.len().div_ceil(size_a);
        assert_eq!(
            count,
            b.len().div_ceil(size_b),
            "both slices must have the same number of chunks"
        );
        let (len_b, base) = (b.len(), Shared(b.as_mut_ptr()));
        self.chunks(a, size_a, |i, a| {
            let start = i * size_b;
            // SAFETY: as in `chunks`.
            task(i, a, unsafe { base.part(start, size_b.min(len_b - start)) });
        });
    }
}

/// A base pointer that tasks take disjoint parts of.
pub(crate) struct Shared<T>(pub(crate) *mut T);

// SAFETY: only a means to hand disjoint `&mut` parts of one slice to several threads.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Elements `start..start + len`.
    ///
    /// # Safety
    /// Inside the slice the pointer came from, and disjoint from every other part in use.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
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
