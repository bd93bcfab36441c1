/// A frame of planned temporaries: blocks go to the offsets that their plan names, unless something
/// that outlived its plan is still there.
#[derive(Debug, Default)]
pub struct Frame {
    extent: u64,
    /// (offset, end) of live blocks, in no order. There are never many at once.
    live: Vec<(u64, u64)>,
}

impl Frame {
    /// Sets how far plans reach.
    pub fn set_extent(&mut self, extent: u64) {
        self.extent = extent;
    }

    /// How far plans reach: the frame is committed whole.
    pub fn extent(&self) -> u64 {
        self.extent
    }

    /// Whether nothing live lies within `size` bytes at `offset`.
    pub fn is_free(&self, offset: u64, size: u64) -> bool {
        self.live.iter().all(|&(start, end)| end <= offset || offset + size <= start)
    }

    /// Takes the block at `offset`, which must be free.
    pub fn take(&mut self, offset: u64, size: u64) {
        debug_assert!(self.is_free(offset, size), "two live blocks in one place");
        self.live.push((offset, offset + size));
    }

    /// Gives the block at `offset` back.
    pub fn give(&mut self, offset: u64) {
        // Most temporaries die in the reverse of the order they were made in.
        if let Some(at) = self.live.iter().rposition(|&(start, _)| start == offset) {
            self.live.swap_remove(at);
        }
    }

    /// How far live blocks reach: beyond it, nothing is needed.
    pub fn end(&self) -> u64 {
        self.live.iter().map(|&(_, end)| end).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_until_something_overlaps_it() {
        let mut frame = Frame::default();
        frame.take(128, 64);
        assert!(frame.is_free(64, 64) && frame.is_free(192, 64));
        assert!(!frame.is_free(64, 128) && !frame.is_free(128, 64) && !frame.is_free(0, 512));
        assert_eq!(frame.end(), 192);
        frame.give(128);
        assert!(frame.is_free(0, 512));
        assert_eq!(frame.end(), 0);
    }
}
