//! The docker runtime: the servers as labelled containers, through the Engine's API.

pub mod archive;
pub mod engine;
pub mod images;
pub mod runtime;
pub mod spec;
