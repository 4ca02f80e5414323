//! Images that nodes pull: where they are kept, how they are named by what is in them, and the step
//! that pushes those that lack.

pub mod address;
pub mod client;
pub mod login;
pub mod packed;
pub mod step;
