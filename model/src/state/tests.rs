//! The rules of [`State`], by example and by property.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn target(deep: bool) -> Arc<Target> {
    Arc::new(Target {
        required: true,
        deep,
        ..Target::new("t", "redis", Duration::from_secs(10))
    })
}

fn start() -> Timestamp {
    Timestamp::from_micros(1_000_000_000)
}

fn seen(depth: Depth, outcome: Outcome) -> Observation {
    Observation {
        target: "t".into(),
        at: start(),
        depth,
        outcome,
        latency: Duration::from_millis(2),
        looks: 1,
        hint: None,
        facts: Facts::default(),
    }
}

fn good(depth: Depth) -> Observation {
    seen(
        depth,
        Outcome::Good {
            attention: Vec::new(),
        },
    )
}

fn attention(depth: Depth) -> Observation {
    let attention = vec![Attention {
        reason: Reason::ConnectionsHigh,
        message: "nearly full".into(),
    }];
    seen(depth, Outcome::Good { attention })
}

fn bad(depth: Depth, reason: Reason) -> Observation {
    seen(
        depth,
        Outcome::Bad {
            reason,
            message: "no".into(),
        },
    )
}

/// Applies one after another, a second apart; the healths after each.
fn healths(deep: bool, observations: &[Observation]) -> Vec<Health> {
    let mut state = State::new(target(deep), start());
    let mut now = start();
    let mut after = Vec::new();
    for observation in observations {
        now = now + SECOND;
        state.apply(observation, 1, now);
        after.push(state.standing().health);
    }
    after
}

#[test]
fn one_certain_failure_is_enough_but_silence_needs_two() {
    use Health::{Down, Up};
    let look = Depth::Look;
    let refused = bad(look, Reason::Refused);
    let silent = bad(look, Reason::Timeout);
    assert_eq!(healths(false, &[good(look), refused]), [Up, Down]);
    let twice = [good(look), silent.clone(), silent.clone()];
    assert_eq!(healths(false, &twice), [Up, Up, Down]);
    let apart = [
        good(look),
        silent.clone(),
        good(look),
        silent.clone(),
        good(look),
    ];
    assert_eq!(healths(false, &apart), [Up; 5]);
    let mut double = silent;
    double.looks = 2;
    assert_eq!(healths(false, &[good(look), double]), [Up, Down]);
}

#[test]
fn what_answers_but_cannot_work_stays_down_until_a_deep_look_is_good() {
    use Health::{Down, Unknown, Up};
    let (look, deep) = (Depth::Look, Depth::Deep);
    let read_only = bad(deep, Reason::ReadOnly);
    let steps = [
        good(look),
        good(deep),
        read_only,
        good(look),
        good(look),
        good(deep),
    ];
    assert_eq!(healths(true, &steps), [Unknown, Up, Down, Down, Down, Up]);
}

#[test]
fn what_the_prober_could_not_ask_is_unknown_and_a_targets_own_cause_comes_first() {
    use Health::{Down, Unknown, Up};
    let (look, deep) = (Depth::Look, Depth::Deep);
    let fault = bad(look, Reason::ProberFault);
    let own = bad(deep, Reason::DiskFull);
    let steps = [
        good(look),
        good(deep),
        fault.clone(),
        fault,
        own,
        good(look),
        good(deep),
    ];
    assert_eq!(
        healths(true, &steps),
        [Unknown, Up, Up, Unknown, Down, Down, Up]
    );
}

#[test]
fn attention_degrades_and_its_end_restores() {
    use Health::{Degraded, Up};
    let look = Depth::Look;
    let steps = [good(look), attention(look), good(look)];
    assert_eq!(healths(false, &steps), [Up, Degraded, Up]);
}

#[test]
fn silence_of_the_prober_is_unknown_and_never_up() {
    let mut state = State::new(target(true), start());
    let later = start() + SECOND;
    state.apply(&good(Depth::Look), 1, later);
    state.apply(&good(Depth::Deep), 1, later);
    assert!(state.expire(2, later + 9 * SECOND).is_none());
    let event = state.expire(2, later + 10 * SECOND).unwrap();
    assert_eq!(
        (event.from, event.to, event.reason),
        (Health::Up, Health::Unknown, Reason::Silence)
    );
    assert!(state.expire(3, later + 11 * SECOND).is_none());
    // What was known before the silence does not count: both questions are open again.
    assert!(
        state
            .apply(&good(Depth::Look), 3, later + 12 * SECOND)
            .is_none()
    );
    let event = state
        .apply(&good(Depth::Deep), 3, later + 12 * SECOND)
        .unwrap();
    assert_eq!(event.to, Health::Up);
}

#[test]
fn the_delay_counts_from_the_hint_or_from_the_last_good_look() {
    let mut state = State::new(target(false), start());
    state.apply(&good(Depth::Look), 1, start() + SECOND);
    let mut hinted = bad(Depth::Look, Reason::Refused);
    hinted.hint = Some(Hint {
        what: "connection_closed",
        at: start() + 2 * SECOND,
    });
    let now = start() + 2 * SECOND + Duration::from_millis(3);
    let event = state.clone().apply(&hinted, 2, now).unwrap();
    assert_eq!(
        (event.detected_ms, event.hint.as_deref()),
        (3.0, Some("connection_closed"))
    );
    let event = state
        .apply(&bad(Depth::Look, Reason::Refused), 2, now)
        .unwrap();
    assert_eq!(event.detected_ms, 1003.0);
    let event = state
        .apply(&good(Depth::Look), 3, now + 5 * SECOND)
        .unwrap();
    assert_eq!(event.detected_ms, 5000.0);
}

#[derive(Clone, Debug)]
enum Step {
    See(Observation),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let depth = prop_oneof![Just(Depth::Look), Just(Depth::Deep)];
    let reason =
        prop::sample::select(Reason::ALL).prop_filter("ok is no failure", |r| *r != Reason::Ok);
    let step = prop_oneof![
        4 => depth.clone().prop_map(|depth| Step::See(good(depth))),
        1 => depth.clone().prop_map(|depth| Step::See(attention(depth))),
        3 => (depth, reason, 1..3u8).prop_map(|(depth, reason, looks)| {
            let mut observation = bad(depth, reason);
            observation.looks = looks;
            Step::See(observation)
        }),
        1 => (0..30u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..200)
}

fn thresholds() -> impl Strategy<Value = Thresholds> {
    (1..=32u8, 1..=32u8).prop_flat_map(|(window, recover)| {
        (1..=window, 1..=window).prop_map(move |(hard, soft)| Thresholds {
            hard,
            soft,
            window,
            recover,
        })
    })
}

#[test]
fn what_was_before_a_restart_goes_on_if_it_is_still_so() {
    let began = start() - 100 * SECOND;
    let standing = |health| Standing {
        health,
        reason: Reason::Refused,
        message: String::new(),
        since: began,
    };
    let since = |before, observation: &Observation| {
        let mut state = State::new(target(false), start());
        state.remember_before(standing(before));
        assert_eq!(state.standing().health, Health::Unknown);
        state.apply(observation, 1, start() + SECOND);
        state.standing().since
    };
    let refused = bad(Depth::Look, Reason::Refused);
    assert_eq!(since(Health::Down, &refused), began);
    assert_eq!(since(Health::Up, &refused), start() + SECOND);
    assert_eq!(since(Health::Up, &good(Depth::Look)), began);
}

proptest! {
    /// No transition is lost or made up: each starts where the one before ended, each is a
    /// change, and the last one is the state. So every down has had its end, or still is.
    #[test]
    fn transitions_form_a_chain(deep: bool, thresholds in thresholds(), steps in steps()) {
        let mut rules = Target::clone(&target(deep));
        rules.thresholds = thresholds;
        let mut state = State::new(Arc::new(rules), start());
        let (mut now, mut seq, mut health) = (start(), 0, Health::Unknown);
        for step in steps {
            let event = match step {
                Step::See(observation) => {
                    now = now + SECOND;
                    state.apply(&observation, seq + 1, now)
                }
                Step::Wait(seconds) => {
                    now = now + Duration::from_secs(seconds);
                    state.expire(seq + 1, now)
                }
            };
            if let Some(event) = event {
                seq += 1;
                prop_assert_eq!(event.seq, seq);
                prop_assert_eq!(event.from, health);
                prop_assert_ne!(event.from, event.to);
                prop_assert_eq!(event.at, now);
                prop_assert!(event.detected_ms >= 0.0);
                health = event.to;
            }
            prop_assert_eq!(state.standing().health, health);
            prop_assert!(state.standing().since <= now);
        }
    }

    /// Fewer bad looks than the thresholds ask for never make it down.
    #[test]
    fn down_only_after_enough_bad_looks(thresholds in thresholds(), bads in 1..32u8) {
        let needed = thresholds.hard;
        prop_assume!(bads < needed);
        let mut rules = Target::clone(&target(false));
        rules.thresholds = thresholds;
        let mut state = State::new(Arc::new(rules), start());
        for _ in 0..32 {
            state.apply(&good(Depth::Look), 1, start());
        }
        for _ in 0..bads {
            state.apply(&bad(Depth::Look, Reason::Refused), 1, start());
        }
        prop_assert_eq!(state.standing().health, Health::Up);
        for _ in bads..needed {
            state.apply(&bad(Depth::Look, Reason::Refused), 1, start());
        }
        prop_assert_eq!(state.standing().health, Health::Down);
    }

    /// Whatever came before, enough good looks of both kinds make it up.
    #[test]
    fn good_looks_heal(deep: bool, thresholds in thresholds(), steps in steps()) {
        let mut rules = Target::clone(&target(deep));
        rules.thresholds = thresholds;
        let mut state = State::new(Arc::new(rules), start());
        for step in steps {
            if let Step::See(observation) = step {
                state.apply(&observation, 1, start());
            }
        }
        for _ in 0..thresholds.recover {
            state.apply(&good(Depth::Look), 1, start());
            state.apply(&good(Depth::Deep), 1, start());
        }
        prop_assert_eq!(state.standing().health, Health::Up);
    }

    /// Nothing that failed at its last look is shown up, unless the rules ask for more failures.
    #[test]
    fn up_means_that_the_last_looks_were_good(steps in steps()) {
        let mut rules = Target::clone(&target(true));
        rules.thresholds.soft = 1;
        let mut state = State::new(Arc::new(rules), start());
        for step in steps {
            let Step::See(observation) = step else { continue };
            let failed = matches!(observation.outcome, Outcome::Bad { .. });
            state.apply(&observation, 1, start());
            if failed {
                prop_assert!(!state.standing().health.works());
            }
        }
    }
}
