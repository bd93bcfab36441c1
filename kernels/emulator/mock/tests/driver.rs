//! Contexts, streams, events and memory of the mock driver, through an unmodified cudarc.

#[path = "driver/copies.rs"]
mod copies;
#[path = "driver/errors.rs"]
mod errors;
#[path = "driver/launches.rs"]
mod launches;
#[path = "driver/order.rs"]
mod order;
#[path = "driver/range.rs"]
mod range;
#[path = "driver/tensor_maps.rs"]
mod tensor_maps;
#[path = "driver/virtual_memory.rs"]
mod virtual_memory;
