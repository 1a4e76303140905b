//! Avro straight to a row-major matrix of `f32`, with some columns beside it.

use super::captured::{Capture, Matrix};
use super::cursor::{Cursor, Fault};
use super::decoder::trailing;
use crate::columns;
use crate::dead_letter::Reason;
use crate::schema::{Field, Scalar, Schema, SchemaError, Type, smallest_record};

/// Decodes records of one schema into a [`Matrix`].
#[derive(Debug, Clone)]
pub struct MatrixDecoder {
    width: usize,
    captures: Vec<Capture>,
    steps: Vec<Step>,
    names: Vec<Box<str>>,
    smallest: usize,
}

/// What to do with the next fields: one, or a run of numbers of one type for neighbouring columns.
#[derive(Debug, Clone)]
struct Step {
    null_branch: Option<u8>,
    action: Action,
    /// Column of the matrix of the first field, if the fields are in it.
    column: Option<usize>,
    /// Index of the capture, if the field is captured.
    capture: Option<usize>,
    /// Index of the first field.
    field: usize,
    /// Number of fields.
    count: usize,
}

/// A fault, where it was met, and how many fields of the run were read before it.
type RunFault<'a> = (Fault, Cursor<'a>, usize);

#[derive(Debug, Clone)]
enum Action {
    Double,
    Float,
    Int,
    Long,
    Boolean,
    Text,
    Symbol(std::sync::Arc<[String]>),
    Skip(Type),
}

impl MatrixDecoder {
    /// Compiles a plan for records written with `writer`: the fields `numeric` become the columns of the matrix
    /// in this order, the fields `captures` the captured columns.
    ///
    /// # Errors
    ///
    /// Returns an error when a field is not there, or is not a number (for `numeric`) or neither a whole number
    /// nor text (for `captures`).
    pub fn compile(writer: &Schema, numeric: &[&str], captures: &[&str]) -> Result<Self, SchemaError> {
        for name in numeric.iter().chain(captures) {
            writer.field(name)?;
        }
        for names in [numeric, captures] {
            if let Some(twice) =
                names.iter().enumerate().find_map(|(i, it)| names[..i].contains(it).then_some(it))
            {
                return Err(writer.field(twice)?.unfit("used twice"));
            }
        }
        let mut made: Vec<Option<Capture>> = vec![None; captures.len()];
        let mut steps: Vec<Step> = Vec::with_capacity(writer.fields().len());
        for (index, field) in writer.fields().iter().enumerate() {
            let column = numeric.iter().position(|it| *it == field.name);
            let capture = captures.iter().position(|it| *it == field.name);
            let step = Step { field: index, ..Step::compile(field, column, capture)? };
            if let Some(index) = capture {
                made[index] = Some(step.capture_column(field)?);
            }
            match steps.last_mut() {
                Some(last) if last.is_continued_by(&step) => last.count += 1,
                _ => steps.push(step),
            }
        }
        Ok(Self {
            width: numeric.len(),
            captures: made.into_iter().flatten().collect(),
            steps,
            names: writer.fields().iter().map(|it| it.name.as_str().into()).collect(),
            smallest: smallest_record(writer.fields()),
        })
    }

    /// Decodes `payloads`, which hold one record each and no Confluent header.
    pub fn decode<'p>(&self, payloads: impl IntoIterator<Item = &'p [u8]>) -> Matrix {
        let mut matrix = Matrix::default();
        self.decode_into(payloads, &mut matrix);
        matrix
    }

    /// Decodes as [`MatrixDecoder::decode`] does, replacing what is in `matrix` and reusing its memory.
    pub fn decode_into<'p>(&self, payloads: impl IntoIterator<Item = &'p [u8]>, matrix: &mut Matrix) {
        let payloads = payloads.into_iter();
        let expected = payloads.size_hint().0;
        let alike = |(a, b): (&Capture, &Capture)| std::mem::discriminant(a) == std::mem::discriminant(b);
        let reusable = matrix.captures.len() == self.captures.len()
            && matrix.captures.iter().zip(&self.captures).all(alike);
        if reusable {
            matrix.captures.iter_mut().for_each(Capture::clear);
        } else {
            matrix.captures.clone_from(&self.captures);
        }
        matrix.width = self.width;
        matrix.values.clear();
        matrix.values.reserve(expected * self.width);
        matrix.rows.clear();
        matrix.rejected.clear();
        for (position, payload) in payloads.enumerate() {
            match self.record(payload, matrix) {
                Ok(()) => matrix.rows.push(columns::index(position)),
                Err((reason, detail)) => {
                    matrix.truncate();
                    matrix.rejected.push((columns::index(position), reason, detail));
                }
            }
        }
    }

    fn record(&self, payload: &[u8], matrix: &mut Matrix) -> Result<(), (Reason, String)> {
        if payload.is_empty() && self.smallest > 0 {
            return Err((Reason::Empty, "the payload has no bytes".to_owned()));
        }
        let mut cursor = Cursor::new(payload);
        let start = matrix.values.len();
        matrix.values.resize(start + self.width, f32::NAN);
        let row = &mut matrix.values[start..];
        for step in &self.steps {
            cursor = match step.read(cursor, row, &mut matrix.captures) {
                Ok(cursor) => cursor,
                Err((fault, at, after)) => {
                    return Err((fault.reason(), fault.describe(&self.names[step.field + after], &at)));
                }
            };
        }
        match cursor.remaining() {
            0 => Ok(()),
            left => Err((Reason::Trailing, trailing(left, payload.len()))),
        }
    }
}

impl Step {
    fn compile(field: &Field, column: Option<usize>, capture: Option<usize>) -> Result<Self, SchemaError> {
        let skip = || Action::Skip(field.of.clone());
        let unused = column.is_none() && capture.is_none();
        let Some((scalar, null_branch)) = field.scalar() else {
            let wanted = if column.is_some() { "a number" } else { "captured" };
            return if unused {
                Ok(Self { null_branch: None, action: skip(), column, capture, field: 0, count: 1 })
            } else {
                Err(field.unfit(wanted))
            };
        };
        let (action, numeric) = match scalar {
            Scalar::Double => (Action::Double, true),
            Scalar::Float => (Action::Float, true),
            Scalar::Int | Scalar::Date | Scalar::TimeMillis => (Action::Int, true),
            Scalar::Long | Scalar::TimeMicros | Scalar::Timestamp(..) => (Action::Long, true),
            Scalar::Boolean => (Action::Boolean, true),
            Scalar::Enum(symbols) => (Action::Symbol(symbols.clone()), true),
            Scalar::String => (Action::Text, false),
            Scalar::Bytes | Scalar::Fixed(_) => (skip(), false),
        };
        if column.is_some() && !numeric {
            return Err(field.unfit("a number"));
        }
        // A skipped field is read with its union, a used one after it.
        let null_branch = if matches!(action, Action::Skip(_)) { None } else { null_branch };
        Ok(Self { null_branch, action, column, capture, field: 0, count: 1 })
    }

    fn capture_column(&self, field: &Field) -> Result<Capture, SchemaError> {
        match self.action {
            Action::Int | Action::Long | Action::Boolean => Ok(Capture::Long(Vec::new())),
            Action::Text | Action::Symbol(_) => Ok(Capture::Text { ends: Vec::new(), text: String::new() }),
            Action::Double | Action::Float | Action::Skip(_) => Err(field.unfit("captured")),
        }
    }

    fn is_continued_by(&self, next: &Self) -> bool {
        let alike = match (&self.action, &next.action) {
            (Action::Double, Action::Double)
            | (Action::Float, Action::Float)
            | (Action::Int, Action::Int)
            | (Action::Long, Action::Long) => self.null_branch == next.null_branch,
            _ => false,
        };
        let neighbours = self.column.is_some_and(|it| next.column == Some(it + self.count));
        alike && neighbours && self.capture.is_none() && next.capture.is_none()
    }

    /// Reads the fields of the step; the cursor goes by value so that it stays in registers.
    #[inline(always)]
    fn read<'a>(
        &self,
        cursor: Cursor<'a>,
        row: &mut [f32],
        captures: &mut [Capture],
    ) -> Result<Cursor<'a>, RunFault<'a>> {
        let (Some(column), None) = (self.column, self.capture) else {
            return self.read_one(cursor, row, captures);
        };
        let slots = &mut row[column..column + self.count];
        match (&self.action, self.null_branch) {
            (Action::Double, None) => doubles(cursor, slots),
            (Action::Double, Some(branch)) => nullable_doubles(cursor, slots, branch),
            (Action::Float, None) => numbers(cursor, slots, Cursor::float),
            (Action::Float, Some(branch)) => nullable(cursor, slots, branch, Cursor::float),
            (Action::Int, None) => numbers(cursor, slots, |it| it.int().map(|it| it as f32)),
            (Action::Int, Some(branch)) => nullable(cursor, slots, branch, |it| it.int().map(|it| it as f32)),
            (Action::Long, None) => numbers(cursor, slots, |it| it.long().map(|it| it as f32)),
            (Action::Long, Some(branch)) => {
                nullable(cursor, slots, branch, |it| it.long().map(|it| it as f32))
            }
            _ => self.read_one(cursor, row, captures),
        }
    }

    /// Reads one field of any type, into its column, its capture, both or neither.
    #[inline(never)]
    fn read_one<'a>(
        &self,
        mut cursor: Cursor<'a>,
        row: &mut [f32],
        captures: &mut [Capture],
    ) -> Result<Cursor<'a>, RunFault<'a>> {
        if let Action::Skip(of) = &self.action {
            return cursor.after(of).map_err(|(at, fault)| (fault, at, 0));
        }
        match self.read_scalar(&mut cursor, row, captures) {
            Ok(()) => Ok(cursor),
            Err(fault) => Err((fault, cursor, 0)),
        }
    }

    #[inline(always)]
    fn read_scalar(
        &self,
        cursor: &mut Cursor<'_>,
        row: &mut [f32],
        captures: &mut [Capture],
    ) -> Result<(), Fault> {
        if let Some(branch) = self.null_branch
            && cursor.is_null(branch)?
        {
            if let Some(index) = self.capture {
                captures[index].push_null();
            }
            return Ok(()); // the row was filled with NaN
        }
        match &self.action {
            Action::Double => self.put(row, cursor.double()? as f32),
            Action::Float => self.put(row, cursor.float()?),
            Action::Int => {
                let value = cursor.int()?;
                self.put(row, value as f32);
                self.keep(captures, i64::from(value));
            }
            Action::Long => {
                let value = cursor.long()?;
                self.put(row, value as f32);
                self.keep(captures, value);
            }
            Action::Boolean => {
                let value = cursor.boolean()?;
                self.put(row, f32::from(u8::from(value)));
                self.keep(captures, i64::from(value));
            }
            Action::Text => {
                let value = cursor.text()?;
                if let Some(index) = self.capture {
                    captures[index].push_text(value)?;
                }
            }
            Action::Symbol(symbols) => {
                let value = cursor.index(symbols.len(), Fault::Symbol)?;
                self.put(row, value as f32);
                if let Some(index) = self.capture {
                    captures[index].push_text(&symbols[value])?;
                }
            }
            Action::Skip(_) => unreachable!("skipped fields are read as a whole"),
        }
        Ok(())
    }

    #[inline(always)]
    fn put(&self, row: &mut [f32], value: f32) {
        if let Some(column) = self.column {
            row[column] = value;
        }
    }

    #[inline(always)]
    fn keep(&self, captures: &mut [Capture], value: i64) {
        if let Some(index) = self.capture {
            captures[index].push_long(value);
        }
    }
}

/// Reads a run of numbers.
#[inline(always)]
fn numbers<'a>(
    mut cursor: Cursor<'a>,
    slots: &mut [f32],
    read: impl Fn(&mut Cursor<'a>) -> Result<f32, Fault>,
) -> Result<Cursor<'a>, RunFault<'a>> {
    for (index, slot) in slots.iter_mut().enumerate() {
        match read(&mut cursor) {
            Ok(value) => *slot = value,
            Err(fault) => return Err((fault, cursor, index)),
        }
    }
    Ok(cursor)
}

/// Reads a run of numbers each of which may be null.
#[inline(always)]
fn nullable<'a>(
    cursor: Cursor<'a>,
    slots: &mut [f32],
    null_branch: u8,
    read: impl Fn(&mut Cursor<'a>) -> Result<f32, Fault>,
) -> Result<Cursor<'a>, RunFault<'a>> {
    numbers(cursor, slots, |it| if it.is_null(null_branch)? { Ok(f32::NAN) } else { read(it) })
}

/// Reads a run of doubles, with one look at how many bytes there are.
#[inline(always)]
fn doubles<'a>(mut cursor: Cursor<'a>, slots: &mut [f32]) -> Result<Cursor<'a>, RunFault<'a>> {
    let Ok(bytes) = cursor.fixed(8 * slots.len()) else {
        return numbers(cursor, slots, |it| it.double().map(|it| it as f32));
    };
    for (slot, value) in slots.iter_mut().zip(bytes.as_chunks().0) {
        *slot = f64::from_le_bytes(*value) as f32;
    }
    Ok(cursor)
}

/// Reads a run of doubles each of which may be null; as long as none is, a value and its branch are nine bytes.
#[inline(always)]
fn nullable_doubles<'a>(
    mut cursor: Cursor<'a>,
    slots: &mut [f32],
    null_branch: u8,
) -> Result<Cursor<'a>, RunFault<'a>> {
    let value_branch = (1 - null_branch) * 2;
    let mut done = 0;
    while done < slots.len() {
        let (chunks, _) = cursor.rest().as_chunks::<9>();
        let before = done;
        for (slot, [branch, value @ ..]) in slots[done..].iter_mut().zip(chunks) {
            if *branch != value_branch {
                break;
            }
            *slot = f64::from_le_bytes(*value) as f32;
            done += 1;
        }
        cursor = cursor.skip_bytes(9 * (done - before));
        if done < slots.len() {
            let one =
                nullable(cursor, &mut slots[done..=done], null_branch, |it| it.double().map(|it| it as f32));
            cursor = one.map_err(|(fault, at, _)| (fault, at, done))?;
            done += 1;
        }
    }
    Ok(cursor)
}
