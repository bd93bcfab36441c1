//! Operations on raw tensors, one file each: shape rule, computation, backward.
