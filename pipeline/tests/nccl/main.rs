//! NCCL groups on the mock library and the mock driver: results, splits, and every way to fail.

mod communicator;
mod failures;
mod ranks;
mod results;
