//! Options that say which cluster is meant, and what the library needs to open it.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use comind_bootstrap::cluster::env::Env;
use comind_bootstrap::cluster::host::place::Place;
use comind_bootstrap::cluster::kind::Kind;
use comind_bootstrap::cluster::kubeconfig;
use comind_bootstrap::cluster::session::{Asked, Request};
use comind_bootstrap::platform::{hosts, removal};
use comind_bootstrap::programs::Programs;

use crate::place::HomeArgs;
use crate::supervise::launcher;

/// What makes the cluster.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Choice {
    /// What was made before, else whichever can be made here, and say why
    Auto,
    /// Kubernetes' own programs as processes
    Host,
    /// k3s in containers, by k3d
    K3d,
    /// One that is there already
    Existing,
}

/// Which cluster is meant. Kept by `cluster create` and `bootstrap` for later commands.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct KindArgs {
    /// What makes the cluster
    #[arg(
        long = "cluster",
        visible_alias = "kind",
        env = "COMIND_CLUSTER",
        value_enum,
        value_name = "KIND",
        global = true
    )]
    kind: Option<Choice>,
    /// existing: its context in your kubeconfig [default: the current one]
    #[arg(long, env = "COMIND_CONTEXT", value_name = "NAME", global = true)]
    context: Option<String>,
    /// existing: where the ports of its nodes are reached [default: a node's address]
    #[arg(
        long,
        env = "COMIND_NODE_ADDRESS",
        value_name = "ADDRESS",
        global = true
    )]
    node_address: Option<IpAddr>,
    /// Where images are pushed to and its nodes pull them from, by digest; instead of bringing them in
    #[arg(
        long,
        env = "COMIND_IMAGE_REGISTRY",
        value_name = "[http://]HOST/PATH",
        global = true
    )]
    image_registry: Option<String>,
    /// k3d: nodes besides the server [default: 0]
    #[arg(long, env = "COMIND_AGENTS", value_name = "NUMBER", global = true)]
    agents: Option<u32>,
    /// k3d: the image of its nodes
    #[arg(long, env = "COMIND_K3S_IMAGE", value_name = "IMAGE", global = true)]
    k3s_image: Option<String>,
}

impl KindArgs {
    /// What the library needs to open the cluster of an environment.
    pub(crate) fn request(self, env: Env, home: &HomeArgs, with_users: bool) -> Result<Request> {
        let list = std::env::var("KUBECONFIG").ok();
        let user_home = std::env::var_os("HOME").map(PathBuf::from);
        let (list, user_home) = (list.as_deref(), user_home.as_deref());
        let users = || kubeconfig::users_file(list, user_home);
        Ok(Request {
            place: Place {
                env,
                home: home.home()?,
            },
            programs: Programs::from_env(),
            launcher: launcher()?,
            users_kubeconfig: with_users.then(users).flatten(),
            kubeconfigs: kubeconfig::users_files(list, user_home),
            kind: self.kind.and_then(|kind| match kind {
                Choice::Auto => None,
                Choice::Host => Some(Kind::Host),
                Choice::K3d => Some(Kind::K3d),
                Choice::Existing => Some(Kind::Existing),
            }),
            asked: Asked {
                context: self.context,
                node: self.node_address,
                // Not by the parser of arguments, whose errors repeat what they were given.
                registry: self.image_registry.map(|given| given.parse()).transpose()?,
                agents: self.agents,
                image: self.k3s_image,
            },
            ports: hosts::mapped(env),
            places: removal::places(env),
        })
    }
}
