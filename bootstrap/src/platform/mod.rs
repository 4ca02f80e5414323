//! The platform on a cluster: what every namespace has, the services, and all of it as one plan.

pub mod applications;
pub mod argocd;
pub mod git;
pub mod gitops;
pub mod logins;
pub mod plan;
pub mod repository;
pub mod rollback;
pub mod rooms;
pub mod services;
