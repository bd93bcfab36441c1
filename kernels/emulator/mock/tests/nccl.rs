//! Communicators of the mock NCCL on streams of the mock driver, through an unmodified cudarc.

#[path = "nccl/collectives.rs"]
mod collectives;
#[path = "nccl/communicators.rs"]
mod communicators;
#[path = "nccl/faults.rs"]
mod faults;
#[path = "nccl/pairs.rs"]
mod pairs;
#[path = "nccl/processes.rs"]
mod processes;
#[path = "nccl/ranks.rs"]
mod ranks;
