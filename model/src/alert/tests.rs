//! The rules of [`Book`], by example and by property.

use proptest::prelude::*;

use super::*;
use crate::fact::Facts;
use crate::observation::{Depth, Observation, Outcome};

const SECOND: Duration = Duration::from_secs(1);

fn start() -> Timestamp {
    Timestamp::from_micros(1_000_000_000)
}

fn target(name: &str, required: bool, depends_on: &[&str]) -> Target {
    Target {
        required,
        depends_on: depends_on.iter().map(|name| Arc::from(*name)).collect(),
        ..Target::new(name, "tcp", 10 * SECOND)
    }
}

/// A few targets, a book, and a clock.
struct World {
    states: Vec<Arc<State>>,
    book: Book,
    now: Timestamp,
    maintained: HashSet<String>,
}

impl World {
    fn new(targets: Vec<Target>) -> Self {
        let state = |target| Arc::new(State::new(Arc::new(target), start()));
        Self {
            states: targets.into_iter().map(state).collect(),
            book: Book::default(),
            now: start(),
            maintained: HashSet::new(),
        }
    }

    fn look(&mut self, place: usize, good: bool) {
        let outcome = match good {
            true => Outcome::Good { attention: vec![] },
            false => Outcome::Bad {
                reason: Reason::Refused,
                message: "refused".into(),
            },
        };
        let observation = Observation {
            target: self.states[place].target().name.clone(),
            at: self.now,
            depth: Depth::Look,
            outcome,
            latency: Duration::ZERO,
            looks: 1,
            hint: None,
            facts: Facts::default(),
        };
        let state = Arc::make_mut(&mut self.states[place]);
        if let Some(event) = state.apply(&observation, 1, self.now) {
            self.book.note(&event);
        }
    }

    /// Looks at all, a moment later, and turns; what is told, in words.
    fn step(&mut self, good: &[bool]) -> Vec<String> {
        self.now = self.now + SECOND;
        for (place, good) in good.iter().enumerate() {
            self.look(place, *good);
        }
        self.turn()
    }

    fn turn(&mut self) -> Vec<String> {
        let maintained = &self.maintained;
        let on = |target: &Target| maintained.contains(&*target.name).then(|| "work".into());
        let notices = self.book.turn(&self.states, &on, self.now);
        let word = |notice: &Notice| match notice {
            Notice::Firing(alert) => format!("{} {}", alert.target, alert.name.as_str()),
            Notice::Resolved(alert, _) => format!("{} resolved", alert.target),
        };
        notices.iter().map(word).collect()
    }
}

fn nothing() -> Vec<String> {
    Vec::new()
}

#[test]
fn required_pages_optional_warns_and_both_are_resolved_once() {
    let mut world = World::new(vec![target("db", true, &[]), target("cache", false, &[])]);
    assert_eq!(world.step(&[true, true]), nothing());
    let down = ["db RequiredServiceDown", "cache OptionalServiceDown"];
    assert_eq!(world.step(&[false, false]), down);
    assert_eq!(world.step(&[false, false]), nothing());
    assert_eq!(world.step(&[true, false]), ["db resolved"]);
    assert_eq!(world.step(&[true, true]), ["cache resolved"]);
    assert_eq!(world.step(&[true, true]), nothing());
}

#[test]
fn one_outage_keeps_its_id_over_a_restart_and_silence_resolves_nothing() {
    let mut world = World::new(vec![target("db", true, &[])]);
    world.step(&[true]);
    world.step(&[false]);
    let before: Vec<_> = world.book.open().cloned().collect();
    let fresh = World::new(vec![target("db", true, &[])]);
    world.states = fresh.states;
    world.book = Book::new(Policy::default(), before.clone());
    world.now = world.now + 100 * SECOND;
    assert_eq!(
        world.turn(),
        nothing(),
        "not looked at yet, and told before"
    );
    world.states = World::new(vec![target("db", true, &[])]).states;
    world.states[0] = Arc::new(State::new(world.states[0].target().clone(), world.now));
    assert_eq!(world.step(&[false]), nothing());
    assert_eq!(
        world.book.open().next().unwrap().alert.id,
        before[0].alert.id
    );
    assert_eq!(world.step(&[true]), ["db resolved"]);
}

#[test]
fn a_dependent_is_muted_while_its_dependency_is_down_but_never_its_end() {
    let mut world = World::new(vec![
        target("disk", true, &[]),
        target("db", true, &["disk"]),
        target("shop", false, &["db"]),
    ]);
    world.step(&[true, true, true]);
    assert_eq!(
        world.step(&[false, false, false]),
        ["disk RequiredServiceDown"]
    );
    let muted = |world: &World, name: &str| {
        let mut open = world.book.open();
        open.find(|open| &*open.alert.target == name)
            .unwrap()
            .muted
            .clone()
    };
    assert_eq!(muted(&world, "db"), Some(Muted::Dependency("disk".into())));
    assert_eq!(muted(&world, "shop"), Some(Muted::Dependency("db".into())));
    // The dependency is back and the dependent is not: now it is told.
    assert_eq!(
        world.step(&[true, false, true]),
        ["disk resolved", "db RequiredServiceDown"]
    );
    // Told before, so its end is told though its dependency is down again.
    assert_eq!(
        world.step(&[false, true, true]),
        ["disk RequiredServiceDown", "db resolved"]
    );
}

#[test]
fn a_dependent_that_is_seen_first_waits_for_a_look_at_its_dependency() {
    let mut world = World::new(vec![
        target("disk", true, &[]),
        target("db", true, &["disk"]),
    ]);
    world.step(&[true, true]);
    world.now = world.now + SECOND;
    world.look(1, false);
    assert_eq!(world.turn(), nothing());
    world.now = world.now + SECOND;
    world.look(0, false);
    assert_eq!(world.turn(), ["disk RequiredServiceDown"]);

    // A dependency that nobody looks at holds nothing back for long.
    let mut world = World::new(vec![
        target("disk", true, &[]),
        target("db", true, &["disk"]),
    ]);
    world.step(&[true, true]);
    world.now = world.now + SECOND;
    world.look(1, false);
    assert_eq!(world.turn(), nothing());
    world.now = world.now + Policy::default().dependency_wait;
    assert_eq!(world.turn(), ["db RequiredServiceDown"]);
}

#[test]
fn maintenance_mutes_what_begins_in_it_and_nothing_else() {
    let mut world = World::new(vec![target("db", true, &[]), target("cache", false, &[])]);
    world.step(&[true, true]);
    world.step(&[false, true]);
    world.maintained = ["db".to_owned(), "cache".to_owned()].into();
    assert_eq!(world.step(&[true, false]), ["db resolved"]);
    world.maintained.clear();
    assert_eq!(world.step(&[true, false]), ["cache OptionalServiceDown"]);
}

#[test]
fn flapping_is_told_once_and_resolved_when_it_is_over() {
    let mut world = World::new(vec![target("db", true, &[])]);
    let mut told = Vec::new();
    for round in 0..40 {
        told.extend(world.step(&[round % 2 == 0]));
    }
    assert!(told.len() <= 7, "{told:?}");
    assert_eq!(world.book.flapping().count(), 1);
    world.now = world.now + Policy::default().flap_window;
    assert_eq!(world.step(&[true]), ["db resolved"]);
    assert_eq!(world.book.flapping().count(), 0);
}

#[test]
fn a_required_target_of_which_nothing_is_known_is_told_of() {
    let mut world = World::new(vec![target("db", true, &[]), target("cache", false, &[])]);
    world.step(&[true, true]);
    let lost = |world: &mut World| {
        world.now = world.now + 11 * SECOND;
        for state in &mut world.states {
            Arc::make_mut(state).expire(1, world.now);
        }
    };
    lost(&mut world);
    assert_eq!(world.turn(), nothing());
    world.now = world.now + Policy::default().unknown_after;
    assert_eq!(world.turn(), ["db RequiredServiceUnknown"]);
    let turned = world.step(&[false, true]);
    assert_eq!(turned, ["db resolved", "db RequiredServiceDown"]);
}

#[test]
fn a_new_leader_goes_on_under_the_ids_of_the_one_before() {
    let mut world = World::new(vec![
        target("a", true, &[]),
        target("b", true, &[]),
        target("c", true, &[]),
    ]);
    world.step(&[true, true, true]);
    world.step(&[false, false, false]);
    let mut told: Vec<_> = world.book.open().map(|open| open.alert.clone()).collect();
    told.pop();
    told.iter_mut()
        .for_each(|alert| alert.id.push_str("-of-the-first"));
    world.step(&[false, true, false]);
    world.book.take_over();
    world.book.adopt(told);
    // b ended meanwhile, c was never told of.
    assert_eq!(world.turn(), ["b resolved", "c RequiredServiceDown"]);
    let ids: Vec<_> = world
        .book
        .open()
        .map(|open| open.alert.id.ends_with("-of-the-first"))
        .collect();
    assert_eq!(ids, [true, false]);
}

#[test]
fn what_is_no_longer_watched_is_resolved() {
    let mut world = World::new(vec![target("db", true, &[])]);
    world.step(&[true]);
    world.step(&[false]);
    world.states.clear();
    assert_eq!(world.turn(), ["db resolved"]);
}

proptest! {
    /// Whatever happens: what was told is resolved exactly once in the end, nothing is resolved
    /// that was not told, and nothing is told twice.
    #[test]
    fn firings_and_resolutions_come_in_pairs(
        steps in proptest::collection::vec((any::<[bool; 3]>(), any::<[bool; 3]>(), 0u32..100), 1..60)
    ) {
        let mut world = World::new(vec![
            target("a", true, &[]), target("b", true, &["a"]), target("c", false, &["b"]),
        ]);
        let mut open: HashSet<String> = HashSet::new();
        let mut check = |told: Vec<String>| {
            for line in told {
                let (name, what) = line.split_once(' ').unwrap();
                match what {
                    "resolved" => prop_assert!(open.remove(name), "{name} was not told"),
                    _ => prop_assert!(open.insert(name.to_owned()), "{name} twice"),
                }
            }
            Ok(())
        };
        for (good, maintained, pause) in steps {
            world.now = world.now + pause * SECOND;
            let names = ["a", "b", "c"].iter().zip(maintained);
            world.maintained = names.filter(|(_, on)| *on).map(|(name, _)| (*name).to_owned()).collect();
            check(world.step(&good))?;
        }
        world.maintained.clear();
        world.now = world.now + 2 * Policy::default().flap_window;
        check(world.step(&[true; 3]))?;
        prop_assert!(open.is_empty(), "{open:?} was never resolved");
        prop_assert_eq!(world.book.open().count(), 0);
    }
}
