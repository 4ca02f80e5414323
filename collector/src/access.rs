//! Who may ask the API, how often, and over which connection.
//! Must not know routes, nor how the config is written: it is handed a [`policy::Policy`].

pub mod gate;
pub mod limit;
pub mod meter;
pub mod password;
pub mod policy;
pub mod right;
pub mod tls;
