//! Where tensors live.

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
