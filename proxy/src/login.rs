//! Login before routes: who somebody is, and whether a route is for them. What comes of it is a
//! session, and headers for the upstream. Must not know how a request is passed on.

pub mod cookie;
pub mod credentials;
pub mod door;
pub mod gate;
pub mod kubernetes;
pub mod local;
pub mod oidc;
pub mod pages;
pub mod password;
pub mod told;
