//! The audit log: who began and ended a session, and who was refused. Lines that are chained, so
//! that a changed, removed or exchanged one is found. Must not know requests.

pub mod chain;
pub mod entry;
pub mod folder;
pub mod keeper;
pub mod verify;
