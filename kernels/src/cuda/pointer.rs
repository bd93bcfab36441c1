//! Addresses on a GPU.

/// An address in a GPU's memory.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DevicePtr(pub u64);

impl DevicePtr {
    /// No address; kernels take it for "there is none".
    pub const NULL: Self = Self(0);

    /// The address `bytes` bytes further on.
    #[must_use]
    pub fn offset(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }

    /// Whether it is [`DevicePtr::NULL`].
    pub fn is_null(self) -> bool {
        self.0 == 0
    }
}
