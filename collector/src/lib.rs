//! Looks at the world and tells what it sees: probes, the store, metrics, the API and the page.
//!
//! Must not know the proxy, nor how anything is brought up.

pub mod access;
pub mod api;
pub mod clock;
pub mod config;
pub mod discovery;
pub mod history;
pub mod kinds;
pub mod kube;
pub mod leader;
pub mod lease;
pub mod maintenance;
pub mod metrics;
pub mod net;
pub mod notify;
pub mod once;
pub mod probe;
pub mod run;
pub mod secret;
pub mod source;
pub mod sqlite;
pub mod store;
pub mod traces;
pub mod vitals;
