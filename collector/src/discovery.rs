//! Targets that the cluster names itself: annotated Services and the resource `Monitor`.
//! `finder` reads them, `judge` decides, `tell` writes back what came of each.
//! Must not know how targets are watched.

pub mod finder;
pub mod judge;
pub mod keeper;
pub mod meter;
pub mod monitor;
pub mod secrets;
pub mod service;
pub mod tell;
pub mod wish;
