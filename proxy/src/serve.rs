//! The client's side: listeners, connections, workers. Must not know routes or upstreams.

pub mod accept;
pub mod clients;
pub mod connection;
pub mod control;
pub mod gather;
pub mod head_scan;
pub mod preface;
pub mod wire;
pub mod worker;
