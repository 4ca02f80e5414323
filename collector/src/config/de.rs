//! Reads a node into any type: serde's deserializer over nodes, which puts the place of the
//! key or value at fault on every error, and says how to mend it.
//! Must not know what is read.

use std::fmt::Display;

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};

use super::node::{Entry, Node, NodeError, Scalar, Value};
use super::suggest;

impl de::Error for NodeError {
    fn custom<T: Display>(message: T) -> Self {
        Self::message(message.to_string())
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::message(format!("expected {expected}, found {}", kind_of(&found)))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::message(format!(
            "expected {expected}, found another {}",
            kind_of(&found)
        ))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let help = suggest::help(variant, expected.iter().copied());
        let variant = suggest::shown(variant);
        Self::message(format!("unknown value `{variant}`; {help}"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        unknown_key(field, expected.iter().copied())
    }

    fn missing_field(field: &'static str) -> Self {
        Self::message(format!("missing key `{field}`; add `{field}: …`"))
    }
}

/// So many unknown keys of one map are told.
const MOST_UNKNOWN: usize = 100;

/// An error for each key of a map that is not allowed.
pub(super) fn unknown_keys<'a>(
    node: &Node,
    allowed: &(impl Iterator<Item = &'a str> + Clone),
) -> Vec<NodeError> {
    let unknown = |entry: &&Entry| !allowed.clone().any(|key| key == &*entry.key);
    let unknown = node.entries().iter().filter(unknown).take(MOST_UNKNOWN);
    unknown
        .map(|entry| unknown_key(&entry.key, allowed.clone()).at(&entry.place))
        .collect()
}

/// The error for a key that is not known, without its place.
fn unknown_key<'a>(key: &str, allowed: impl IntoIterator<Item = &'a str> + Clone) -> NodeError {
    let help = suggest::help(key, allowed);
    NodeError::message(format!("unknown key `{}`; {help}", suggest::shown(key)))
}

/// What was found, without its value: that may be a secret.
fn kind_of(found: &de::Unexpected<'_>) -> &'static str {
    use de::Unexpected as U;
    match found {
        U::Bool(_) => "boolean",
        U::Unsigned(_) | U::Signed(_) | U::Float(_) => "number",
        U::Char(_) | U::Str(_) | U::Bytes(_) => "text",
        U::Unit | U::Option => "nothing",
        U::Seq => "list",
        U::Map => "map",
        _ => "value",
    }
}

impl Node {
    fn wrong(&self, expected: &str) -> NodeError {
        self.error(format!("expected {expected}, found {}", self.what()))
    }

    fn scalar(&self, expected: &str) -> Result<&Scalar, NodeError> {
        match &self.value {
            Value::Scalar(scalar) if !scalar.is_null() => Ok(scalar),
            _ => Err(self.wrong(expected)),
        }
    }

    /// Puts place and discretion on an error from a visitor.
    fn settle<T>(&self, result: Result<T, NodeError>) -> Result<T, NodeError> {
        result.map_err(|error| error.at(self.place()).hiding(self))
    }

    fn number<T: std::str::FromStr>(&self, expected: &str) -> Result<T, NodeError> {
        let scalar = self.scalar(expected)?;
        if !scalar.untyped() {
            return Err(self.error(format!(
                "expected {expected}, found a text; take the quotes off"
            )));
        }
        scalar.text.parse().map_err(|_| self.wrong(expected))
    }

    /// YAML's infinities and "not a number" are refused: no setting means them.
    fn fraction(&self) -> Result<f64, NodeError> {
        const EXPECTED: &str = "a number such as 0.5";
        let number: f64 = self.number(EXPECTED)?;
        if !number.is_finite() {
            return Err(self.wrong(EXPECTED));
        }
        Ok(number)
    }
}

macro_rules! whole_numbers {
    ($($method:ident, $visit:ident, $type:ty;)*) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
            let expected = format!("a whole number from {} to {}", <$type>::MIN, <$type>::MAX);
            let number = self.number::<$type>(&expected)?;
            self.settle(visitor.$visit(number))
        }
    )* };
}

impl<'de> Deserializer<'de> for &Node {
    type Error = NodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        match &self.value {
            Value::Map(_) => self.deserialize_map(visitor),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Scalar(scalar) if scalar.is_null() => self.settle(visitor.visit_unit()),
            Value::Scalar(scalar) => self.settle(any_scalar(scalar, visitor)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        const EXPECTED: &str = "`true` or `false` without quotes";
        let scalar = self.scalar(EXPECTED)?;
        let value = match &*scalar.text {
            "true" if scalar.untyped() => true,
            "false" if scalar.untyped() => false,
            _ => return Err(self.wrong(EXPECTED)),
        };
        self.settle(visitor.visit_bool(value))
    }

    whole_numbers! {
        deserialize_i8, visit_i8, i8;
        deserialize_i16, visit_i16, i16;
        deserialize_i32, visit_i32, i32;
        deserialize_i64, visit_i64, i64;
        deserialize_i128, visit_i128, i128;
        deserialize_u8, visit_u8, u8;
        deserialize_u16, visit_u16, u16;
        deserialize_u32, visit_u32, u32;
        deserialize_u64, visit_u64, u64;
        deserialize_u128, visit_u128, u128;
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        let number = self.fraction()?;
        self.settle(visitor.visit_f64(number))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        self.deserialize_str(visitor)
    }

    /// Any scalar is a text, so that a password of digits needs no quotes.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        let scalar = self.scalar("a text")?;
        self.settle(visitor.visit_str(&scalar.text))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        let scalar = self.scalar("a text")?;
        self.settle(visitor.visit_bytes(scalar.text.as_bytes()))
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        if self.is_null() {
            return self.settle(visitor.visit_none());
        }
        self.settle(visitor.visit_some(self))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        if !self.is_null() {
            return Err(self.wrong("nothing"));
        }
        self.settle(visitor.visit_unit())
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        self.settle(visitor.visit_newtype_struct(self))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        let Value::List(items) = &self.value else {
            return Err(self.wrong("a list such as `[a, b]`"));
        };
        self.settle(visitor.visit_seq(Items(items.iter())))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        let Value::Map(entries) = &self.value else {
            return Err(self.wrong("a map such as `{ key: value }`"));
        };
        let entries = Entries {
            rest: entries.iter(),
            current: None,
        };
        self.settle(visitor.visit_map(entries))
    }

    /// Unknown keys are refused here, whatever the type itself thinks of them.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        let known = |entry: &&Entry| fields.contains(&&*entry.key);
        if let Some(entry) = self.entries().iter().find(|entry| !known(entry)) {
            return Err(unknown_key(&entry.key, fields.iter().copied()).at(&entry.place));
        }
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        let chosen = match (&self.value, self.entries()) {
            (Value::Scalar(scalar), _) if !scalar.is_null() => Variant {
                name: &scalar.text,
                owner: self,
                content: None,
            },
            (_, [entry]) => Variant {
                name: &entry.key,
                owner: self,
                content: Some(&entry.value),
            },
            _ => {
                let words = super::node::listed(variants.iter().copied());
                return Err(self.wrong(&format!("one of {words}")));
            }
        };
        self.settle(visitor.visit_enum(chosen))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        self.settle(visitor.visit_unit())
    }
}

/// What a scalar looks like, for a reader that takes anything.
fn any_scalar<'de, V: Visitor<'de>>(scalar: &Scalar, visitor: V) -> Result<V::Value, NodeError> {
    let text = &*scalar.text;
    if !scalar.untyped() {
        return visitor.visit_str(text);
    }
    if let Ok(value) = text.parse::<bool>() {
        return visitor.visit_bool(value);
    }
    if let Ok(value) = text.parse::<u64>() {
        return visitor.visit_u64(value);
    }
    if let Ok(value) = text.parse::<i64>() {
        return visitor.visit_i64(value);
    }
    let number = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
    match text.parse::<f64>() {
        Ok(value) if number && value.is_finite() => visitor.visit_f64(value),
        _ => visitor.visit_str(text),
    }
}

struct Items<'n>(std::slice::Iter<'n, Node>);

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = NodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, NodeError> {
        let Some(item) = self.0.next() else {
            return Ok(None);
        };
        item.settle(seed.deserialize(item)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Entries<'n> {
    rest: std::slice::Iter<'n, Entry>,
    current: Option<&'n Entry>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = NodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, NodeError> {
        self.current = self.rest.next();
        let Some(entry) = self.current else {
            return Ok(None);
        };
        let key = (*entry.key).into_deserializer();
        let key: Result<K::Value, NodeError> = seed.deserialize(key);
        key.map(Some).map_err(|error| error.at(&entry.place))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, NodeError> {
        let Some(entry) = self.current else {
            return Err(NodeError::message("a value was asked for before its key"));
        };
        let value = entry.value.settle(seed.deserialize(&entry.value));
        value.map_err(|error| error.under(&entry.key))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// One word of several, with what it carries.
struct Variant<'n> {
    name: &'n str,
    owner: &'n Node,
    content: Option<&'n Node>,
}

impl<'de, 'n> de::EnumAccess<'de> for Variant<'n> {
    type Error = NodeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), NodeError> {
        let name: Result<V::Value, NodeError> = seed.deserialize(self.name.into_deserializer());
        Ok((self.owner.settle(name)?, self))
    }
}

impl Variant<'_> {
    fn content(&self) -> Result<&Node, NodeError> {
        let missing = || {
            self.owner
                .error(format!("`{0}` needs a value; write `{0}: …`", self.name))
        };
        self.content.ok_or_else(missing)
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_> {
    type Error = NodeError;

    fn unit_variant(self) -> Result<(), NodeError> {
        match self.content {
            Some(content) if !content.is_null() => {
                Err(content.error(format!("`{}` takes no value", self.name)))
            }
            _ => Ok(()),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, NodeError> {
        let content = self.content()?;
        content.settle(seed.deserialize(content))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        self.content()?.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        self.content()?.deserialize_struct("", fields, visitor)
    }
}
