//! The collector as a detached process: its configuration, its unit, and what it says.
//!
//! Speaks to it through its HTTP API only, as anybody else would.

pub mod client;
pub mod config;
pub mod ready;
pub mod stream;
pub mod table;
pub mod unit;
