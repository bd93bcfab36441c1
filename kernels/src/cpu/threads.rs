//! A team of threads that share the tasks of one kernel.
//!
//! The calling thread always takes part, so a team of one costs nothing and a rank thread never
//! becomes a pool worker. Tasks are numbered by the shape of the problem; which thread runs a task
//! is left to timing, what a task computes is not.

mod team;

use std::sync::Arc;

use team::Team;

/// A fixed number of threads: the caller plus `size - 1` helpers. Cheap to clone.
///
/// A team works on one kernel at a time: while it does, another thread's call (or a call from
/// inside a task) runs alone, with the same results.
#[derive(Clone, Default)]
pub struct Threads {
    helpers: Option<Arc<Team>>,
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
        let helpers = if size > 1 { Some(Arc::new(Team::new(size - 1)?)) } else { None };
        Ok(Self { helpers })
    }

    /// Number of threads in the team, the caller included.
    pub fn size(&self) -> usize {
        1 + self.helpers.as_ref().map_or(0, |team| team.helpers())
    }

    /// Runs `task(0)`, ..., `task(count - 1)`, each exactly once, and returns when all are done.
    /// Tasks begin in the order of their numbers.
    ///
    /// A panic in a task reaches the caller after the other threads stopped.
    pub fn run(&self, count: usize, task: impl Fn(usize) + Sync) {
        match &self.helpers {
            Some(team) if count > 1 => team.run(count, &task),
            _ => (0..count).for_each(task),
        }
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
    /// Where element `index` would be.
    pub(crate) fn at(&self, index: usize) -> *mut T {
        self.0.wrapping_add(index)
    }

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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_task_runs_exactly_once_on_any_team() {
        for size in [0, 1, 2, 5] {
            let team = Threads::new(size).unwrap();
            assert_eq!(team.size(), size.max(1));
            for count in [0, 1, 2, 100] {
                let hits: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                team.run(count, |i| {
                    hits[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn many_short_jobs_with_pauses_lose_no_task() {
        let team = Threads::new(3).unwrap();
        let total = AtomicUsize::new(0);
        for job in 0..2000usize {
            team.run(7, |i| {
                total.fetch_add(i, Ordering::Relaxed);
            });
            // Some pauses are long enough for helpers to fall asleep.
            if job.is_multiple_of(500) {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
        assert_eq!(total.into_inner(), 2000 * 21);
    }

    #[test]
    fn calls_from_several_threads_and_from_inside_a_task_work() {
        let team = Threads::new(3).unwrap();
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        team.run(4, |_| {
                            team.run(5, |i| {
                                total.fetch_add(i, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 4 * 50 * 4 * 10);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_works_on() {
        let team = Threads::new(3).unwrap();
        for culprit in 0..20 {
            let run = std::panic::AssertUnwindSafe(|| {
                team.run(20, |i| assert!(i != culprit, "task {culprit} fails"));
            });
            let panic = std::panic::catch_unwind(run).unwrap_err();
            let message = panic.downcast_ref::<String>().unwrap();
            assert!(message.contains(&format!("task {culprit} fails")), "{message}");
            let total = AtomicUsize::new(0);
            team.run(10, |i| {
                total.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(total.into_inner(), 45);
        }
    }
}
