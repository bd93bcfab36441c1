//! Operations on a GPU.

mod suite;

use slimpipe_mock_device::{device, memory};
