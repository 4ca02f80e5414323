//! Sessions: who is logged in, for how long, and the streams that end with them.

pub mod admin;
pub mod client;
pub mod desk;
pub mod events;
pub mod held;
pub mod rules;
pub mod table;
