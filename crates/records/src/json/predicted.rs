//! Reads an object whose keys come in an expected order; gives up at the first surprise.

use sonic_number::{ParserNumber, parse_number};

use super::Expected;
use crate::columns::{Column, Values};

/// Appends the object's values to `columns`.
///
/// `None` when anything is not as expected; `columns` may then hold part of a row.
pub(super) fn read(data: &[u8], order: &[Expected], columns: &mut [Column]) -> Option<()> {
    let mut at = skip_space(data, 0);
    if order.is_empty() || data.get(at) != Some(&b'{') {
        return None;
    }
    at = skip_space(data, at + 1);
    for (index, expected) in order.iter().enumerate() {
        if index > 0 {
            if data.get(at) != Some(&b',') {
                return None;
            }
            at = skip_space(data, at + 1);
        }
        at = skip_key(data, at, &expected.quoted)?;
        at = skip_space(data, at);
        at = match expected.column {
            Some(column) => value(data, at, &mut columns[column])?,
            None => ignored(data, at)?,
        };
        at = skip_space(data, at);
    }
    if data.get(at) != Some(&b'}') {
        return None;
    }
    (skip_space(data, at + 1) == data.len()).then_some(())
}

#[inline(always)]
fn skip_space(data: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = data.get(at) {
        at += 1;
    }
    at
}

/// Passes the key and its colon, which `quoted` has side by side.
#[inline(always)]
fn skip_key(data: &[u8], at: usize, quoted: &[u8]) -> Option<usize> {
    let rest = &data[at..];
    if rest.starts_with(quoted) {
        return Some(at + quoted.len());
    }
    let (_, key) = quoted.split_last()?;
    if !rest.starts_with(key) {
        return None;
    }
    let at = skip_space(data, at + key.len());
    (data.get(at) == Some(&b':')).then_some(at + 1)
}

#[inline(always)]
fn value(data: &[u8], mut at: usize, column: &mut Column) -> Option<usize> {
    if data.get(at) == Some(&b'n') {
        if !column.nullable {
            return None;
        }
        at = literal(data, at, b"null")?;
        column.push_null();
        return Some(at);
    }
    column.mark_present();
    match &mut column.values {
        Values::Double(it) => it.push(number(data, &mut at)?),
        Values::Float(it) => {
            let value = number(data, &mut at)? as f32;
            if value.is_infinite() {
                return None;
            }
            it.push(value);
        }
        Values::Int(it) => it.push(i32::try_from(whole(data, &mut at)?).ok()?),
        Values::Long(it) => it.push(whole(data, &mut at)?),
        Values::Boolean(it) => {
            let value = data.get(at) == Some(&b't');
            at = literal(data, at, if value { b"true" } else { b"false" })?;
            it.push(value);
        }
        Values::Text(it) => {
            let end = string(data, at)?;
            std::str::from_utf8(&data[at + 1..end - 1]).ok()?;
            it.push(&data[at + 1..end - 1]).then_some(())?;
            at = end;
        }
        Values::Symbol(symbols, it) => {
            let end = string(data, at)?;
            let text = &data[at + 1..end - 1];
            symbols.iter().any(|symbol| symbol.as_bytes() == text).then_some(())?;
            it.push(text).then_some(())?;
            at = end;
        }
        Values::Binary(_) | Values::Fixed(..) => return None,
    }
    Some(at)
}

/// Passes a value that is not kept: text, a number or a literal.
fn ignored(data: &[u8], mut at: usize) -> Option<usize> {
    match data.get(at)? {
        b'"' => {
            let end = string(data, at)?;
            std::str::from_utf8(&data[at..end]).ok()?;
            Some(end)
        }
        b't' => literal(data, at, b"true"),
        b'f' => literal(data, at, b"false"),
        b'n' => literal(data, at, b"null"),
        _ => {
            number(data, &mut at)?;
            Some(at)
        }
    }
}

#[inline(always)]
fn literal(data: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    data[at..].starts_with(word).then_some(at + word.len())
}

/// The end of a string without escapes and control characters that starts at `at`.
#[inline(always)]
fn string(data: &[u8], at: usize) -> Option<usize> {
    if data.get(at) != Some(&b'"') {
        return None;
    }
    let body = &data[at + 1..];
    let length = body.iter().position(|it| matches!(it, b'"' | b'\\' | 0..0x20))?;
    (body[length] == b'"').then_some(at + 1 + length + 1)
}

#[inline(always)]
fn parse(data: &[u8], at: &mut usize) -> Option<ParserNumber> {
    let negative = data.get(*at) == Some(&b'-');
    *at += usize::from(negative);
    if !data.get(*at)?.is_ascii_digit() {
        return None;
    }
    parse_number(data, at, negative).ok()
}

#[inline(always)]
fn number(data: &[u8], at: &mut usize) -> Option<f64> {
    match parse(data, at)? {
        ParserNumber::Float(it) => Some(it),
        ParserNumber::Signed(it) => Some(it as f64),
        ParserNumber::Unsigned(it) => Some(it as f64),
    }
}

#[inline(always)]
fn whole(data: &[u8], at: &mut usize) -> Option<i64> {
    match parse(data, at)? {
        ParserNumber::Signed(it) => Some(it),
        ParserNumber::Unsigned(it) => i64::try_from(it).ok(),
        ParserNumber::Float(_) => None,
    }
}
