//! TLS towards clients: which certificate is shown for which name. Must not know HTTP.

pub mod authority;
pub mod certificates;
