//! The Kubernetes API as our watches use it: a client, its failures as reasons, a feed of what
//! happens to one kind of object. Must not know which objects are watched, or why.

pub mod client;
pub mod failure;
pub mod feed;
pub mod look;
pub mod parts;
pub mod place;
