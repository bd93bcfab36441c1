//! Trains long-context language models with as little memory as the mathematics allows.
