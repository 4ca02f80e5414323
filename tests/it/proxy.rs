//! The ingress proxy, end to end.

mod faults;
mod forwarding;
mod hostile;
mod hostile_h2;
mod sockets;
mod witness;
