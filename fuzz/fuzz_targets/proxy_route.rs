//! Routes and requests of any text: never a panic, and what is found is for that host and path.
#![no_main]

use comind_model::ingress::{Action, Host, Path, Route};
use comind_proxy::request::rewrite;
use comind_proxy::route::compile::Compiler;
use comind_proxy::route::table::merged;
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<(String, String, u8)>, String, String, String)| {
    let (written, host, target, replacement) = input;
    let mut routes = Vec::new();
    for (number, (host, path, kind)) in written.into_iter().take(20).enumerate() {
        let Ok(host) = host.parse::<Host>() else { continue };
        let path = match kind % 3 {
            0 => Path::Prefix(path),
            1 => Path::Exact(path),
            _ => Path::Regex(path),
        };
        let action = Action::Respond { status: 200, body: "".into() };
        routes.push(Route::open(number.to_string(), host, path, action));
    }
    let (table, _) = Compiler::default().compile(&routes);
    let Ok(uri) = target.parse::<http::Uri>() else { return };
    let path = merged(uri.path());
    assert!(!path.contains("//"));
    if let Some(route) = table.find(&host, &path, &HeaderMap::new()) {
        if let Host::Exact(name) = &route.host {
            assert!(host.to_ascii_lowercase().starts_with(name.as_str()));
        }
        let _ = rewrite::path(&uri, &route.path, Some(&replacement));
    }
});
