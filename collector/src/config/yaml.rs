//! From YAML text to nodes with places: syntax, aliases, merge keys, environment variables,
//! and the bounds that keep a hostile file from costing more than its size.
//! Must not know which keys there are.

use std::collections::HashMap;
use std::sync::Arc;

use serde_saphyr::granit_parser as granit;

use super::env::{Env, substitute};
use super::node::{Entry, Node, NodeError, Place, Scalar, Value};
use super::suggest::shown;

/// How deep values may lie in each other.
const MAX_DEPTH: usize = 64;

/// How many values a file may hold with every alias written out; a long text counts as several.
const MAX_VALUES: usize = 1_000_000;

/// So many bytes of a text count as one value more.
const BYTES_PER_VALUE: usize = 64;

/// After so many problems the rest is hardly read.
const MAX_PROBLEMS: usize = 50;

/// Reads one YAML document. Problems of single values are collected; the first problem
/// of syntax ends it.
pub(super) fn read(text: &str, file: &str, env: &Env<'_>) -> Result<Node, Vec<NodeError>> {
    let mut builder = Builder::new(file, env);
    if let Err(fatal) = unprintable(text, &builder.file).and_then(|()| builder.run(text)) {
        builder.problems.push(fatal);
    }
    let root = builder.root.take().filter(|root| !root.is_null());
    match root {
        Some(root) if builder.problems.is_empty() => Ok(root),
        None if builder.problems.is_empty() => Err(vec![empty(&builder.file)]),
        _ => Err(builder.problems),
    }
}

fn empty(file: &Arc<str>) -> NodeError {
    let place = Place {
        file: file.clone(),
        line: 1,
        column: 1,
    };
    let message = "the file is empty; it needs at least `targets:` with a list";
    NodeError::message(message).at(&place)
}

/// YAML allows no control characters, and a NUL would end the parser's reading unseen.
fn unprintable(text: &str, file: &Arc<str>) -> Result<(), NodeError> {
    let bad = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    let Some(at) = text.find(bad) else {
        return Ok(());
    };
    let place = place_of(&text[..at], file);
    let code = text[at..].chars().next().map_or(0, u32::from);
    let message = format!("control character U+{code:04X}; a config is YAML text in UTF-8");
    Err(NodeError::message(message).at(&place))
}

/// The place right behind a text.
pub(super) fn place_of(before: &str, file: &Arc<str>) -> Place {
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    Place {
        file: file.clone(),
        line: u32::try_from(line).unwrap_or(u32::MAX),
        column: u32::try_from(column).unwrap_or(u32::MAX),
    }
}

/// A list or a map that is still being read.
struct Frame {
    place: Place,
    anchor: usize,
    /// `values` when it began; the difference is its own weight.
    began: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        /// Line of each key, to tell the first of two.
        lines: HashMap<Arc<str>, u32>,
        /// The key whose value comes next.
        key: Option<(Arc<str>, Place)>,
        /// Values of `<<`.
        merged: Vec<Node>,
    },
}

struct Builder<'a> {
    file: Arc<str>,
    env: &'a Env<'a>,
    stack: Vec<Frame>,
    /// Finished anchored nodes with their weight.
    anchors: HashMap<usize, (Node, usize)>,
    /// Values so far, every alias written out.
    values: usize,
    root: Option<Node>,
    problems: Vec<NodeError>,
}

impl<'a> Builder<'a> {
    fn new(file: &str, env: &'a Env<'a>) -> Self {
        Self {
            file: file.into(),
            env,
            stack: Vec::new(),
            anchors: HashMap::new(),
            values: 0,
            root: None,
            problems: Vec::new(),
        }
    }

    fn run(&mut self, text: &str) -> Result<(), NodeError> {
        let options = serde_saphyr::granit_parser::options! {
            emit_comments: false,
            disallow_directives: true,
            flow_nesting_limit: MAX_DEPTH,
            block_nesting_limit: MAX_DEPTH,
        };
        for event in granit::Parser::new_from_str_with_options(text, options) {
            let (event, span) = event.map_err(|error| self.syntax(&error))?;
            self.take(event, &span)?;
        }
        Ok(())
    }

    fn take(&mut self, event: granit::Event<'_>, span: &granit::Span) -> Result<(), NodeError> {
        use granit::Event;
        let place = self.place(span.start);
        if self.problems.len() >= MAX_PROBLEMS {
            return Err(NodeError::message("more problems follow; mend these first").at(&place));
        }
        match event {
            Event::DocumentStart(..) if self.root.is_some() => Err(NodeError::message(
                "a second document begins; a config is one, take the `---` out",
            )
            .at(&place)),
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = check_tag(tag.as_deref(), &place)?;
                let plain = style == granit::ScalarStyle::Plain && !is_text;
                self.weigh(1 + text.len() / BYTES_PER_VALUE, &place)?;
                self.scalar(&text, plain, anchor, place)
            }
            Event::Alias(anchor) => self.alias(anchor, &place),
            Event::SequenceStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), &place)?;
                self.begin(Inside::List(Vec::new()), anchor, place)
            }
            Event::MappingStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), &place)?;
                let map = Inside::Map {
                    entries: Vec::new(),
                    lines: HashMap::new(),
                    key: None,
                    merged: Vec::new(),
                };
                self.begin(map, anchor, place)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, inside: Inside, anchor: usize, place: Place) -> Result<(), NodeError> {
        if self.expects_key() {
            return Err(NodeError::message(
                "a key has to be a word, this is a list or a map; is a quote or a space after `:` missing?",
            )
            .at(&place));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(too_deep().at(&place));
        }
        let began = self.values;
        self.weigh(1, &place)?;
        self.stack.push(Frame {
            place,
            anchor,
            began,
            inside,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), NodeError> {
        let Some(frame) = self.stack.pop() else {
            return Ok(());
        };
        let node = match frame.inside {
            Inside::List(items) => Node::new(frame.place, Value::List(items.into())),
            Inside::Map {
                mut entries,
                lines,
                merged,
                ..
            } => {
                self.merge(&mut entries, lines, &merged)?;
                Node::map(frame.place, entries)
            }
        };
        if frame.anchor > 0 {
            let weight = self.values - frame.began;
            self.anchors.insert(frame.anchor, (node.clone(), weight));
        }
        self.place_value(node);
        Ok(())
    }

    fn scalar(
        &mut self,
        text: &str,
        plain: bool,
        anchor: usize,
        place: Place,
    ) -> Result<(), NodeError> {
        if self.expects_key() {
            self.take_key(text, plain, &place);
            return Ok(());
        }
        let scalar = self.substituted(text, plain, &place);
        let node = Node::new(place, Value::Scalar(scalar));
        if anchor > 0 {
            let weight = 1 + text.len() / BYTES_PER_VALUE;
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        self.place_value(node);
        Ok(())
    }

    fn substituted(&mut self, text: &str, plain: bool, place: &Place) -> Scalar {
        let (text, pieces) = match substitute(text, self.env) {
            Ok(None) => (text.into(), Vec::new()),
            Ok(Some(done)) => (done.text.into(), done.pieces),
            Err(problem) => {
                self.problems.push(NodeError::message(problem).at(place));
                (text.into(), Vec::new())
            }
        };
        Scalar {
            text,
            plain,
            from_env: pieces.into(),
        }
    }

    fn alias(&mut self, anchor: usize, place: &Place) -> Result<(), NodeError> {
        let Some((node, weight)) = self.anchors.get(&anchor) else {
            return Err(NodeError::message("this alias lies inside what it stands for").at(place));
        };
        let (node, weight) = (node.clone(), *weight);
        if self.expects_key() {
            return Err(
                NodeError::message("an alias cannot be a key; write the key out").at(place),
            );
        }
        self.weigh(weight, place)?;
        self.place_value(node);
        Ok(())
    }

    fn expects_key(&self) -> bool {
        let inside = self.stack.last().map(|frame| &frame.inside);
        matches!(inside, Some(Inside::Map { key: None, .. }))
    }

    fn take_key(&mut self, text: &str, plain: bool, place: &Place) {
        let Some(Frame {
            inside: Inside::Map { key, lines, .. },
            ..
        }) = self.stack.last_mut()
        else {
            return;
        };
        let name: Arc<str> = text.into();
        *key = Some((name.clone(), place.clone()));
        if name.is_empty() {
            self.problems
                .push(NodeError::message("the key before `:` is missing").at(place));
        } else if let Some(first) = lines.insert(name, place.line)
            && !(plain && text == MERGE)
        {
            let shown = shown(text);
            let message = format!("`{shown}` is given twice, first on line {first}; keep one");
            self.problems.push(NodeError::message(message).at(place));
        }
    }

    /// Puts a finished value where it belongs: into the innermost list or map, or as the root.
    fn place_value(&mut self, node: Node) {
        match self.stack.last_mut().map(|frame| &mut frame.inside) {
            None => self.root = Some(node),
            Some(Inside::List(items)) => items.push(node),
            Some(Inside::Map {
                entries,
                key,
                merged,
                ..
            }) => match key.take() {
                Some((name, _)) if &*name == MERGE => merged.push(node),
                Some((key, place)) => entries.push(Entry {
                    key,
                    place,
                    value: node,
                }),
                None => {}
            },
        }
    }

    /// Adds what `<<` brings; keys written out win, and earlier maps over later ones.
    fn merge(
        &mut self,
        entries: &mut Vec<Entry>,
        mut lines: HashMap<Arc<str>, u32>,
        merged: &[Node],
    ) -> Result<(), NodeError> {
        for source in merged {
            let maps = match &source.value {
                Value::List(maps) => maps.to_vec(),
                _ => vec![source.clone()],
            };
            for map in maps {
                if !matches!(map.value, Value::Map(_)) {
                    let message = format!("`<<` takes a map or a list of maps, not {}", map.what());
                    return Err(map.error(message));
                }
                for entry in map.entries() {
                    if lines.insert(entry.key.clone(), entry.place.line).is_none() {
                        entries.push(entry.clone());
                    }
                }
            }
        }
        Ok(())
    }

    fn weigh(&mut self, weight: usize, place: &Place) -> Result<(), NodeError> {
        self.values = self.values.saturating_add(weight);
        if self.values > MAX_VALUES {
            let message = format!(
                "more than {MAX_VALUES} values once every alias is written out; use fewer aliases"
            );
            return Err(NodeError::message(message).at(place));
        }
        Ok(())
    }

    fn place(&self, marker: granit::Marker) -> Place {
        Place {
            file: self.file.clone(),
            line: u32::try_from(marker.line()).unwrap_or(u32::MAX),
            column: u32::try_from(marker.col() + 1).unwrap_or(u32::MAX),
        }
    }

    fn syntax(&self, error: &granit::ScanError) -> NodeError {
        use granit::ErrorKind as Kind;
        let message = match error.kind() {
            Kind::TabInBlockIndentation | Kind::TabNotAllowed => {
                return tab().at(&self.place(*error.marker()));
            }
            Kind::RecursionLimitExceeded => return too_deep().at(&self.place(*error.marker())),
            _ => format!("not YAML: {}", error.info()),
        };
        NodeError::message(message).at(&self.place(*error.marker()))
    }
}

/// The key that brings another map's entries in.
const MERGE: &str = "<<";

fn tab() -> NodeError {
    NodeError::message("a tab in the indentation; YAML indents with spaces")
}

fn too_deep() -> NodeError {
    NodeError::message(format!(
        "nested deeper than {MAX_DEPTH}; no config needs that"
    ))
}

/// Whether a tag makes it a text. Tags beyond YAML's own are refused.
fn check_tag(tag: Option<&granit::Tag>, place: &Place) -> Result<bool, NodeError> {
    match tag {
        None => Ok(false),
        Some(tag) => match tag.core_suffix() {
            Some("str") => Ok(true),
            Some(_) => Ok(false),
            None if tag.original() == "!" => Ok(true),
            None => {
                let message = format!(
                    "the tag `{}` means nothing here; take it out",
                    shown(&tag.original())
                );
                Err(NodeError::message(message).at(place))
            }
        },
    }
}
