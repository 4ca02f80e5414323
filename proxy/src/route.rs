//! From a request to what becomes of it: an immutable table, made from the routes that were
//! given, swapped as a whole. Must not know connections.

pub mod compile;
pub mod door;
pub mod hosts;
pub mod table;
