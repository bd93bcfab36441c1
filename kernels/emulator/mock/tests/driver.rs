//! Contexts, streams, events and memory of the mock driver, through an unmodified cudarc.

#[path = "driver/copies.rs"]
mod copies;
#[path = "driver/errors.rs"]
mod errors;
#[path = "driver/order.rs"]
mod order;
#[path = "driver/virtual_memory.rs"]
mod virtual_memory;
