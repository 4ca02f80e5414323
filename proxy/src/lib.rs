//! The ingress proxy behind `monitoring-access`: takes connections and passes requests on.
//!
//! Must not know the collector: what it routes by comes to it as values of the model.

pub mod access;
pub mod audit;
pub mod controller;
pub mod endpoint;
pub mod login;
pub mod moment;
pub mod request;
pub mod route;
pub mod run;
pub mod serve;
pub mod session;
pub mod telemetry;
pub mod tls;
pub mod tunnel;
pub mod upstream;
