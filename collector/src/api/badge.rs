//! `/badge/TARGET.svg` and `/badge/TARGET/WINDOW.svg`: how a target is, or did, as a picture for
//! other pages. Must not know how health is decided.

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use comind_model::health::Health;
use maud::{Markup, html};

use crate::api::Api;
use crate::api::problem::Problem;
use crate::history::report::WINDOWS;

/// Width of one letter in the font that viewers without ours take instead, in pixels.
const LETTER: usize = 7;
/// A longer name is cut.
const LONGEST: usize = 40;

/// The handler.
pub async fn badge(State(api): State<Api>, Path(path): Path<String>) -> Response {
    let unknown = || {
        Problem::not_found(
            "there is no such badge",
            "write /badge/TARGET.svg or /badge/TARGET/30d.svg",
        )
    };
    let Some(name) = path.strip_suffix(".svg") else {
        return unknown().into_response();
    };
    let snapshot = api.readers.snapshot();
    if let Some(state) = snapshot.target(name) {
        let health = state.standing().health;
        return picture(name, health.as_str(), colour(health));
    }
    let report = api.history.report.borrow().clone();
    let of_window = name.rsplit_once('/').and_then(|(target, window)| {
        let known = WINDOWS.iter().any(|(name, _)| *name == window);
        let record = report.records.get(target).filter(|_| known)?;
        let (_, uptime) = record.uptime.iter().find(|(name, _)| *name == window)?;
        Some((target, window, *uptime))
    });
    match of_window {
        Some((target, window, uptime)) => {
            let (text, colour) = match uptime {
                Some(share) => (percent(share), graded(share)),
                None => ("no data".to_owned(), colour(Health::Unknown)),
            };
            picture(&format!("{target} {window}"), &text, colour)
        }
        None => unknown().into_response(),
    }
}

/// A share as people read it; never rounded up to 100.
pub fn percent(share: f64) -> String {
    match share {
        1.0 => "100 %".to_owned(),
        _ => format!("{:.2} %", (share * 10_000.0).floor() / 100.0),
    }
}

const fn colour(health: Health) -> &'static str {
    match health {
        Health::Up => "#1f7a3d",
        Health::Degraded => "#9a6700",
        Health::Down => "#b3261e",
        Health::Unknown => "#5f6368",
    }
}

fn graded(share: f64) -> &'static str {
    match share {
        share if share >= 0.999 => colour(Health::Up),
        share if share >= 0.99 => colour(Health::Degraded),
        _ => colour(Health::Down),
    }
}

fn picture(label: &str, value: &str, colour: &str) -> Response {
    let label: String = label.chars().take(LONGEST).collect();
    let svg = drawn(&label, value, colour).into_string();
    let headers = [
        (header::CONTENT_TYPE, "image/svg+xml"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, svg).into_response()
}

fn drawn(label: &str, value: &str, colour: &str) -> Markup {
    let width = |text: &str| text.chars().count() * LETTER + 12;
    let (left, right) = (width(label), width(value));
    html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(left + right) height="20" role="img" aria-label=(format!("{label}: {value}")) {
            title { (label) ": " (value) }
            rect width=(left) height="20" fill="#3c4043" {}
            rect x=(left) width=(right) height="20" fill=(colour) {}
            g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" {
                text x=(left / 2) y="14" { (label) }
                text x=(left + right / 2) y="14" { (value) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_rounded_up_to_perfect_and_names_are_escaped() {
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(percent(0.999_999), "99.99 %");
        let svg = drawn("<a>", "up", "#000").into_string();
        assert!(svg.contains("&lt;a&gt;") && !svg.contains("<a>"));
    }
}
