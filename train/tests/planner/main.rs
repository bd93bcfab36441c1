//! The planner: its accounting against published figures, its search against itself.

mod golden;
mod search;
