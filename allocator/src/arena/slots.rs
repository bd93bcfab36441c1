/// Equal slots, one per unit in flight. The slot freed last is taken first: its lines are warm.
#[derive(Debug, Default)]
pub struct Slots {
    stride: u64,
    count: u64,
    free: Vec<u64>,
}

impl Slots {
    /// Slots of `stride` bytes each.
    pub fn new(stride: u64) -> Self {
        Self { stride, count: 0, free: Vec::new() }
    }

    /// The offset of a free slot.
    pub fn take(&mut self) -> u64 {
        self.free.pop().unwrap_or_else(|| {
            self.count += 1;
            (self.count - 1) * self.stride
        })
    }

    /// Where the region would end after taking a slot.
    pub fn end_with(&self) -> u64 {
        if self.free.is_empty() { (self.count + 1) * self.stride } else { self.end() }
    }

    /// Gives the slot at `offset` back.
    pub fn give(&mut self, offset: u64) {
        debug_assert!(!self.free.contains(&offset), "slot {offset} given back twice");
        self.free.push(offset);
    }

    /// Bytes of one slot.
    pub fn stride(&self) -> u64 {
        self.stride
    }

    /// Slots that are taken.
    pub fn taken(&self) -> u64 {
        self.count - self.free.len() as u64
    }

    /// How far the region must be committed.
    pub fn end(&self) -> u64 {
        self.count * self.stride
    }
}
