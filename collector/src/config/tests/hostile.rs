//! Nothing in a config makes the reader panic, or cost more than its size.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{EXAMPLE, problems, read};
use crate::config::duration::Span;
use crate::config::node::Node;

/// Reads it and asserts that this took no long time.
fn quick_problems(text: &str) -> String {
    let began = Instant::now();
    let told = problems(text);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "took {:?}",
        began.elapsed()
    );
    told
}

#[test]
fn a_billion_laughs_are_refused() {
    let mut text = String::from("a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]\n");
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        text += &format!(
            "a{level}: &a{level} [{}]\n",
            [below.as_str(); 10].join(", ")
        );
    }
    let told = quick_problems(&text);
    assert!(told.contains("c.yaml:6:"), "{told}");
    assert!(
        told.contains("once every alias is written out; use fewer aliases"),
        "{told}"
    );
}

#[test]
fn a_long_text_repeated_by_aliases_is_refused() {
    let aliases = vec!["*long"; 50_000].join(", ");
    let text = format!("a: &long {}\nb: [{aliases}]\n", "x".repeat(100_000));
    assert!(quick_problems(&text).contains("use fewer aliases"));
}

#[test]
fn merging_the_same_map_over_and_over_is_refused() {
    let keys: String = (0..10_000).map(|n| format!("k{n}: 1, ")).collect();
    let uses = "- { <<: *m }\n".repeat(10_000);
    let text = format!("m: &m {{ {keys} }}\nb:\n{uses}");
    assert!(quick_problems(&text).contains("use fewer aliases"));
}

#[test]
fn deep_nesting_is_refused() {
    for text in [
        "[".repeat(100_000),
        "- ".repeat(100_000),
        "{a: ".repeat(1_000),
        "[{a: ".repeat(60),
    ] {
        let told = quick_problems(&text);
        assert!(
            told.contains("nested deeper than 64"),
            "{}: {told}",
            &text[..8]
        );
    }
}

#[test]
fn an_alias_cannot_lie_inside_itself() {
    let told = problems("a: &a [*a]\n");
    assert!(told.starts_with("c.yaml:1:8: "), "{told}");
}

#[test]
fn control_characters_are_refused_with_their_place() {
    let told = problems("targets: []\n# \0 hidden\napi: nonsense\n");
    assert!(
        told.starts_with("c.yaml:2:3: control character U+0000"),
        "{told}"
    );
}

#[test]
fn a_huge_map_of_unknown_keys_is_refused_soon() {
    let text: String = (0..100_000).map(|n| format!("key{n}: 1\n")).collect();
    assert!(quick_problems(&text).contains("more problems"));
}

#[test]
fn a_huge_key_is_not_shown_whole() {
    let text = format!("? {}\n: 1\n", "k".repeat(1_000_000));
    assert!(quick_problems(&text).len() < 1_000);
}

/// Pieces of YAML and of our own keys, to get past the first line.
fn yaml_like() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "targets:",
        "api:",
        "\n",
        "\n  ",
        "\n  - ",
        "- ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "&a ",
        "*a",
        "<<: ",
        "name: a",
        "kind: tcp",
        "kind: redis",
        "url: tcp://h:1",
        "interval: ",
        "5s",
        "${",
        "}",
        "$$",
        "\"",
        "'",
        "|\n",
        ">-\n",
        "# c",
        "---",
        "...",
        "!!str ",
        "!x ",
        "? ",
        "~",
        "null",
        "\t",
        "é",
        "\u{feff}",
        "\r\n",
        "thresholds: {soft: 2}",
        "%YAML 1.2\n",
        "_file: x",
        "1e999",
        "@",
        "`",
    ]);
    prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = read(&text);
    }

    #[test]
    fn no_yaml_makes_it_panic(text in yaml_like()) {
        let _ = read(&text);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn every_problem_of_a_cut_or_changed_config_has_its_place(at in 0..EXAMPLE.len(), piece in yaml_like()) {
        prop_assume!(EXAMPLE.is_char_boundary(at));
        let text = format!("{}{piece}{}", &EXAMPLE[..at], &EXAMPLE[at..]);
        if let Err(error) = read(&text) {
            for problem in error.problems {
                prop_assert!(problem.line > 0 && problem.column > 0, "{problem}");
                prop_assert!(problem.line as usize <= text.lines().count() + 1, "{problem}");
            }
        }
    }

    #[test]
    fn durations_survive_being_written(millis in 0_u64..=999_999_999) {
        let span = Span::from_millis(millis);
        prop_assert_eq!(span.to_string().parse(), Ok(span));
    }

    #[test]
    fn durations_are_read_as_written(number in 0_u64..=999_999_999, unit in prop::sample::select(vec!["ms", "s", "m", "h"])) {
        let text = format!("{number}{unit}");
        let node = Node::from_pairs(&[("t", &text)]);
        let span: Span = node.get("t").unwrap().read().unwrap();
        prop_assert_eq!(span.to_string().parse(), Ok(span));
    }

    #[test]
    fn no_text_makes_a_duration_panic(text in any::<String>()) {
        let _ = text.parse::<Span>();
    }
}
