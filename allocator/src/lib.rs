//! Slice-aware memory: arenas, unit slots, plans, statistics and the event log.
