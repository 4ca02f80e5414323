//! One request: what is refused, what is changed, and how it is carried to an upstream and back.
//! Must not know sockets.

pub mod body;
pub mod class;
pub mod flight;
pub mod forward;
pub mod handle;
pub mod hop;
pub mod identity;
pub mod problem;
pub mod rewrite;
pub mod strict;
pub mod upgrade;
