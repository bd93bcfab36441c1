//! Where tensors live.

use std::fmt;
use std::str::FromStr;

use slimpipe_allocator::{Space, scope};
use slimpipe_kernels::cuda::Context;

use crate::Result;

/// Where a tensor lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// Host memory, computed on by the CPU.
    Cpu,
    /// Memory of the NVIDIA GPU of that number, computed on by it.
    Cuda(u32),
    /// Nowhere: shapes and sizes only. Operations with a meta operand give meta results.
    Meta,
}

impl Device {
    /// The NVIDIA GPU `ordinal`, made ready for use.
    ///
    /// # Errors
    /// No driver, or one that is too old; no such GPU, or one that the kernels cannot run on.
    pub fn cuda(ordinal: u32) -> Result<Self> {
        Context::of(ordinal)?;
        Ok(Self::Cuda(ordinal))
    }

    /// The device whose memory was entered on this thread; the CPU if none was.
    pub fn current() -> Self {
        scope::current_space().map_or(Self::Cpu, Self::from)
    }

    /// The device of a result whose operands lie on `self` and `other`: meta is contagious.
    pub fn join(self, other: Self) -> Self {
        if self == Self::Meta { self } else { other }
    }
}

/// As configurations name them: `cpu`, `cuda`, `cuda:1`.
impl FromStr for Device {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let number = match name.strip_prefix("cuda") {
            Some("") => Some(0),
            Some(rest) => rest.strip_prefix(':').and_then(|number| number.parse().ok()),
            None if name == "cpu" => return Ok(Self::Cpu),
            None => None,
        };
        number
            .map(Self::Cuda)
            .ok_or_else(|| format!("there is no device `{name}`; it is cpu, cuda or cuda:NUMBER"))
    }
}

/// The device that computes on memory of that kind.
impl From<Space> for Device {
    fn from(space: Space) -> Self {
        match space {
            Space::Host => Self::Cpu,
            Space::Device(ordinal) => Self::Cuda(ordinal),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Self::Meta => f.write_str("meta"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_ready_or_one_line_says_why_not() {
        match Device::cuda(0) {
            Ok(device) => assert_eq!(device.to_string(), "cuda:0"),
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
        }
        let error = Device::cuda(u32::MAX).unwrap_err().to_string();
        assert!(!error.is_empty() && !error.contains('\n'), "{error}");
    }

    #[test]
    fn devices_are_named_as_they_are_written() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(3)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cuda1", "meta"] {
            assert!(wrong.parse::<Device>().unwrap_err().contains("cuda:NUMBER"), "{wrong}");
        }
    }

    #[test]
    fn meta_is_contagious() {
        assert_eq!(Device::Cpu.join(Device::Meta), Device::Meta);
        assert_eq!(Device::Meta.join(Device::Cpu), Device::Meta);
        assert_eq!(Device::Cpu.join(Device::Cpu), Device::Cpu);
    }
}
