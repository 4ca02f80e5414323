//! The ingress proxy behind `monitoring-access`: takes connections and passes them on.
//!
//! Nothing is served yet. The config's section `proxy` is checked for its shape and a
//! warning says that it is not in force.
//!
//! Must not know the collector: what it routes by comes to it as a snapshot of the model.
