//! Where the bytes of messages lie: on the host, or on a GPU, where they are good in the order of a stream.

use slimpipe_kernels::cuda::{CudaError, DevicePtr, Event, Stream, copy};

/// Bytes that are sent.
pub enum Bytes<'a> {
    /// Of the host.
    Host(&'a [u8]),
    /// Of a GPU.
    Device(DeviceBytes<'a>),
}

/// Bytes on a GPU that are sent.
pub struct DeviceBytes<'a> {
    /// The first.
    pub at: DevicePtr,
    /// How many.
    pub len: usize,
    /// The stream in whose order they are written, and written again once they were read.
    pub stream: &'a Stream,
    /// Marks in it that they are written.
    pub ready: &'a Event,
}

/// Room for bytes that are received, or that ranks reduce together.
pub enum BytesMut<'a> {
    /// Of the host.
    Host(&'a mut [u8]),
    /// Of a GPU.
    Device(DeviceRoom),
}

/// Room on a GPU for bytes that are received.
pub struct DeviceRoom {
    /// The first.
    pub at: DevicePtr,
    /// How many.
    pub len: usize,
    /// The stream in whose order the room is used.
    pub stream: Stream,
}

/// Memory of one kind.
pub(super) enum Parts<'p> {
    /// Of the host.
    Host(Vec<&'p mut [u8]>),
    /// Of a GPU.
    Device(Vec<&'p DeviceRoom>),
}

impl<'p> Parts<'p> {
    /// That of `parts`; `None` if some lies on the host and some on a GPU.
    pub(super) fn of(parts: &'p mut [BytesMut<'_>]) -> Option<Self> {
        if parts.iter().all(|part| matches!(part, BytesMut::Host(_))) {
            let host = parts.iter_mut().filter_map(|part| match part {
                BytesMut::Host(bytes) => Some(&mut **bytes),
                BytesMut::Device(_) => None,
            });
            return Some(Self::Host(host.collect()));
        }
        let device = |part: &'p BytesMut<'_>| match part {
            BytesMut::Device(room) => Some(room),
            BytesMut::Host(_) => None,
        };
        parts.iter().map(device).collect::<Option<_>>().map(Self::Device)
    }
}

impl Bytes<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Host(bytes) => bytes.len(),
            Self::Device(bytes) => bytes.len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl BytesMut<'_> {
    /// For how many there is room.
    pub fn len(&self) -> usize {
        match self {
            Self::Host(bytes) => bytes.len(),
            Self::Device(room) => room.len,
        }
    }

    /// Whether there is room for none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a> From<&'a mut [u8]> for BytesMut<'a> {
    fn from(bytes: &'a mut [u8]) -> Self {
        Self::Host(bytes)
    }
}

impl<'a> From<&'a mut [f32]> for BytesMut<'a> {
    fn from(values: &'a mut [f32]) -> Self {
        Self::Host(bytemuck::cast_slice_mut(values))
    }
}

impl<'a, const N: usize> From<&'a mut [u8; N]> for BytesMut<'a> {
    fn from(bytes: &'a mut [u8; N]) -> Self {
        Self::Host(bytes)
    }
}

impl<'a> From<&'a mut Vec<u8>> for BytesMut<'a> {
    fn from(bytes: &'a mut Vec<u8>) -> Self {
        Self::Host(bytes)
    }
}

/// Copies `from` to `into`, as many bytes, within a process. Of a GPU's bytes this enqueues the copy and lets
/// the sender's stream wait for it, so that the sender may use their memory again.
///
/// # Errors
/// They lie on different devices, or the driver refuses.
pub(super) fn hand_over(from: &Bytes<'_>, into: BytesMut<'_>) -> Result<(), String> {
    match (from, into) {
        (Bytes::Host(from), BytesMut::Host(into)) => {
            into.copy_from_slice(from);
            Ok(())
        }
        (Bytes::Device(from), BytesMut::Device(into)) => {
            let [own, other] = [&into.stream, from.stream].map(|s| s.context().ordinal());
            if own != other {
                return Err(format!(
                    "it lies on GPU {other} and is to go to GPU {own}; between GPUs run one process for each"
                ));
            }
            from.copy_to(&into).map_err(|error| error.to_string())
        }
        (Bytes::Host(_), BytesMut::Device(_)) => {
            Err("it lies on the host, not on a GPU".to_owned())
        }
        (Bytes::Device(_), BytesMut::Host(_)) => {
            Err("it lies on a GPU, not on the host".to_owned())
        }
    }
}

impl DeviceBytes<'_> {
    fn copy_to(&self, into: &DeviceRoom) -> Result<(), CudaError> {
        into.stream.wait(self.ready)?;
        // SAFETY: as many bytes on both sides. The sender keeps its own until it is told that they were
        // read, and then writes them only behind the event below; the room is the receiver's alone.
        unsafe { copy::on_device(&into.stream, self.at, into.at, self.len)? };
        let taken = Event::pooled(into.stream.context())?;
        into.stream.record(&taken)?;
        self.stream.wait(&taken)
    }
}
