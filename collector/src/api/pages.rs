//! Serves the live page, its live part and its assets. Must not know how they look (`page`).

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use crate::api::problem::Problem;
use crate::api::{Api, page};

/// The whole page.
pub async fn whole(State(api): State<Api>) -> Html<String> {
    let snapshot = api.readers.snapshot();
    let build = format!("{} {}", api.build.version, api.build.commit);
    let notices = notices(&api);
    Html(page::render(&snapshot, &notices, api.clock.now(), &build).into_string())
}

/// Only the part that changes.
pub async fn live(State(api): State<Api>) -> Html<String> {
    let snapshot = api.readers.snapshot();
    Html(page::live(&snapshot, &notices(&api), api.clock.now()).into_string())
}

fn notices(api: &Api) -> page::Notices {
    let receivers = api.telling.receivers();
    page::Notices::of(
        &api.telling.alerts(),
        receivers.iter().map(|meter| &**meter),
    )
}

/// A file of the page. Its tag is the version of the program: assets are built into it.
pub async fn asset(
    State(api): State<Api>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Response {
    let wanted = format!("/assets/{path}");
    let found = page::ASSETS
        .iter()
        .find(|(path, _, _)| *path == wanted || format!("/assets/{path}") == wanted);
    let Some((_, content_type, bytes)) = found else {
        return Problem::not_found(
            "there is no such asset",
            "reload the page: the program was updated",
        )
        .into_response();
    };
    let tag = format!(
        "\"{}-{}-{}\"",
        api.build.version,
        api.build.commit,
        bytes.len()
    );
    let fixed = [
        (header::CONTENT_TYPE, (*content_type).to_owned()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::ETAG, tag.clone()),
    ];
    if headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == tag.as_bytes())
    {
        return (StatusCode::NOT_MODIFIED, fixed).into_response();
    }
    (fixed, *bytes).into_response()
}
