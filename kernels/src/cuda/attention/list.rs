//! The list of chunks as kernels read it: `tile/chunks.cuh`.

use super::{Chunk, ChunkGrad, KEYS};
use crate::cpu::attention::Shape;
use crate::cuda::error::Result;
use crate::cuda::{DevicePtr, Stream, TensorMap, table};

/// Bytes of a chunk in a list: two tensor maps, a span, two addresses.
const CHUNK: usize = 2 * 128 + 8 + 16;
/// Bytes of a list of up to 15 chunks.
pub(super) const SHORT: usize = (15 * CHUNK).next_multiple_of(64);
/// Bytes of a list of up to 112 chunks: nearly all that a kernel's parameters may be.
pub(super) const LONG: usize = 112 * CHUNK;

/// `struct ListArgs` of the kernels.
#[repr(C)]
pub(super) struct ListArgs<const BYTES: usize> {
    table: DevicePtr,
    count: i32,
    words: Words<BYTES>,
}

#[repr(C, align(64))]
struct Words<const BYTES: usize>([u8; BYTES]);

/// A list, still on the host.
pub(super) struct List {
    count: usize,
    words: Vec<u64>,
}

impl List {
    pub(super) fn new<'a>(
        shape: &Shape,
        chunks: impl Iterator<Item = (&'a Chunk, ChunkGrad)> + Clone,
    ) -> Result<Self> {
        let mut words = Vec::new();
        let sides: [fn(&Chunk) -> super::Rows; 2] = [|chunk| chunk.k, |chunk| chunk.v];
        for side in sides {
            for (chunk, _) in chunks.clone() {
                let map: TensorMap = side(chunk).map(shape, shape.kv_heads, chunk.len, KEYS)?;
                words.extend(map.words());
            }
        }
        let spans =
            chunks.clone().map(|(chunk, _)| (chunk.start as u64) | (chunk.len as u64) << 32);
        words.extend(spans);
        let count = chunks.clone().count();
        words.extend(chunks.flat_map(|(_, grad)| [grad.dk.0, grad.dv.0]));
        Ok(Self { count, words })
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> u64 {
        size_of_val(&*self.words) as u64
    }

    /// Whether it goes with the parameters of a kernel that takes `bytes` bytes.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        self.bytes() <= bytes as u64
    }

    /// The list as parameters, if it is short enough, or else the address of `table`.
    pub(super) fn args<const BYTES: usize>(&self, table: DevicePtr) -> ListArgs<BYTES> {
        let mut words = Words([0; BYTES]);
        let own: &[u8] = bytemuck::cast_slice(&self.words);
        let table = match words.0.get_mut(..own.len()) {
            Some(place) => {
                place.copy_from_slice(own);
                DevicePtr::NULL
            }
            None => table,
        };
        ListArgs { table, count: self.count as i32, words }
    }

    /// Writes it to `table` if it is too long for parameters.
    ///
    /// # Safety
    /// There are as many bytes there, and the stream may use them.
    pub(super) unsafe fn write(&self, stream: &Stream, table: DevicePtr) -> Result<()> {
        if self.fits(LONG) {
            return Ok(());
        }
        // SAFETY: as the caller promises.
        unsafe { table::write(stream, table, &self.words) }
    }
}
