//! `comind-ops access`: one address for the services of a cluster, whichever way leads there now.
//! Must not know the command line.

pub mod board;
pub mod choose;
pub mod look;
pub mod page;
pub mod profile;
pub mod scout;
pub mod session;
pub mod told;
pub mod wish;
