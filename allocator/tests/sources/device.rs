//! A device whose addresses are numbers.

use std::io::{Error, Result};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use slimpipe_allocator::Space;
use slimpipe_allocator::source::{Range, Source};

pub const DEVICE: Space = Space::Device(7);
pub const GRANULE: u64 = 1 << 20;
/// Where the device's addresses begin.
pub const FIRST: u64 = 0x7000_0000_0000;
/// Addresses of one range.
const ADDRESSES: u64 = 1 << 32;

/// A device of `room` bytes.
#[derive(Clone)]
pub struct Device {
    room: u64,
    state: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    ranges: u64,
    committed: u64,
    /// Address, byte and length of each fill.
    fills: Vec<(u64, u8, u64)>,
}

impl Device {
    pub fn new(room: u64) -> Self {
        Self { room, state: Arc::default() }
    }

    pub fn fills(&self) -> Vec<(u64, u8, u64)> {
        self.state.lock().unwrap().fills.clone()
    }
}

impl Source for Device {
    fn space(&self) -> Space {
        DEVICE
    }

    fn name(&self) -> &'static str {
        "the device"
    }

    fn granule(&self) -> u64 {
        GRANULE
    }

    fn keeps(&self) -> u64 {
        u64::MAX
    }

    fn reserve(&self) -> Result<Box<dyn Range>> {
        let mut seen = self.state.lock().unwrap();
        let start = FIRST + seen.ranges * ADDRESSES;
        seen.ranges += 1;
        Ok(Box::new(Reserved { device: self.clone(), start, committed: 0 }))
    }

    unsafe fn fill(&self, at: NonNull<u8>, byte: u8, bytes: u64) {
        self.state.lock().unwrap().fills.push((at.addr().get() as u64, byte, bytes));
    }
}

struct Reserved {
    device: Device,
    start: u64,
    committed: u64,
}

impl Range for Reserved {
    fn start(&self) -> NonNull<u8> {
        NonNull::new(std::ptr::without_provenance_mut(self.start as usize)).unwrap()
    }

    fn committed(&self) -> u64 {
        self.committed
    }

    fn commit(&mut self, bytes: u64) -> Result<()> {
        let end = bytes.next_multiple_of(GRANULE);
        if end > self.committed {
            let mut seen = self.device.state.lock().unwrap();
            let committed = seen.committed + end - self.committed;
            if committed > self.device.room {
                return Err(Error::other("it is full"));
            }
            (seen.committed, self.committed) = (committed, end);
        }
        Ok(())
    }

    fn release(&mut self, bytes: u64) {
        let end = bytes.next_multiple_of(GRANULE).min(self.committed);
        self.device.state.lock().unwrap().committed -= self.committed - end;
        self.committed = end;
    }
}
