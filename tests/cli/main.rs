//! The `slimpipe` command as its users meet it: what it writes and prints, and what it refuses.

mod bench;
mod data;
mod disk;
mod eval;
mod exchange;
mod export;
mod folders;
mod gpu;
mod interrupted;
mod memory;
mod models;
mod plan;
mod settings;
mod simulate;
mod support;
mod tokens;
mod trace;
mod train;
mod vocabulary;
mod walk;
