//! How often what was asked of the driver, so that tests can say "none of these in a step".

use std::{
    collections::BTreeMap,
    sync::{
        LazyLock, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident $name:literal),* $(,)?) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug)]
        pub enum Count { $($(#[$doc])* $variant),* }

        const NAMES: &[&str] = &[$($name),*];
        static VALUES: [AtomicU64; NAMES.len()] = [const { AtomicU64::new(0) }; NAMES.len()];
    };
}

counters! {
    /// The host waited for everything in a context.
    ContextSynchronisation "synchronisations.context",
    /// The host waited for a stream.
    StreamSynchronisation "synchronisations.stream",
    /// The host waited for an event.
    EventSynchronisation "synchronisations.event",
    /// The host waited because a call waits inside: copies that are not asynchronous or go to
    /// pageable memory, `cuMemFree`, freeing pinned memory.
    ImplicitSynchronisation "synchronisations.implicit",
    /// Device memory allocated: `cuMemAlloc`, `cuMemAllocAsync`, `cuMemCreate`.
    Allocation "allocations.device",
    /// Bytes of these.
    AllocationBytes "allocations.device.bytes",
    /// Device memory freed.
    Free "frees.device",
    /// Pinned host memory allocated or registered.
    HostAllocation "allocations.host",
    /// Pinned host memory freed or unregistered.
    HostFree "frees.host",
    /// Address ranges reserved.
    Reservation "reservations",
    /// Physical memory mapped into a reserved range.
    Map "maps",
    /// Mappings taken away.
    Unmap "unmaps",
    /// Copies from host memory to a device.
    CopyToDevice "copies.to_device",
    /// Bytes of these.
    CopyToDeviceBytes "copies.to_device.bytes",
    /// Copies from a device to host memory.
    CopyToHost "copies.to_host",
    /// Bytes of these.
    CopyToHostBytes "copies.to_host.bytes",
    /// Copies within a device.
    CopyOnDevice "copies.on_device",
    /// Bytes of these.
    CopyOnDeviceBytes "copies.on_device.bytes",
    /// Copies between devices.
    CopyBetweenDevices "copies.between_devices",
    /// Bytes of these.
    CopyBetweenDevicesBytes "copies.between_devices.bytes",
    /// Fills of device memory.
    Fill "fills",
    /// Events recorded.
    EventRecord "events.recorded",
    /// Waits of a stream for an event.
    EventWait "events.waited",
    /// Host functions put on streams.
    HostFunction "host_functions",
    /// Modules loaded.
    ModuleLoad "modules",
    /// Kernels launched; by name they are `launches.NAME`.
    Launch "launches",
}

/// Launches by kernel.
static LAUNCHES: LazyLock<Mutex<BTreeMap<String, u64>>> = LazyLock::new(Mutex::default);

fn launches() -> MutexGuard<'static, BTreeMap<String, u64>> {
    LAUNCHES.lock().unwrap_or_else(|e| e.into_inner())
}

/// Counts one.
pub fn count(what: Count) {
    add(what, 1);
}

/// Counts a copy or an allocation together with its bytes.
pub fn count_bytes(what: Count, bytes_of_it: Count, bytes: usize) {
    add(what, 1);
    add(bytes_of_it, bytes as u64);
}

/// Counts a launch of the kernel `name`.
pub fn count_launch(name: &str) {
    add(Count::Launch, 1);
    *launches().entry(name.to_owned()).or_default() += 1;
}

fn add(what: Count, n: u64) {
    VALUES[what as usize].fetch_add(n, Ordering::Relaxed);
}

/// All counters by name.
pub fn all() -> BTreeMap<String, u64> {
    let values = VALUES.iter().map(|value| value.load(Ordering::Relaxed));
    let plain = NAMES.iter().map(|name| name.to_string()).zip(values);
    let by_kernel =
        launches().iter().map(|(name, n)| (format!("launches.{name}"), *n)).collect::<Vec<_>>();
    plain.chain(by_kernel).collect()
}

/// Sets all counters to 0.
pub fn reset() {
    VALUES.iter().for_each(|value| value.store(0, Ordering::Relaxed));
    launches().clear();
}
