//! Boxes of tensors: which bytes of global memory they are.

use std::sync::Arc;

use crate::fault::{FaultKind, Trouble};
use crate::tensor_map::{AXES, Fill, Swizzle, TensorMap};

/// The global side of a bulk copy.
#[derive(Clone, Debug)]
pub(in crate::exec) enum Global {
    /// Bytes one behind the other.
    Bytes { address: u64, bytes: usize },
    /// A box of a tensor.
    Box { map: Arc<TensorMap>, at: [i64; AXES] },
}

/// A row of a box: `bytes` bytes at `offset` of the box, as far as they are inside the tensor.
pub(super) struct Row {
    pub offset: usize,
    /// Address of the first byte inside, how many bytes are before it in the row, and how many
    /// are inside.
    pub inside: Option<(u64, usize, usize)>,
}

impl Global {
    /// Bytes on the shared side.
    pub(in crate::exec) fn bytes(&self) -> usize {
        match self {
            Self::Bytes { bytes, .. } => *bytes,
            Self::Box { map, .. } => map.box_bytes(),
        }
    }

    pub(in crate::exec) fn swizzle(&self) -> Swizzle {
        match self {
            Self::Bytes { .. } => Swizzle::None,
            Self::Box { map, .. } => map.swizzle,
        }
    }

    /// The bytes that stand for what is outside the tensor, repeated, if not zeros.
    pub(super) fn fill(&self) -> Option<&[u8]> {
        match self {
            Self::Box { map, .. } if map.fill == Fill::Nan => map.element.nan(),
            _ => None,
        }
    }

    /// Calls `f` for every row.
    pub(super) fn rows(
        &self,
        mut f: impl FnMut(Row) -> Result<(), Box<Trouble>>,
    ) -> Result<(), Box<Trouble>> {
        match self {
            Self::Bytes { address, bytes } => {
                f(Row { offset: 0, inside: Some((*address, 0, *bytes)) })
            }
            Self::Box { map, at } => rows(map, at, f),
        }
    }
}

fn rows(
    map: &TensorMap,
    at: &[i64; AXES],
    mut f: impl FnMut(Row) -> Result<(), Box<Trouble>>,
) -> Result<(), Box<Trouble>> {
    let element = map.element.bytes();
    let width = i64::from(map.box_sizes[0]);
    // Elements of a row before the tensor's beginning, and up to its end.
    let first = (-at[0]).clamp(0, width);
    let last = (map.sizes[0] as i64 - at[0]).clamp(0, width);
    let mut index = [0u32; AXES];
    let mut offset = 0;
    loop {
        let mut address = map.address as i64 + (at[0] + first) * element as i64;
        let mut inside = first < last;
        for axis in 1..map.rank() {
            let place = at[axis] + i64::from(index[axis]);
            inside &= (0..map.sizes[axis] as i64).contains(&place);
            address = address.wrapping_add(place.wrapping_mul(map.strides[axis - 1] as i64));
        }
        let bytes = ((last - first).max(0)) as usize * element;
        f(Row {
            offset,
            inside: inside.then_some((address as u64, first as usize * element, bytes)),
        })?;
        offset += width as usize * element;
        let mut axis = 1;
        loop {
            if axis >= map.rank() {
                return Ok(());
            }
            index[axis] += 1;
            if index[axis] < map.box_sizes[axis] {
                break;
            }
            index[axis] = 0;
            axis += 1;
        }
    }
}

/// The map that 128 bytes stand for.
pub(super) fn decode(bytes: &[u8; 128]) -> Result<Arc<TensorMap>, Box<Trouble>> {
    TensorMap::decode(bytes).map(Arc::new).ok_or_else(|| {
        Trouble::new(FaultKind::Descriptor, "the address is not that of a tensor map")
    })
}
