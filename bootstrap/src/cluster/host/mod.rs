//! A cluster of upstream Kubernetes programs as plain processes, in a network namespace of its own.

pub mod certificates;
pub mod cluster;
pub mod command;
pub mod components;
pub mod configs;
pub mod groups;
pub mod image;
pub mod images;
mod import;
pub mod leftovers;
mod load_balancer;
pub mod network;
pub mod place;
pub mod stale;
pub mod steps;
pub mod table;
