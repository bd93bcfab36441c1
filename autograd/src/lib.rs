//! Tensors with gradients, the tape, and gradients that cross sequence slices.
