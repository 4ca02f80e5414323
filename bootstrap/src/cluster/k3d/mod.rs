//! A cluster of k3s in containers, made by k3d's own command line from a configuration of ours.

pub mod cli;
pub mod cluster;
pub mod config;
pub mod containers;
pub mod network;
pub mod step;
