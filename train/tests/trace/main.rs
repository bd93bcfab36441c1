//! Memory event logs: replayed beside the allocator that wrote them, summed up, and read when they are
//! anything but logs.

#[path = "../../../allocator/tests/events/counting.rs"]
mod counting;
mod ends;
mod fuzz;
mod hostile;
mod program;
mod replay;
mod timeline;
