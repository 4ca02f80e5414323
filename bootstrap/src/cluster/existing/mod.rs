//! A cluster that somebody else has made and keeps. We look whether it will do, and use it.

pub mod cluster;
pub mod looks;
pub mod step;
