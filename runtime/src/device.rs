//! Where tensors live, and what GPU the machine offers.

use std::fmt;

/// Where a tensor lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// Host memory, computed on by the CPU.
    Cpu,
    /// Nowhere: shapes and sizes only. Operations with a meta operand give meta results.
    Meta,
}

impl Device {
    /// The device of a result whose operands lie on `self` and `other`: meta is contagious.
    pub fn join(self, other: Self) -> Self {
        if self == Self::Meta { self } else { other }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Meta => "meta",
        })
    }
}

/// What the CUDA driver says about this machine, in one line; `Err` says why there is no GPU.
///
/// # Errors
/// No driver library, a driver that does not start, or no device.
pub fn describe_gpu() -> Result<String, String> {
    use cudarc::driver::{result, sys};
    // SAFETY: only looks for the library; every later call is made after it was found.
    if !unsafe { sys::is_culib_present() } {
        return Err("no NVIDIA driver library (libcuda) on this machine".to_owned());
    }
    let text = |error: result::DriverError| format!("the NVIDIA driver answers: {error:?}");
    result::init().map_err(text)?;
    if result::device::get_count().map_err(text)? == 0 {
        return Err("the NVIDIA driver sees no GPU".to_owned());
    }
    let device = result::device::get(0).map_err(text)?;
    result::device::get_name(device).map_err(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_is_contagious() {
        assert_eq!(Device::Cpu.join(Device::Meta), Device::Meta);
        assert_eq!(Device::Meta.join(Device::Cpu), Device::Meta);
        assert_eq!(Device::Cpu.join(Device::Cpu), Device::Cpu);
    }
}
