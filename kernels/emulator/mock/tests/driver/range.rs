//! A reserved range of addresses, for all tests of this binary.

use cudarc::driver::sys;

/// What the driver wants sizes to be multiples of.
pub const MIB2: usize = 2 << 20;

pub fn properties(device: i32) -> sys::CUmemAllocationProp {
    // SAFETY: a structure of plain numbers and pointers, of which zeros are valid.
    let mut properties: sys::CUmemAllocationProp = unsafe { std::mem::zeroed() };
    properties.type_ = sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location = location(device);
    properties
}

fn location(id: i32) -> sys::CUmemLocation {
    sys::CUmemLocation { type_: sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE, id }
}

/// A reserved range, and what of it has memory.
pub struct Range {
    pub address: u64,
    pieces: usize,
}

impl Range {
    pub fn reserve(pieces: usize) -> Range {
        let mut address = 0;
        // SAFETY: the place is good for writing.
        unsafe { sys::cuMemAddressReserve(&mut address, pieces * MIB2, 0, 0, 0) }.result().unwrap();
        Range { address, pieces }
    }

    pub fn piece(&self, piece: usize) -> u64 {
        self.address + (piece * MIB2) as u64
    }

    /// Maps new memory into a piece; the handle is given back at once, as the memory stays mapped.
    pub fn commit(&self, piece: usize) {
        let mut handle = 0;
        // SAFETY: all places are good for writing and reading.
        unsafe {
            sys::cuMemCreate(&mut handle, MIB2, &properties(0), 0).result().unwrap();
            sys::cuMemMap(self.piece(piece), MIB2, 0, handle, 0).result().unwrap();
            sys::cuMemRelease(handle).result().unwrap();
        }
        self.allow(piece, sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    }

    pub fn allow(&self, piece: usize, flags: sys::CUmemAccess_flags) {
        let grant = sys::CUmemAccessDesc { location: location(0), flags };
        // SAFETY: the piece is mapped.
        unsafe { sys::cuMemSetAccess(self.piece(piece), MIB2, &grant, 1) }.result().unwrap();
    }

    pub fn decommit(&self, piece: usize) {
        // SAFETY: nobody uses the piece.
        unsafe { sys::cuMemUnmap(self.piece(piece), MIB2) }.result().unwrap();
    }

    pub fn release(self) {
        // SAFETY: nothing is mapped any more.
        unsafe { sys::cuMemAddressFree(self.address, self.pieces * MIB2) }.result().unwrap();
    }
}
