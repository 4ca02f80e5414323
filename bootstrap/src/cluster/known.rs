//! What all steps know of the cluster that they are about.

use std::path::PathBuf;

use crate::cluster::host::place::Place;
use crate::cluster::ways::Ways;
use crate::programs::Programs;
use crate::supervise::control::Launcher;

/// What all steps of a cluster know.
#[derive(Clone, Debug)]
pub struct Known {
    /// Where everything is.
    pub place: Place,
    /// How it is reached, and how it reaches us.
    pub ways: Ways,
    /// Where programs are.
    pub programs: Programs,
    /// How a supervisor is started.
    pub launcher: Launcher,
    /// The user's kubeconfig, if it is to know the cluster.
    pub users_kubeconfig: Option<PathBuf>,
}
