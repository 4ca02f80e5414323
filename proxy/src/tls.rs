//! TLS: which certificate is shown for which name, and whom others' are believed from. Must not
//! know HTTP.

pub mod authority;
pub mod certificates;
pub mod roots;
