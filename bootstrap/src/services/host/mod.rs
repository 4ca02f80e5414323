//! The host runtime: the real servers as supervised plain processes under the home directory.

pub mod initdb;
pub mod runtime;
pub mod units;
pub mod user;
