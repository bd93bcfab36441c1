//! A second memory that copies nothing.

use std::io::{Error, Result};
use std::sync::{Arc, Mutex};

use slimpipe_allocator::offload::{Completion, CopyQueue, Move, Way};

use crate::device::FIRST;

/// A queue that notes what it is asked.
#[derive(Clone, Default)]
pub struct Queue {
    pub asked: Arc<Mutex<Vec<String>>>,
    pub fails: bool,
}

struct Noted {
    queue: Queue,
    way: Way,
}

impl CopyQueue for Queue {
    fn name(&self) -> String {
        "a queue".to_owned()
    }

    fn grow(&self, bytes: u64) -> Result<()> {
        self.asked.lock().unwrap().push(format!("grow {bytes}"));
        Ok(())
    }

    unsafe fn enqueue(&self, way: Way, moves: Vec<Move>) -> Arc<dyn Completion> {
        let places: Vec<_> = moves.iter().map(|to| (to.at, to.bytes)).collect();
        assert!(moves.iter().all(|to| to.address.addr().get() as u64 >= FIRST));
        self.asked.lock().unwrap().push(format!("{way:?} {places:?}"));
        Arc::new(Noted { queue: self.clone(), way })
    }
}

impl Completion for Noted {
    fn wait(&self) {
        self.queue.asked.lock().unwrap().push(format!("wait {:?}", self.way));
    }

    fn result(&self) -> Result<()> {
        if self.queue.fails { Err(Error::other("the copy failed")) } else { Ok(()) }
    }
}
