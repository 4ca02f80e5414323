//! Brings things up: the data services, the detached collector, and what they need.
//!
//! Knows nothing of how a service is watched (that is `collector`) and prints nothing:
//! it reports [`event::Event`]s, and the command line shows them.

pub mod bundle;
pub mod cause;
pub mod cluster;
pub mod diagnose;
pub mod digest;
pub mod doctor;
pub mod event;
pub mod fingerprint;
pub mod home;
pub mod identity;
pub mod lock;
pub mod plan;
pub mod platform;
pub mod programs;
pub mod secret;
pub mod services;
pub mod store;
pub mod supervise;
pub mod terraform;
pub mod validity;
pub mod wait;
pub mod watch;
