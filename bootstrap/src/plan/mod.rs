//! The plan graph: what is to be brought up, in which order, and how far it is.

pub mod graph;
pub mod journal;
pub mod preview;
pub mod run;
pub mod step;
