//! Models, optimizer, data, checkpoints, configuration and metrics.
