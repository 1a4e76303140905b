//! From the cells of a row to a reading: compiled once from header, mapping and schema.

use std::collections::BTreeMap;

use telltale_records::schema::{Scalar, Schema, Type};

use super::mapping::Mapping;
use super::rows::Row;
use super::time::TimeFormat;
use super::{BadRow, SHOWN};

/// How the cells of a file become readings.
#[derive(Debug)]
pub struct Plan {
    header: Vec<String>,
    car: usize,
    time: usize,
    format: TimeFormat,
    /// In the order of the schema, as devices write them.
    fields: Vec<Target>,
}

#[derive(Debug)]
struct Target {
    /// `"name":`, as it stands in the JSON.
    key: String,
    from: From,
    nullable: bool,
}

#[derive(Debug)]
enum From {
    Cell(usize, Kind),
    Time,
    /// The value as JSON.
    Constant(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Text,
}

/// A reading on its way.
#[derive(Debug, Default)]
pub struct Reading {
    /// The device.
    pub car: Vec<u8>,
    /// Event time in ms since 1970, not moved.
    pub time_ms: i64,
    /// The value as devices send it.
    pub json: Vec<u8>,
}

impl Plan {
    /// Holds header, mapping and schema against each other.
    ///
    /// # Errors
    ///
    /// Says which column or field does not fit, and what to do.
    pub fn compile(header: &[String], mapping: &Mapping, schema: &Schema) -> Result<Self, String> {
        let mut places = BTreeMap::new();
        for (index, name) in header.iter().enumerate() {
            if places.insert(name.as_str(), index).is_some() {
                return Err(format!("there are two columns {name:?}"));
            }
        }
        let find = |name: &str, flag: &str, holds: &str| {
            places.get(name).copied().ok_or_else(|| {
                let hint = delimiter_hint(header);
                format!(
                    "there is no column {name:?} for {holds}: name it by {flag}; there are {}{hint}",
                    list(header)
                )
            })
        };
        let car = find(&mapping.car, "--car", "the device")?;
        let time = find(&mapping.time, "--time", "the event time")?;
        let known: Vec<&str> = schema.fields().iter().map(|it| it.name.as_str()).collect();
        let mut sources: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, column) in header.iter().enumerate() {
            let Some(field) = mapping.field(column) else { continue };
            if !known.contains(&field) {
                // The device and the time need no field: they are in the record's key and may be in its time stamp.
                if index == car || index == time {
                    continue;
                }
                return Err(format!(
                    "column {column:?} is no field of a reading: --map {column}=FIELD says which it is, --map {column}= \
                     leaves it out; fields are {}",
                    known.join(", ")
                ));
            }
            if let Some(other) = sources.insert(field, index) {
                return Err(format!("columns {:?} and {column:?} are both field {field}", header[other]));
            }
        }
        if let Some(field) = mapping.constants.keys().find(|it| !known.contains(&it.as_str())) {
            return Err(format!("{field} (--set) is no field of a reading; fields are {}", known.join(", ")));
        }
        let mut fields = Vec::new();
        for field in schema.fields() {
            let (kind, nullable) = kind(&field.of);
            let constant = mapping.constants.get(&field.name);
            let from = match (sources.get(field.name.as_str()), constant, kind) {
                (Some(&index), _, _) if index == time => From::Time,
                (Some(&index), _, Some(kind)) => From::Cell(index, kind),
                (None, Some(text), Some(kind)) => {
                    let mut json = Vec::new();
                    write(kind, text, &mut json)
                        .map_err(|it| format!("--set {}={text}: {it}", field.name))?;
                    From::Constant(String::from_utf8(json).expect("JSON is UTF-8"))
                }
                (Some(_), _, None) | (None, Some(_), None) => {
                    return Err(format!("field {} is of a type that no cell can hold", field.name));
                }
                (None, None, _) if nullable => continue,
                (None, None, _) => {
                    return Err(format!(
                        "no column is field {}: --map COLUMN={} names it, --set {}=VALUE sets it for all; columns are {}{}",
                        field.name,
                        field.name,
                        field.name,
                        list(header),
                        delimiter_hint(header)
                    ));
                }
            };
            let key = format!("{}:", serde_json::Value::from(field.name.as_str()));
            fields.push(Target { key, from, nullable });
        }
        Ok(Self { header: header.to_vec(), car, time, format: mapping.time_format, fields })
    }

    /// Turns a row into `reading`, whose event time is moved by `shift_ms`.
    ///
    /// # Errors
    ///
    /// Says which cell is wrong.
    pub fn read(&self, row: Row<'_>, shift_ms: i64, reading: &mut Reading) -> Result<(), BadRow> {
        let bad = |column: Option<usize>, problem: String| BadRow {
            line: row.line,
            column: column.map(|it| self.header[it].clone()),
            problem,
        };
        if row.cells.len() != self.header.len() {
            let (found, expected) = (row.cells.len(), self.header.len());
            return Err(bad(None, format!("the row has {found} cells, the header {expected}")));
        }
        let text = |index: usize| {
            let cell = row.cells.get(index).unwrap_or_default();
            std::str::from_utf8(cell).map_err(|_| bad(Some(index), "the cell is not UTF-8".to_owned()))
        };
        let car = text(self.car)?;
        if car.trim().is_empty() {
            return Err(bad(Some(self.car), "the device has no name".to_owned()));
        }
        reading.car.clear();
        reading.car.extend_from_slice(car.as_bytes());
        reading.time_ms = self.format.parse(text(self.time)?).map_err(|it| bad(Some(self.time), it))?;
        reading.json.clear();
        reading.json.push(b'{');
        for field in &self.fields {
            if reading.json.len() > 1 {
                reading.json.push(b',');
            }
            reading.json.extend_from_slice(field.key.as_bytes());
            match &field.from {
                From::Time => {
                    let moved = reading.time_ms.saturating_add(shift_ms);
                    reading.json.extend_from_slice(moved.to_string().as_bytes());
                }
                From::Constant(json) => reading.json.extend_from_slice(json.as_bytes()),
                From::Cell(index, kind) => {
                    let text = text(*index)?;
                    if text.is_empty() && field.nullable {
                        reading.json.extend_from_slice(b"null");
                    } else {
                        write(*kind, text, &mut reading.json).map_err(|it| bad(Some(*index), it))?;
                    }
                }
            }
        }
        reading.json.push(b'}');
        Ok(())
    }
}

/// What a cell of the field holds, if it can hold it, and whether it may be empty.
fn kind(of: &Type) -> (Option<Kind>, bool) {
    let one = |of: &Type| match of {
        Type::Scalar(Scalar::Boolean) => Some(Kind::Boolean),
        Type::Scalar(Scalar::Int) => Some(Kind::Int),
        Type::Scalar(Scalar::Long | Scalar::Timestamp(..)) => Some(Kind::Long),
        Type::Scalar(Scalar::Float) => Some(Kind::Float),
        Type::Scalar(Scalar::Double) => Some(Kind::Double),
        Type::Scalar(Scalar::String | Scalar::Enum(_)) => Some(Kind::Text),
        _ => None,
    };
    match of {
        Type::Union(branches) => {
            let nullable = branches.contains(&Type::Null);
            (branches.iter().find_map(one).filter(|_| branches.len() <= 2), nullable)
        }
        other => (one(other), false),
    }
}

/// Appends the text of a cell as JSON.
fn write(kind: Kind, text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let trimmed = text.trim();
    let wrong = |what: &str| match trimmed {
        "" => Err(format!("the cell is empty, but must hold {what}")),
        _ => Err(format!("{:?} is not {what}", shortened(trimmed))),
    };
    match kind {
        Kind::Boolean => match trimmed {
            "true" | "false" => out.extend_from_slice(trimmed.as_bytes()),
            _ => return wrong("true or false"),
        },
        Kind::Int | Kind::Long => match trimmed.parse::<i64>() {
            Ok(value) if kind == Kind::Long || i32::try_from(value).is_ok() => {
                out.extend_from_slice(value.to_string().as_bytes());
            }
            Ok(_) => return wrong("a whole number of 32 bits"),
            Err(_) => return wrong("a whole number"),
        },
        Kind::Float | Kind::Double => match trimmed.parse::<f64>() {
            Ok(value) if value.is_finite() && (kind == Kind::Double || (value as f32).is_finite()) => {
                // The digits of the file, where JSON can have them: no other program's rounding.
                if is_json_number(trimmed.as_bytes()) {
                    out.extend_from_slice(trimmed.as_bytes());
                } else {
                    out.extend_from_slice(value.to_string().as_bytes());
                }
            }
            Ok(_) => return wrong("a number that a reading can hold"),
            Err(_) => return wrong("a number"),
        },
        Kind::Text => out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes()),
    }
    Ok(())
}

/// Whether a text that Rust reads as a number is one in JSON, too: no plus sign, digits around the point, no zero ahead.
fn is_json_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits.iter().take_while(|it| it.is_ascii_digit()).count();
    let rest = &digits[whole..];
    let point = match rest.split_first() {
        Some((b'.', rest)) => rest.first().is_some_and(u8::is_ascii_digit),
        _ => true,
    };
    whole > 0 && (whole == 1 || digits[0] != b'0') && point
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn list(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(2 * SHOWN).map(String::as_str).collect();
    let more = if names.len() > shown.len() { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// A header of one column is mostly one that was split at the wrong character.
fn delimiter_hint(header: &[String]) -> &'static str {
    match header {
        [only] if only.contains(';') => "; cells seem to be separated by ; (--delimiter ';')",
        [only] if only.contains('\t') => "; cells seem to be separated by tabs (--delimiter tab)",
        _ => "",
    }
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
