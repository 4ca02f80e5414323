//! A plain process that is kept running: one small supervisor for each.
//!
//! The supervised process writes to its log file itself and is known by pid *and* start time, so
//! it outlives a supervisor that dies, and the next one takes it over. Knows nothing of services.

pub mod backoff;
pub mod control;
pub mod crashes;
pub mod logs;
pub mod server;
pub mod state;
pub mod supervisor;
pub mod unit;
