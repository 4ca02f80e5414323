//! The deserializer over nodes: each shape that a kind's settings may have.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::config::node::{Node, NodeError};
use crate::config::yaml;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Shape {
    Point,
    Circle(u8),
    Box { width: u8, height: i16 },
}

#[derive(Debug, PartialEq, Deserialize)]
struct All {
    text: String,
    #[serde(default)]
    maybe: Option<u16>,
    #[serde(default)]
    ratio: f64,
    #[serde(default)]
    pairs: BTreeMap<String, String>,
    #[serde(default)]
    shapes: Vec<Shape>,
    #[serde(default)]
    two: Option<(u8, bool)>,
}

fn node(text: &str) -> Node {
    yaml::read(text, "f", &|name| (name == "FIVE").then(|| "5".to_owned())).unwrap()
}

fn read(text: &str) -> Result<All, NodeError> {
    node(text).read()
}

fn told(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn every_shape_is_read() {
    let all = read(
        "text: 0123\nmaybe: ~\nratio: 0.5\npairs: { a: true, b: '1' }\n\
         shapes: [point, circle: 3, box: { width: 1, height: -2 }]\ntwo: [\"${FIVE}\", true]\n",
    )
    .unwrap();
    assert_eq!(all.text, "0123");
    assert_eq!((all.maybe, all.ratio), (None, 0.5));
    assert_eq!(all.pairs["a"], "true");
    let shapes = [
        Shape::Point,
        Shape::Circle(3),
        Shape::Box {
            width: 1,
            height: -2,
        },
    ];
    assert_eq!(all.shapes, shapes);
    assert_eq!(all.two, Some((5, true)));
}

#[test]
fn every_error_has_its_place_and_key() {
    let cases = [
        (
            "text: a\nmaybe: x",
            "f:2:8: `maybe`: expected a whole number from 0 to 65535, found a text",
        ),
        (
            "text: a\nmaybe: 70000",
            "f:2:8: `maybe`: expected a whole number from 0 to 65535, found a number",
        ),
        (
            "text: a\nratio: .inf",
            "f:2:8: `ratio`: expected a number such as 0.5, found a text",
        ),
        (
            "text: a\nratio: 1e999",
            "f:2:8: `ratio`: expected a number such as 0.5, found a number",
        ),
        (
            "text: a\npairs: [x]",
            "f:2:8: `pairs`: expected a map such as `{ key: value }`, found a list",
        ),
        (
            "text: a\npairs:\n  k: [x]",
            "f:3:6: `k`: expected a text, found a list",
        ),
        (
            "text: a\nshapes: x",
            "f:2:9: `shapes`: expected a list such as `[a, b]`, found a text",
        ),
        (
            "text: a\nshapes: [point, crcle: 1]",
            "f:2:17: `shapes`: unknown value `crcle`; did you mean `circle`? allowed: `box`, `circle`, `point`",
        ),
        (
            "text: a\nshapes: [circle]",
            "f:2:10: `shapes`: `circle` needs a value; write `circle: …`",
        ),
        (
            "text: a\nshapes: [[]]",
            "f:2:10: `shapes`: expected one of `box`, `circle`, `point`, found a list",
        ),
        (
            "text: a\nshapes: [box: { width: 1, hieght: 2 }]",
            "f:2:27: `shapes`: unknown key `hieght`; did you mean `height`? allowed: `height`, `width`",
        ),
        (
            "text: a\ntwo: [1]",
            "f:2:6: `two`: invalid length 1, expected a tuple of size 2",
        ),
        ("maybe: 1", "f:1:1: missing key `text`; add `text: …`"),
        (
            "text: null",
            "f:1:7: `text`: expected a text, found nothing",
        ),
        // Refused although the type itself would let it pass.
        ("text: a\nmore: b", "f:2:1: unknown key `more`;"),
    ];
    for (text, expected) in cases {
        let told = told(text);
        assert!(told.starts_with(expected), "{text:?}: {told}");
    }
}

#[test]
fn a_node_without_a_file_reads_and_errs_without_a_place() {
    let node = Node::from_pairs(&[("text", "x"), ("maybe", "7")]);
    let all: All = node.read().unwrap();
    assert_eq!((all.text.as_str(), all.maybe), ("x", Some(7)));
    let error = Node::from_pairs(&[("maybe", "7")])
        .read::<All>()
        .unwrap_err();
    assert_eq!(error.to_string(), "missing key `text`; add `text: …`");
}

#[test]
fn equality_ignores_places_and_the_order_of_keys() {
    assert!(node("a: 1\nb: [2, {c: d}]") == node("{b: [2, {c: d}],\n\n a: 1}"));
    assert!(node("a: 1") != node("a: '1'"));
    assert!(node("a: [1, 2]") != node("a: [2, 1]"));
    assert!(node("a: 1") != node("b: 1"));
}

#[test]
fn debug_shows_no_value() {
    assert_eq!(format!("{:?}", node("password: hunter2")), "a map at 1:1");
    assert_eq!(
        format!("{:?}", node("'hunter2'")),
        "a text in quotes at 1:1"
    );
}
