//! Buffers that kernels keep from call to call.

use std::ops::{Deref, DerefMut};

/// A cache line, which a register's or a tile row's load should not straddle.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// 32-bit words (u32 or f32) at the beginning of a cache line.
pub(crate) struct Buffer<W> {
    lines: Vec<Line>,
    len: usize,
    words: std::marker::PhantomData<W>,
}

impl<W> Default for Buffer<W> {
    fn default() -> Self {
        Self { lines: Vec::new(), len: 0, words: std::marker::PhantomData }
    }
}

impl<W: bytemuck::Pod> Buffer<W> {
    /// Makes the buffer `len` words long; what they hold is left over from earlier use.
    pub(crate) fn fit(&mut self, len: usize) -> &mut [W] {
        let lines = (len * size_of::<W>()).div_ceil(size_of::<Line>());
        if self.lines.len() < lines {
            self.lines.resize(lines, bytemuck::Zeroable::zeroed());
        }
        self.len = len;
        self
    }
}

impl<W: bytemuck::Pod> Deref for Buffer<W> {
    type Target = [W];

    fn deref(&self) -> &[W] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl<W: bytemuck::Pod> DerefMut for Buffer<W> {
    fn deref_mut(&mut self) -> &mut [W] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}
