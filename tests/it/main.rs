//! End to end: the program itself against real servers (`comind_peers`), one module a subject.
//!
//! Every test starts its own servers on free ports and takes them down with it.

mod access;
mod alertmanager;
mod api;
mod argocd;
mod bootstrap;
mod chaos;
mod cluster;
mod compat;
mod discovery;
mod disk;
mod dns;
mod docker;
mod doctor;
mod elasticmq;
mod events;
mod faults;
mod history;
mod http;
mod kubernetes;
mod lease;
mod maintenance;
mod metrics;
mod minio;
mod names;
mod ops;
mod page;
mod platform;
mod platform_of;
mod postgresql;
mod proxy;
mod receiver;
mod redis;
mod reload;
mod secrets;
mod secure;
mod serve;
mod services_docker;
mod services_host;
mod tcp;
mod tls;
mod traces;
mod up;
mod web;
mod webhooks;
