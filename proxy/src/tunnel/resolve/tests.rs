use comind_model::ingress::{Forward, Host, Path, Protocol, Rewrite, Timeouts, UpstreamTls};
use serde_json::{Value, json};

use super::*;

fn service(ports: &Value) -> core::Service {
    let object = json!({ "metadata": { "name": "web" }, "spec": { "clusterIP": "10.96.1.1", "ports": ports } });
    serde_json::from_value(object).unwrap()
}

fn slice(port: &Value, endpoints: &Value) -> EndpointSlice {
    let object =
        json!({ "addressType": "IPv4", "metadata": {}, "ports": [port], "endpoints": endpoints });
    serde_json::from_value(object).unwrap()
}

fn pod(name: &str, address: &str, ready: bool) -> Value {
    json!({
        "addresses": [address], "conditions": { "ready": ready },
        "targetRef": { "kind": "Pod", "name": name },
    })
}

fn wanted_at(port: &str) -> Service {
    format!("shop/web:{port}").parse().unwrap()
}

fn two_ports() -> core::Service {
    service(&json!([{ "name": "http", "port": 80 }, { "name": "admin", "port": 81 }]))
}

#[test]
fn a_port_is_found_by_number_and_by_name() {
    let pods = json!([pod("a", "10.0.0.1", true), pod("b", "10.0.0.2", false)]);
    let slices = [
        slice(&json!({ "name": "http", "port": 8080 }), &pods),
        slice(&json!({ "name": "admin", "port": 8081 }), &pods),
    ];
    for (asked, port) in [("80", 8080), ("http", 8080), ("81", 8081), ("admin", 8081)] {
        let found = find(&wanted_at(asked), Some(&two_ports()), slices.iter());
        let place = Place {
            address: "10.0.0.1".to_owned(),
            port,
            pod: Some("a".to_owned()),
        };
        assert_eq!(found.places, [place], "{asked}");
    }
    let found = find(&wanted_at("8080"), Some(&two_ports()), slices.iter());
    assert_eq!(
        found.lack,
        "service shop/web:8080 has no such port; it has 80 (http), 81 (admin)"
    );
}

#[test]
fn each_lack_is_said() {
    let none = [].iter();
    let found = find(&wanted_at("80"), None, none);
    assert_eq!(found.lack, "there is no service shop/web:80");
    let found = find(&wanted_at("80"), Some(&two_ports()), [].iter());
    assert_eq!(found.lack, "service shop/web:80 has no pod");
    assert_eq!(found.address, Some(("10.96.1.1".to_owned(), 80)));
    let unready = json!([pod("a", "10.0.0.1", false)]);
    let slices = [slice(&json!({ "name": "http", "port": 8080 }), &unready)];
    let found = find(&wanted_at("80"), Some(&two_ports()), slices.iter());
    assert_eq!(
        found.lack,
        "service shop/web:80 has no ready pod (1 not ready)"
    );
    let external =
        json!({ "metadata": {}, "spec": { "type": "ExternalName", "externalName": "a.example" } });
    let external: core::Service = serde_json::from_value(external).unwrap();
    let found = find(&wanted_at("80"), Some(&external), [].iter());
    assert!(found.lack.contains("ExternalName"), "{}", found.lack);
}

fn route(services: &[(&str, u32)]) -> Route {
    let of = |(port, weight): &(&str, u32)| ServiceUpstream {
        service: wanted_at(port),
        weight: *weight,
        target: None,
        tier: 2,
    };
    let action = Action::Forward(Box::new(Forward {
        upstream: Upstream {
            protocol: Protocol::Http,
            endpoints: Vec::new(),
            services: services.iter().map(of).collect(),
            tls: UpstreamTls::default(),
            send_proxy: None,
            lack: None,
        },
        rewrite: Rewrite::default(),
        timeouts: Timeouts::default(),
    }));
    Route::open("a", Host::Any, Path::Prefix("/".to_owned()), action)
}

fn upstream(route: Route) -> Upstream {
    match route.action {
        Action::Forward(forward) => forward.upstream,
        other => panic!("{other:?}"),
    }
}

fn place(pod: Option<&str>) -> Place {
    Place {
        address: "10.0.0.1".to_owned(),
        port: 8080,
        pod: pod.map(str::to_owned),
    }
}

fn known(places: &[Place]) -> Known {
    let found = Found {
        places: places.to_vec(),
        ..Found::default()
    };
    Known {
        found: [(wanted_at("80"), found)].into(),
        trouble: BTreeMap::new(),
    }
}

#[test]
fn outside_a_tunnel_leads_to_pods_and_inside_nothing_is_between() {
    let known = known(&[place(Some("a"))]);
    let inside = upstream(resolved(route(&[("80", 1)]), &known, false));
    assert_eq!(
        (inside.endpoints[0].pod.clone(), inside.endpoints[0].tier),
        (None, 2)
    );
    let outside = upstream(resolved(route(&[("80", 1)]), &known, true));
    assert_eq!(&*outside.endpoints[0].pod.clone().unwrap().name, "a");
    assert_eq!(outside.lack, None);
}

#[test]
fn what_is_not_seen_yet_has_its_name_inside_and_a_reason_outside() {
    let mut nothing = Known::default();
    let inside = upstream(resolved(route(&[("80", 1)]), &nothing, false));
    assert_eq!(&*inside.endpoints[0].host, "web.shop.svc");
    let lack = |known: &Known, port| {
        let outside = upstream(resolved(route(&[(port, 1)]), known, true));
        assert_eq!(outside.endpoints, []);
        outside.lack.unwrap().to_string()
    };
    assert_eq!(
        lack(&nothing, "80"),
        "service shop/web:80 is being looked for"
    );
    let trouble = "services: forbidden".to_owned();
    nothing.trouble.insert(None, trouble);
    assert_eq!(
        lack(&nothing, "80"),
        "service shop/web:80 is not known: services: forbidden"
    );
    assert!(lack(&known(&[place(None)]), "80").contains("are no pods"));
}

#[test]
fn a_service_has_its_share_however_many_pods_it_is() {
    let mut known = known(&[place(Some("a")), place(Some("b")), place(Some("c"))]);
    let other = Found {
        places: vec![place(Some("d"))],
        ..Found::default()
    };
    known.found.insert(wanted_at("81"), other);
    let both = upstream(resolved(route(&[("80", 1), ("81", 1)]), &known, true));
    let weights: Vec<u32> = both.endpoints.iter().map(|one| one.weight).collect();
    assert_eq!(weights[..3].iter().sum::<u32>(), weights[3]);
    assert_eq!(wanted(&[route(&[("80", 1), ("81", 1)])]).len(), 2);
}
