//! The ingress proxy, end to end.

mod clock;
mod curl;
mod faults;
mod forwarding;
mod gateway;
mod guards;
mod hostile;
mod hostile_h2;
mod identity;
mod ingress;
mod kubernetes;
mod login;
mod reload;
mod rest;
mod routes;
mod session_events;
mod session_page;
mod sessions;
mod sockets;
mod swap;
mod tls;
mod witness;
