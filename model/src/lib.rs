//! The words that all parts share, and the pure rules between them.
//!
//! Values only. Must not know: tokio, sockets, clocks, Kubernetes, who calls it.

pub mod alert;
pub mod event;
pub mod fact;
pub mod gateway;
pub mod health;
pub mod ingress;
pub mod ledger;
pub mod login;
pub mod observation;
pub mod reason;
pub mod session;
pub mod snapshot;
pub mod state;
pub mod target;
pub mod thresholds;
pub mod timestamp;
