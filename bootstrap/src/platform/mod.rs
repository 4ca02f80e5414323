//! The platform on a cluster: what every namespace has, the services, and all of it as one plan.

pub mod applications;
pub mod argocd;
pub mod files;
pub mod git;
pub mod gitops;
pub mod hosts;
pub mod images;
pub mod logins;
pub mod plan;
pub mod removal;
pub mod repository;
pub mod rollback;
pub mod rooms;
pub mod sealed_secrets;
pub mod sealing;
pub mod sealing_key;
pub mod secrets;
pub mod services;
pub mod source;
pub mod targets;
pub mod watching;
pub mod wires;
