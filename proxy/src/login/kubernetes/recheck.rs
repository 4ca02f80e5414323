//! What is under way is asked about again: a token that is worth nothing any more ends its
//! sessions, a right that is lost ends what was let in by it. Answers come from the same memory as
//! those for new requests, so that both learn of a change at the same time.

use std::sync::Arc;
use std::time::Duration;

use comind_model::login::Why;
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::answers::Known;
use super::reviewer::{Answer, Reviewer};
use super::{key_of, who};
use crate::login::gate::Gate;
use crate::serve::worker::Shared;
use crate::session::held::Slot;
use crate::session::table::Session;

/// How often it is looked what has to be asked again.
const TURN: Duration = Duration::from_millis(250);
/// Sessions that are asked about at once.
const AT_ONCE: usize = 64;

/// Does so until `stop`.
pub async fn keep(shared: Arc<Shared>, stop: CancellationToken) {
    let mut turns = tokio::time::interval(TURN);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = turns.tick() => {}
        }
        let gate = shared.current.load().terms.gate.clone();
        let Some(gate) = gate.filter(|gate| gate.asks_clusters()) else {
            continue;
        };
        let sessions = gate.common.sessions.at_stake();
        let looks = futures_util::stream::iter(sessions)
            .for_each_concurrent(AT_ONCE, |session| look(&gate, session));
        tokio::select! {
            () = stop.cancelled() => return,
            () = looks => {}
        }
    }
}

async fn look(gate: &Gate, session: Arc<Session>) {
    let login = gate.get(&session.place.login);
    let login = login.filter(|login| login.stamp == session.place.stamp);
    let Some((login, reviewer)) = login.and_then(|login| Some((login, login.reviewer.as_ref()?)))
    else {
        // Its login is another one now; whoever changed that ends it.
        return;
    };
    let Some(token) = &session.kept else { return };
    let slots = session.carries();
    match reviewer.who(key_of(gate, login, token), token).await {
        Answer::Known(Known::Yes(person)) if who(&person, reviewer.told()) == session.who => {
            for slot in &slots {
                let held = match &slot.right {
                    None => Answer::Known(Known::Yes(())),
                    Some(right) => reviewer.may(&gate.common, &person, right).await,
                };
                judge(gate, reviewer, &session, slot, &held);
            }
        }
        Answer::Known(Known::Yes(_)) => {
            gate.common.sessions.end(&session, Why::Changed, None);
        }
        Answer::Known(Known::No) => {
            gate.common.sessions.end(&session, Why::Unknown, None);
        }
        Answer::Away(why) => {
            for slot in &slots {
                judge(gate, reviewer, &session, slot, &Answer::Away(why.clone()));
            }
        }
    }
}

fn judge(
    gate: &Gate,
    reviewer: &Reviewer,
    session: &Arc<Session>,
    slot: &Arc<Slot>,
    held: &Answer<()>,
) {
    let now = reviewer.now();
    let why = match held {
        Answer::Known(Known::Yes(())) => return slot.prove(now),
        Answer::Known(Known::No) => "lost_right",
        Answer::Away(_) => {
            let since = Duration::from_millis(now.saturating_sub(slot.proved()));
            if since < reviewer.told().grace {
                return;
            }
            "not_checked"
        }
    };
    let sessions = &gate.common.sessions;
    sessions.refuse(&session.place, Some(&session.who.user), why);
    session.lose(slot);
}
