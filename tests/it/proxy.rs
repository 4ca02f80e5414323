//! The ingress proxy, end to end.

mod clock;
mod curl;
mod faults;
mod forwarding;
mod gateway;
mod hostile;
mod hostile_h2;
mod ingress;
mod login;
mod reload;
mod rest;
mod routes;
mod sessions;
mod sockets;
mod swap;
mod tls;
mod witness;
