//! Serves the live page, its live part and its assets. Must not know how they look (`page`).

use std::time::Duration;

use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use comind_model::session::By;

use crate::access::right::{Asker, Right};
use crate::api::problem::Problem;
use crate::api::{Api, page};
use crate::history::{Windows, query};

/// The whole page.
pub async fn whole(
    State(api): State<Api>,
    Extension(asker): Extension<Asker>,
    RawQuery(query): RawQuery,
) -> Html<String> {
    let beside = beside(&api, asker.right, query.as_deref()).await;
    let snapshot = api.readers.snapshot();
    let build = format!("{} {}", api.build.version, api.build.commit);
    Html(page::render(&snapshot, &beside, api.clock.now(), &build).into_string())
}

/// Outages on the page of one target.
const OUTAGES: usize = 50;
/// Transitions in which they are looked for.
const LOOKED_AT: u32 = 1_000;
/// Days on it.
const DAYS: u32 = 90;
const DAY: Duration = Duration::from_secs(86_400);

/// The page of one target.
pub async fn target(State(api): State<Api>, Path(name): Path<String>) -> Response {
    let snapshot = api.readers.snapshot();
    let Some(state) = snapshot.target(&name).cloned() else {
        return Problem::not_found("there is no such target", "the page at / lists all of them")
            .into_response();
    };
    let now = api.clock.now();
    let wishes = api.maintenance.borrow().clone();
    let asked = name.clone();
    let found = query::ask(&api.history, move |connection| {
        let long = (now - DAY * DAYS, now + DAY);
        let excluded = Windows::of(&wishes.maintenance, long).excluded(&asked);
        let kept = query::transitions(connection, Some(&asked), long, LOOKED_AT)?;
        let days = query::days(connection, &asked, DAYS, &excluded, now)?;
        let latencies = query::latencies(connection, &asked, (now - DAY, now))?;
        Ok((query::outages_in(&kept, now), days, latencies))
    });
    let (found, trouble) = match found.await {
        Ok(found) => (found, None),
        Err(error) => (Default::default(), Some(error)),
    };
    let (mut outages, days, latencies) = found;
    outages.truncate(OUTAGES);
    let report = api.history.report.borrow().clone();
    let view = page::target::View {
        state,
        record: report.records.get(&*name).cloned(),
        days,
        outages,
        latencies,
        trouble: trouble.or_else(|| report.trouble.clone()),
    };
    // A proxy may serve us below a path of its own, so the way back is told step by step.
    let base = "../".repeat(name.matches('/').count() + 1);
    Html(page::target::document(&view, &base, now).into_string()).into_response()
}

/// Only the part that changes.
pub async fn live(
    State(api): State<Api>,
    Extension(asker): Extension<Asker>,
    RawQuery(query): RawQuery,
) -> Html<String> {
    let beside = beside(&api, asker.right, query.as_deref()).await;
    let snapshot = api.readers.snapshot();
    Html(page::live(&snapshot, &beside, api.clock.now()).into_string())
}

async fn beside(api: &Api, right: Right, query: Option<&str>) -> page::Beside {
    let sessions = sessions(api, right, page::sessions::wanted(query)).await;
    let receivers = api.telling.receivers();
    let notices = page::Notices::of(
        &api.telling.alerts(),
        receivers.iter().map(|meter| &**meter),
    );
    page::Beside { notices, sessions }
}

/// What the page says of sessions; nothing where nobody can log in.
async fn sessions(api: &Api, right: Right, wanted: Option<By>) -> Option<page::Sessions> {
    let sessions = api.sessions.clone()?;
    let (place, open) = (sessions.place().to_owned(), sessions.open()?);
    let shown = match wanted.filter(|_| right >= Right::Look) {
        None => None,
        Some(by) => {
            // A hundred thousand of them are milliseconds of work: not on a thread that probes run on.
            let most = page::sessions::SHOWN;
            let listed = tokio::task::spawn_blocking(move || sessions.list(by, most));
            Some((by, listed.await.ok()??))
        }
    };
    let open = shown.as_ref().map_or(open, |(_, listed)| listed.open);
    Some(page::Sessions {
        place,
        open,
        right,
        shown,
    })
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
