//! Where a reserved range lies in this process: a range of the same length, of which the parts that
//! have memory can be read and written. What lies side by side there lies side by side here.

use std::os::fd::AsRawFd;

use cudarc::driver::sys::CUresult;

use super::pages::Physical;

/// A range of this process's addresses.
pub struct Shadow {
    address: usize,
    bytes: usize,
}

impl Shadow {
    /// Reserves a range; nothing of it can be read or written.
    ///
    /// # Errors
    /// `CUDA_ERROR_OUT_OF_MEMORY` if the process has no such range.
    pub fn new(bytes: usize) -> Result<Shadow, CUresult> {
        // SAFETY: a place of the system's choice.
        let address = unsafe { nothing(std::ptr::null_mut(), bytes, 0) }?;
        Ok(Shadow { address: address as usize, bytes })
    }

    /// Where it lies.
    pub fn address(&self) -> usize {
        self.address
    }

    /// Puts the first bytes of some physical memory at an offset.
    ///
    /// # Errors
    /// `CUDA_ERROR_OUT_OF_MEMORY` if the system refuses.
    pub fn put(&self, offset: usize, bytes: usize, physical: &Physical) -> Result<(), CUresult> {
        assert!(offset + bytes <= self.bytes && bytes <= physical.bytes());
        // SAFETY: within the range, which is this value's alone.
        let placed = unsafe {
            libc::mmap(
                (self.address + offset) as *mut _,
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_FIXED,
                physical.file().as_raw_fd(),
                0,
            )
        };
        check(placed).map(|_| ())
    }

    /// Takes away what lies at an offset. Nobody may be using it.
    ///
    /// # Errors
    /// `CUDA_ERROR_OUT_OF_MEMORY` if the system refuses.
    pub fn clear(&self, offset: usize, bytes: usize) -> Result<(), CUresult> {
        assert!(offset + bytes <= self.bytes);
        let place = (self.address + offset) as *mut _;
        // SAFETY: within the range, which is this value's alone.
        unsafe { nothing(place, bytes, libc::MAP_FIXED) }.map(|_| ())
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        // SAFETY: the range is this value's alone.
        unsafe { libc::munmap(self.address as *mut _, self.bytes) };
    }
}

/// Addresses without memory.
///
/// # Safety
/// With `MAP_FIXED` the place must be the caller's.
unsafe fn nothing(
    place: *mut libc::c_void,
    bytes: usize,
    fixed: i32,
) -> Result<*mut libc::c_void, CUresult> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | fixed;
    // SAFETY: promised by the caller.
    check(unsafe { libc::mmap(place, bytes, libc::PROT_NONE, flags, -1, 0) })
}

fn check(placed: *mut libc::c_void) -> Result<*mut libc::c_void, CUresult> {
    if placed == libc::MAP_FAILED { Err(CUresult::CUDA_ERROR_OUT_OF_MEMORY) } else { Ok(placed) }
}
