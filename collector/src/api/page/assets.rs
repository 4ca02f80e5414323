//! The files that the page asks for, embedded, and the rules under which a browser may use them.
//! Must not know what the page shows.

use comind_model::health::Health;

/// The page's files: path below `/assets/`, content type, content.
pub const ASSETS: &[(&str, &str, &[u8])] = &[
    ("page.css", "text/css; charset=utf-8", CSS),
    ("page.js", "text/javascript; charset=utf-8", JS),
    (
        "sessions.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../../../../dashboards/page/sessions.js"),
    ),
    (
        "up.svg",
        "image/svg+xml",
        include_bytes!("../../../../dashboards/page/up.svg"),
    ),
    (
        "degraded.svg",
        "image/svg+xml",
        include_bytes!("../../../../dashboards/page/degraded.svg"),
    ),
    (
        "down.svg",
        "image/svg+xml",
        include_bytes!("../../../../dashboards/page/down.svg"),
    ),
    (
        "unknown.svg",
        "image/svg+xml",
        include_bytes!("../../../../dashboards/page/unknown.svg"),
    ),
];

const CSS: &[u8] = include_bytes!("../../../../dashboards/page/page.css");
const JS: &[u8] = include_bytes!("../../../../dashboards/page/page.js");

/// The value of `Content-Security-Policy` for the page: our own files and nothing else. Markup
/// may not be made from strings either, so that no name or message can ever become a script.
/// `data:` is for the icon of a page that has lost its server, which cannot be fetched then.
pub const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// Changes with every asset and with nothing else: an open page that sees another one reloads.
pub(super) const VERSION: u64 = {
    let mut hash = FNV_START;
    let mut index = 0;
    while index < ASSETS.len() {
        hash = fnv(hash, ASSETS[index].2);
        index += 1;
    }
    hash
};

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a: for names of things, not against anybody.
const fn fnv(start: u64, bytes: &[u8]) -> u64 {
    let mut hash = start;
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u64).wrapping_mul(0x0100_0000_01b3);
        index += 1;
    }
    hash
}

/// A short name for any text that is safe as an `id`, the same in every process.
pub(super) fn anchor(text: &str) -> String {
    format!("t{:016x}", fnv(FNV_START, text.as_bytes()))
}

/// Where an asset is, relative to the page, with a mark that changes with its content.
pub(super) fn address(path: &str) -> String {
    format!("assets/{path}?v={VERSION:016x}")
}

/// The icon that says this health in a browser's tab.
pub(super) fn icon(health: Health) -> String {
    address(&format!("{health}.svg"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_health_has_its_icon() {
        for health in Health::ALL {
            let name = format!("{health}.svg");
            assert!(
                ASSETS.iter().any(|(path, ..)| *path == name),
                "{name} is missing"
            );
        }
    }

    #[test]
    fn the_policy_allows_nothing_from_elsewhere_and_nothing_inline() {
        for word in ["unsafe", "http:", "https:", "*", "blob:", "nonce", "sha256"] {
            assert!(!CSP.contains(word), "the policy has {word}");
        }
        assert!(CSP.starts_with("default-src 'none';"));
    }

    #[test]
    fn no_asset_reaches_beyond_the_host() {
        for (path, _, content) in ASSETS {
            let text = std::str::from_utf8(content).unwrap();
            let text = text.replace("http://www.w3.org/2000/svg", "");
            for word in ["http:", "https:", "url(//", "@import", "eval(", "innerHTML"] {
                assert!(!text.contains(word), "{path} has {word}");
            }
        }
    }
}
