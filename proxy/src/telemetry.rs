//! What is counted and written down of requests. Must not know how they are carried.

pub mod log;
pub mod meter;
pub mod metrics;
pub mod trace;
