//! The docker runtime: the servers as labelled containers, through the Engine's API.

pub mod runtime;
