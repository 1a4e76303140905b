//! Reads any object by sonic-rs, value by value into the columns.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Expected;
use crate::columns::{Column, Values};
use crate::dead_letter::Reason;

/// Deepest nesting that is read; ignored values are nested by strangers.
const DEPTH_LIMIT: usize = 64;
/// Most keys of a record whose order is remembered.
const ORDER_LIMIT: usize = 1024;

type Fault = (Reason, String);

/// Appends the object's values to `columns` and returns its keys in order, if they are worth remembering.
///
/// # Errors
///
/// Returns why the payload is no record; `columns` may then hold part of a row.
pub(super) fn read(
    payload: &[u8],
    names: &HashMap<Box<str>, Expected>,
    columns: &mut [Column],
) -> Result<Option<Vec<Expected>>, Fault> {
    if payload.iter().all(u8::is_ascii_whitespace) {
        return Err((Reason::Empty, "the payload has no bytes but white space".to_owned()));
    }
    let text = std::str::from_utf8(payload).map_err(|error| (Reason::Malformed, error.to_string()))?;
    check_depth(payload)?;
    let mut reader = Object {
        names,
        seen: vec![false; columns.len()],
        columns,
        fault: None,
        order: Vec::new(),
        plain: true,
    };
    let mut source = sonic_rs::Deserializer::from_str(text);
    let outcome = source.deserialize_any(&mut reader).and_then(|()| source.end());
    if let Err(error) = outcome {
        let error = error.to_string();
        let first_line = error.lines().next().unwrap_or_default();
        return Err(reader.fault.unwrap_or_else(|| (Reason::Malformed, format!("not JSON: {first_line}"))));
    }
    reader.finish()
}

/// Refuses payloads that would need deep recursion to read.
fn check_depth(payload: &[u8]) -> Result<(), Fault> {
    let opening = payload.iter().filter(|it| matches!(it, b'{' | b'[')).count();
    if opening <= DEPTH_LIMIT {
        return Ok(());
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in payload {
        if in_string {
            in_string = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_LIMIT {
            return Err((Reason::Malformed, format!("nested deeper than {DEPTH_LIMIT}")));
        }
    }
    Ok(())
}

/// Takes the keys of the object.
struct Object<'a> {
    names: &'a HashMap<Box<str>, Expected>,
    columns: &'a mut [Column],
    seen: Vec<bool>,
    fault: Option<Fault>,
    order: Vec<Expected>,
    /// Whether every key so far is written as it reads.
    plain: bool,
}

impl Object<'_> {
    fn finish(self) -> Result<Option<Vec<Expected>>, Fault> {
        for (column, seen) in self.columns.iter_mut().zip(&self.seen) {
            if *seen {
                continue;
            }
            if !column.nullable {
                return Err((Reason::SchemaMismatch, format!("key {} is missing", column.name)));
            }
            column.push_null();
        }
        // A predicted object has exactly the expected keys, so each column must be among them.
        let complete = self.plain && self.seen.iter().all(|it| *it) && self.order.len() <= ORDER_LIMIT;
        Ok(complete.then_some(self.order))
    }

    fn mismatch<E: serde::de::Error>(&mut self, found: &str) -> E {
        self.fault = Some((Reason::SchemaMismatch, format!("the payload is {found}, not a JSON object")));
        E::custom("set aside")
    }
}

impl<'de> Visitor<'de> for &mut Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let known = self.names.get(&*key);
            let column = known.and_then(|it| it.column);
            // A key that needs escapes is not found by comparing bytes.
            self.plain &= !key.bytes().any(|it| matches!(it, b'"' | b'\\' | 0..0x20));
            if self.plain && self.order.len() <= ORDER_LIMIT {
                self.order.push(known.cloned().unwrap_or_else(|| Expected::new(&key, None)));
            }
            let Some(index) = column else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if std::mem::replace(&mut self.seen[index], true) {
                self.fault = Some((Reason::Malformed, format!("key {key} appears twice")));
                return Err(A::Error::custom("set aside"));
            }
            map.next_value_seed(Value { column: &mut self.columns[index], fault: &mut self.fault })?;
        }
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        Err(self.mismatch("a truth value"))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        Err(self.mismatch("a number"))
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        Err(self.mismatch("a number"))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        Err(self.mismatch("a number"))
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Err(self.mismatch("text"))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Err(self.mismatch("null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.mismatch("a list"))
    }
}

/// Takes one value into its column.
struct Value<'a> {
    column: &'a mut Column,
    fault: &'a mut Option<Fault>,
}

impl Value<'_> {
    fn refuse<E: serde::de::Error>(self, reason: Reason, what: impl fmt::Display) -> E {
        *self.fault = Some((reason, format!("key {}: {what}", self.column.name)));
        E::custom("set aside")
    }

    fn mismatch<E: serde::de::Error>(self, found: &str) -> E {
        let wanted = match self.column.values {
            Values::Boolean(_) => "true or false",
            Values::Int(_) | Values::Long(_) => "a whole number",
            Values::Float(_) | Values::Double(_) => "a number",
            _ => "text",
        };
        self.refuse(Reason::SchemaMismatch, format_args!("found {found} instead of {wanted}"))
    }

    fn too_large<E: serde::de::Error>(self, value: impl fmt::Display) -> E {
        self.refuse(Reason::OutOfRange, format_args!("{value} does not fit"))
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a single value")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        let Values::Boolean(values) = &mut self.column.values else {
            return Err(self.mismatch("a truth value"));
        };
        values.push(value);
        self.column.mark_present();
        Ok(())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        match &mut self.column.values {
            Values::Long(values) => values.push(value),
            Values::Int(values) => match i32::try_from(value) {
                Ok(value) => values.push(value),
                Err(_) => return Err(self.too_large(value)),
            },
            Values::Double(values) => values.push(value as f64),
            Values::Float(values) => values.push(value as f32),
            _ => return Err(self.mismatch("a number")),
        }
        self.column.mark_present();
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        match &mut self.column.values {
            Values::Double(values) => values.push(value as f64),
            Values::Float(values) => values.push(value as f64 as f32),
            Values::Int(_) | Values::Long(_) => match i64::try_from(value) {
                Ok(value) => return self.visit_i64(value),
                Err(_) => return Err(self.too_large(value)),
            },
            _ => return Err(self.mismatch("a number")),
        }
        self.column.mark_present();
        Ok(())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        match &mut self.column.values {
            Values::Double(values) => values.push(value),
            Values::Float(values) => {
                let narrow = value as f32;
                if narrow.is_infinite() {
                    return Err(self.too_large(value));
                }
                values.push(narrow);
            }
            Values::Int(_) | Values::Long(_) => return Err(self.mismatch("a number with a fraction")),
            _ => return Err(self.mismatch("a number")),
        }
        self.column.mark_present();
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        let pushed = match &mut self.column.values {
            Values::Text(values) => values.push(value.as_bytes()),
            Values::Symbol(symbols, values) if symbols.iter().any(|it| it == value) => {
                values.push(value.as_bytes())
            }
            Values::Symbol(..) => {
                return Err(
                    self.refuse(Reason::OutOfRange, format_args!("{value:.64?} is not a symbol of the enum"))
                );
            }
            _ => return Err(self.mismatch("text")),
        };
        if !pushed {
            return Err(self.refuse(Reason::TooLarge, "the batch's column of it is full"));
        }
        self.column.mark_present();
        Ok(())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        if !self.column.nullable {
            return Err(self.mismatch("null"));
        }
        self.column.push_null();
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.mismatch("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.mismatch("an object"))
    }
}
