//! Tensors without gradients: dtypes, shapes, layouts, devices, storage.
