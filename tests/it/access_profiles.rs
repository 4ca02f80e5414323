//! `comind-ops access` before the programs that it knows by heart: each is the real one where that can
//! be run, and is used as a person uses it, at `http://NAME.localhost:PORT/`, pages in a real browser.
//! They are reached by their Services' addresses; `tunnels` has tunnels.
//!
//! Grafana cannot be had from the registries: what stands for it (`grafana`) insists on its rules.
//! Debian's Prometheus has its older page and its Alertmanager none; Argo CD's and ElasticMQ's are not
//! in their packages either. What those pages would ask is asked by the browser then, from the
//! program's own origin.

mod argocd;
mod contexts;
mod grafana;
mod minio;
mod open;
mod pages;
