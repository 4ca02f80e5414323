//! The platform's namespaces and what each of them has: how far pods may go (Pod Security), how much
//! of the machine they may take, which connections they may make, and the roles that people get.
//! Pure: an environment in, objects out.

use serde_json::{Value, json};

use crate::cluster::env::Env;
use crate::cluster::objects::LABEL;

/// One namespace.
struct Room {
    name: String,
    /// Whole processors, gibibytes and pods that all of it may take.
    quota: (u32, u32, u32),
    /// The namespaces whose pods may connect to those in here.
    lets_in: &'static [&'static str],
    /// Where its pods may connect to.
    goes_to: &'static [To],
}

/// Where pods may connect to, besides names and their own namespace.
#[derive(Clone, Copy)]
enum To {
    /// The pods of another namespace.
    Room(&'static str),
    /// Anywhere: whoever watches, fetches or forwards.
    Anywhere,
}

/// Stands for the namespace of the environment's services.
const SERVICES: &str = "platform-ENV";
const INGRESS: &str = "ingress";
const MONITORING: &str = "monitoring";

fn rooms(env: Env) -> Vec<Room> {
    let room = |name: &str, quota, lets_in, goes_to| Room {
        name: real(name, env),
        quota,
        lets_in,
        goes_to,
    };
    vec![
        room(
            SERVICES,
            (4, 6, 40),
            &[
                MONITORING,
                "user-apps",
                "platform",
                "backup-system",
                INGRESS,
            ],
            &[],
        ),
        room(
            "platform",
            (4, 4, 40),
            &[MONITORING, INGRESS, "argocd"],
            &[To::Room(SERVICES), To::Room("argocd")],
        ),
        room(MONITORING, (4, 4, 40), &[INGRESS], &[To::Anywhere]),
        room(
            "user-apps",
            (8, 8, 100),
            &[MONITORING, INGRESS],
            &[To::Room(SERVICES)],
        ),
        room(
            "argocd",
            (4, 4, 40),
            &[MONITORING, INGRESS, "platform"],
            &[To::Anywhere],
        ),
        room(INGRESS, (2, 2, 20), &[MONITORING], &[To::Anywhere]),
        room(
            "backup-system",
            (2, 2, 20),
            &[MONITORING],
            &[To::Room(SERVICES)],
        ),
    ]
}

fn real(name: &str, env: Env) -> String {
    match name {
        SERVICES => format!("platform-{}", env.name()),
        name => name.to_owned(),
    }
}

/// The namespaces' names.
pub fn names(env: Env) -> Vec<String> {
    rooms(env).into_iter().map(|room| room.name).collect()
}

/// All objects, namespaces first.
pub fn objects(env: Env) -> Vec<Value> {
    let rooms = rooms(env);
    let mut all: Vec<Value> = rooms.iter().map(|room| namespace(room, env)).collect();
    for room in &rooms {
        all.push(quota(room));
        all.push(limits(room));
        all.extend(connections(room, env));
    }
    all.extend(roles(env));
    for object in &mut all {
        object["metadata"]["labels"][LABEL.0] = LABEL.1.into();
    }
    all
}

fn namespace(room: &Room, env: Env) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": room.name, "labels": {
            "comind.pro/env": env.name(),
            "pod-security.kubernetes.io/enforce": "restricted",
            "pod-security.kubernetes.io/warn": "restricted",
            "pod-security.kubernetes.io/audit": "restricted",
        } },
    })
}

fn quota(room: &Room) -> Value {
    let (processors, gibibytes, pods) = room.quota;
    json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": { "name": "comind-ops", "namespace": room.name },
        "spec": { "hard": {
            "requests.cpu": processors.to_string(),
            "requests.memory": format!("{gibibytes}Gi"),
            "limits.memory": format!("{}Gi", gibibytes * 2),
            "pods": pods.to_string(),
        } },
    })
}

/// What a container gets that says nothing; a quota would refuse it otherwise.
fn limits(room: &Room) -> Value {
    json!({
        "apiVersion": "v1", "kind": "LimitRange",
        "metadata": { "name": "comind-ops", "namespace": room.name },
        "spec": { "limits": [{
            "type": "Container",
            "default": { "memory": "256Mi" },
            "defaultRequest": { "cpu": "20m", "memory": "64Mi" },
        }] },
    })
}

fn policy(room: &Room, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "name": name, "namespace": room.name },
        "spec": spec,
    })
}

fn of_namespace(name: &str) -> Value {
    json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } } })
}

/// Nothing, unless one of these allows it.
fn connections(room: &Room, env: Env) -> Vec<Value> {
    let own = json!({ "podSelector": {} });
    let mut from: Vec<Value> = vec![own.clone()];
    from.extend(
        room.lets_in
            .iter()
            .map(|name| of_namespace(&real(name, env))),
    );
    let anywhere = room.goes_to.iter().any(|to| matches!(to, To::Anywhere));
    let mut to: Vec<Value> = vec![own];
    to.extend(room.goes_to.iter().filter_map(|one| match one {
        To::Room(name) => Some(of_namespace(&real(name, env))),
        To::Anywhere => None,
    }));
    let leave = match anywhere {
        true => json!([{}]),
        false => json!([{ "to": to }]),
    };
    vec![
        policy(
            room,
            "default-deny",
            &json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }),
        ),
        policy(
            room,
            "names",
            &json!({
                "podSelector": {}, "policyTypes": ["Egress"],
                "egress": [{
                    "to": [of_namespace("kube-system")],
                    "ports": [
                        { "protocol": "UDP", "port": 53 }, { "protocol": "TCP", "port": 53 },
                        { "protocol": "UDP", "port": 1053 }, { "protocol": "TCP", "port": 1053 },
                    ],
                }],
            }),
        ),
        policy(
            room,
            "enter",
            &json!({ "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{ "from": from }] }),
        ),
        policy(
            room,
            "leave",
            &json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": leave }),
        ),
    ]
}

/// What people may do, by the group that they are in.
fn roles(env: Env) -> Vec<Value> {
    let role = |name: &str, rules: Value| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": { "name": name }, "rules": rules,
        })
    };
    let bind = |namespace: &str, role: &str, group: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": { "name": role, "namespace": namespace },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group }],
        })
    };
    let services = real(SERVICES, env);
    vec![
        role(
            "app-deployer",
            json!([
                { "apiGroups": ["apps"], "resources": ["deployments", "statefulsets"], "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"] },
                { "apiGroups": [""], "resources": ["services", "configmaps", "persistentvolumeclaims"], "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"] },
                { "apiGroups": [""], "resources": ["pods", "pods/log", "events"], "verbs": ["get", "list", "watch"] },
                { "apiGroups": ["networking.k8s.io"], "resources": ["ingresses"], "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"] },
            ]),
        ),
        role(
            "backup-operator",
            json!([
                { "apiGroups": [""], "resources": ["pods", "pods/log", "persistentvolumeclaims", "events"], "verbs": ["get", "list", "watch"] },
                { "apiGroups": ["batch"], "resources": ["jobs", "cronjobs"], "verbs": ["get", "list", "watch", "create", "delete"] },
            ]),
        ),
        bind("user-apps", "app-deployer", "comind:app-deployers"),
        bind(&services, "backup-operator", "comind:backup-operators"),
        bind(
            "backup-system",
            "backup-operator",
            "comind:backup-operators",
        ),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": "comind-ops-viewer" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "comind:viewers" }],
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::objects::title;
    use std::collections::BTreeSet;

    #[test]
    fn every_namespace_is_closed_and_bounded() {
        let all = objects(Env::Dev);
        let titles: Vec<String> = all.iter().map(title).collect();
        for name in names(Env::Dev) {
            for what in ["ResourceQuota", "LimitRange"] {
                assert!(
                    titles.contains(&format!("{what} {name}/comind-ops")),
                    "{what} {name}"
                );
            }
            for what in ["default-deny", "names", "enter", "leave"] {
                assert!(
                    titles.contains(&format!("NetworkPolicy {name}/{what}")),
                    "{what} {name}"
                );
            }
        }
        assert_eq!(
            titles.iter().collect::<BTreeSet<_>>().len(),
            titles.len(),
            "no object twice"
        );
        let enforced = all.iter().filter(|one| one["kind"] == "Namespace");
        assert!(enforced.into_iter().all(|one| {
            one["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        }));
    }

    #[test]
    fn what_is_let_in_is_let_out_on_the_other_side() {
        let rooms = rooms(Env::Dev);
        for room in &rooms {
            for to in room.goes_to {
                let To::Room(target) = to else { continue };
                let target = rooms.iter().find(|one| one.name == real(target, Env::Dev));
                let target = target.expect("it is one of them");
                assert!(
                    target
                        .lets_in
                        .iter()
                        .any(|from| real(from, Env::Dev) == room.name),
                    "{} does not let {} in",
                    target.name,
                    room.name
                );
            }
        }
    }

    #[test]
    fn roles_give_no_access_to_secrets_or_rights() {
        let text = serde_json::to_string(&roles(Env::Dev)).expect("plain values");
        for word in ["secrets", "\"*\"", "escalate", "impersonate", "bind\""] {
            assert!(!text.contains(word), "{word}");
        }
    }
}
