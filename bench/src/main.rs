//! Runs comind-ops beside its peers, on the same machine in the same run, and prints ratios.
//! Losses are printed too. Nothing here passes or fails: a bench measures.
//!
//! `make bench-access`, `make bench-detection`, `make bench-alert`, `make bench-cost`, `make bench-schedule`, `make bench-scrape`,
//! `make bench-page`, `make bench-proxy`, `make bench-revoke`, `make bench-tunnel`, `make bench-watch`.

mod access;
mod alert;
mod backend;
mod cost;
mod detection;
mod figures;
mod page;
mod proxy;
mod proxy_many;
mod revoke;
mod rivals;
mod schedule;
mod scrape;
mod subject;
mod tunnel;
mod watch;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let what = words.next().unwrap_or_default();
    let count = words.next().map(|word| word.parse()).transpose()?;
    // Kill and stop wait for the signalled process: the listener needs a thread of its own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .build()?;
    match what.as_str() {
        "detection" => runtime.block_on(detection::run(count.unwrap_or(30))),
        "access" => runtime.block_on(access::run(count.unwrap_or(3))),
        "alert" => runtime.block_on(alert::run(count.unwrap_or(30))),
        "cost" => runtime.block_on(cost::run()),
        "page" => runtime.block_on(page::run()),
        "proxy" => runtime.block_on(proxy::run(count.unwrap_or(5) as u64)),
        "proxy-many" => runtime.block_on(proxy_many::run(count.unwrap_or(300) as u64)),
        "tunnel" => runtime.block_on(tunnel::run(count.unwrap_or(5) as u64)),
        "revoke" => runtime.block_on(revoke::run(count.unwrap_or(30))),
        "watch" => runtime.block_on(watch::run()),
        "schedule" => runtime.block_on(schedule::run()),
        "scrape" => runtime.block_on(scrape::run()),
        other => bail!(
            "`{other}` is no bench; give access [ROUNDS], detection [KILLS], alert [KILLS], cost, page, proxy [SECONDS], proxy-many [SECONDS], revoke [ROUNDS], tunnel [SECONDS], watch, schedule or scrape"
        ),
    }
}
