//! Memory event logs: replayed beside the allocator that wrote them, summed up, and read when they are
//! anything but logs.

mod counting;
mod ends;
mod hostile;
mod program;
mod replay;
