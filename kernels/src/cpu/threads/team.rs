//! The helpers behind [`super::Threads`]: a fork and join of about a microsecond.
//!
//! One word, the *gate*, holds the number of the current job, whether it is open, and how many
//! helpers are inside. A helper joins by counting itself in while the gate is open; the caller
//! works along, closes the gate when no task is left to begin, and waits only for those inside. So
//! a helper that wakes late, or never gets a core, delays nobody.
//!
//! Between jobs helpers watch the gate for a moment, because the next kernel usually follows within
//! microseconds and waking a sleeping thread takes tens of them; then they sleep.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;

/// The gate: helpers inside in the low bits, then the open flag, then the job's number.
const OPEN: usize = 1 << 15;
const INSIDE: usize = OPEN - 1;
const JOB: usize = OPEN << 1;

/// Looks at the gate before a helper sleeps: about 50 us, the last of them giving way to others.
const LOOKS: usize = 2000;
const LOOKS_BEFORE_YIELDING: usize = 1000;

/// The tasks of one call of `run`.
#[derive(Clone, Copy)]
struct Job {
    count: usize,
    task: *const (dyn Fn(usize) + Sync),
}

struct Board {
    gate: AtomicUsize,
    job: UnsafeCell<Option<Job>>,
    /// The next task to begin.
    next: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Helpers asleep, or about to be.
    asleep: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
}

// SAFETY: `job` is written by the one caller that holds `Team::turn`, while the gate is closed and
// nobody is inside; helpers read it only inside. The task is `Sync` and lives until nobody is.
unsafe impl Sync for Board {}
// SAFETY: as above; nothing is tied to the thread that made it.
unsafe impl Send for Board {}

/// Helper threads.
pub(super) struct Team {
    board: Arc<Board>,
    /// Held by the caller whose job is on the board.
    turn: Mutex<()>,
    helpers: Vec<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No user code runs under these locks, so a poisoned one still guards a sound value.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Team {
    pub(super) fn new(helpers: usize) -> std::io::Result<Self> {
        let board = Arc::new(Board {
            gate: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            panic: Mutex::new(None),
            asleep: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let mut team = Self { board, turn: Mutex::new(()), helpers: Vec::new() };
        for i in 1..=helpers {
            let board = team.board.clone();
            let thread = std::thread::Builder::new().name(format!("slimpipe-helper-{i}"));
            team.helpers.push(thread.spawn(move || board.help())?);
        }
        Ok(team)
    }

    pub(super) fn helpers(&self) -> usize {
        self.helpers.len()
    }

    pub(super) fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        let turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return (0..count).for_each(task),
        };
        let board = &*self.board;
        // SAFETY: only the lifetime changes; this call returns only when nobody is inside any more.
        let task = unsafe {
            std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(task)
        };
        // SAFETY: the gate is closed and nobody inside, and it is this caller's turn.
        unsafe { *board.job.get() = Some(Job { count, task }) };
        board.next.store(0, Ordering::Relaxed);
        board.gate.fetch_add(JOB | OPEN, Ordering::SeqCst);
        if board.asleep.load(Ordering::SeqCst) > 0 {
            drop(lock(&board.sleep));
            board.wake.notify_all();
        }
        board.work(Job { count, task });
        board.gate.fetch_and(!OPEN, Ordering::AcqRel);
        let mut looks = 0;
        while board.gate.load(Ordering::Acquire) & INSIDE > 0 {
            pause(looks);
            looks += 1;
        }
        let panic = lock(&board.panic).take();
        drop(turn);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.board.stop.store(true, Ordering::SeqCst);
        drop(lock(&self.board.sleep));
        self.board.wake.notify_all();
        for helper in self.helpers.drain(..) {
            // A helper catches what tasks throw and has nothing to report.
            let _ = helper.join();
        }
    }
}

/// Waits a little: first on the core, later letting other threads have it.
fn pause(looks: usize) {
    if looks < LOOKS_BEFORE_YIELDING { std::hint::spin_loop() } else { std::thread::yield_now() }
}

impl Board {
    /// Runs tasks until none is left to begin. A panic is kept for the caller of `run`, and the
    /// tasks not yet begun stay undone.
    fn work(&self, job: Job) {
        // SAFETY: the caller of `run` keeps the task alive until nobody is inside.
        let task = unsafe { &*job.task };
        let tasks = || {
            loop {
                let index = self.next.fetch_add(1, Ordering::Relaxed);
                if index >= job.count {
                    return;
                }
                task(index);
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(tasks)) {
            self.next.store(usize::MAX / 2, Ordering::Relaxed);
            lock(&self.panic).get_or_insert(panic);
        }
    }

    /// A helper's life.
    fn help(&self) {
        let mut last = 0;
        while let Some(number) = self.join(last) {
            last = number;
            // SAFETY: this helper is inside, so the job stays as it is.
            if let Some(job) = unsafe { *self.job.get() } {
                self.work(job);
            }
            self.gate.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Waits for an open job other than number `last` and counts itself in; none when the team ends.
    fn join(&self, last: usize) -> Option<usize> {
        let mut looks = 0;
        loop {
            let gate = self.gate.load(Ordering::Acquire);
            if gate & OPEN > 0 && gate / JOB != last {
                let inside = gate + 1;
                if self
                    .gate
                    .compare_exchange(gate, inside, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
                {
                    return Some(gate / JOB);
                }
                continue;
            }
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if looks < LOOKS {
                pause(looks);
                looks += 1;
            } else {
                self.sleep(last);
                looks = 0;
            }
        }
    }

    fn sleep(&self, last: usize) {
        let mut guard = lock(&self.sleep);
        self.asleep.fetch_add(1, Ordering::SeqCst);
        // A caller opens the gate first and looks for sleepers then, so one of the two sees the other.
        let idle = |board: &Self| {
            let gate = board.gate.load(Ordering::SeqCst);
            (gate & OPEN == 0 || gate / JOB == last) && !board.stop.load(Ordering::SeqCst)
        };
        while idle(self) {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.fetch_sub(1, Ordering::SeqCst);
    }
}
