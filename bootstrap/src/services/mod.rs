//! The data services: PostgreSQL and MinIO (required), Redis and ElasticMQ (optional).
//!
//! What they are is data ([`catalog`], [`settings`]); how they run is a [`runtime`]; what has to
//! happen in which order is [`flow`].

pub mod auto;
pub mod catalog;
pub mod create;
pub mod docker;
pub mod flow;
pub mod host;
pub mod http;
pub mod ports;
pub mod ready;
pub mod runtime;
pub mod s3;
pub mod session;
pub mod settings;
pub mod sqs;
pub mod status;
pub mod table;
