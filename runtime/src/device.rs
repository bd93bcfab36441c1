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
    // SAFETY: loads the library and lets go of it; loading a driver runs no code of ours.
    if !unsafe { sys::is_culib_present() } {
        return Err("no NVIDIA driver library (libcuda) on this machine".to_owned());
    }
    let ask = || {
        let text = |error: result::DriverError| format!("the NVIDIA driver answers: {error:?}");
        result::init().map_err(text)?;
        match result::device::get_count().map_err(text)? {
            0 => Err("the NVIDIA driver sees no GPU".to_owned()),
            _ => result::device::get_name(result::device::get(0).map_err(text)?).map_err(text),
        }
    };
    // The bindings panic on a library that lacks a function: a stub, or something else by that name.
    std::panic::catch_unwind(ask)
        .unwrap_or_else(|_| Err("the library called libcuda is not an NVIDIA driver".to_owned()))
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

    #[test]
    fn asking_for_a_gpu_gives_one_line_whatever_the_machine() {
        let (Ok(line) | Err(line)) = describe_gpu();
        assert!(!line.is_empty() && !line.contains('\n'), "{line}");
    }
}
