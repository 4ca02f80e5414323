//! Real servers for tests and benches: each starts the real program on a free
//! loopback port with a data directory of its own, waits until it truly
//! answers, and takes it down with the test, even if the test is killed.
//!
//! Knows nothing of what is tested with it: no crate of this workspace is
//! imported here.

pub mod argocd;
pub mod chromium;
pub mod dockerd;
pub mod elasticmq;
pub mod hmac;
pub mod http;
pub mod images;
pub mod k3s;
pub mod kube;
pub mod minio;
pub mod nginx;
pub mod node;
pub mod oidc;
pub mod peer;
pub mod port;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod redis;
pub mod registry;
pub mod relay;
mod rootfs;
pub mod signed;
pub mod tls;
pub mod tool;
mod tree;
pub mod user;
pub mod wait;
mod watchdog;
