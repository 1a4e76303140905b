//! A CSV file row by row, in bounded memory, with the line each row begins in, and the hash of all of it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use csv_core::ReadRecordResult;
use sha2::{Digest, Sha256};

use super::LoadError;

/// Longest row, in bytes; a reading has some hundreds.
pub const ROW_LIMIT: usize = 256 << 10;
/// What some programs write before the first byte of a file in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The rows of a file.
pub struct Rows {
    path: PathBuf,
    file: BufReader<File>,
    hash: Sha256,
    parser: csv_core::Reader,
    header: Vec<String>,
    /// Lines read so far.
    lines: u64,
    /// The row in hand as it is in the file.
    raw: Vec<u8>,
    cells: Cells,
}

/// The cells of one row, without their quotation marks.
#[derive(Debug, Clone, Default)]
pub struct Cells {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    count: usize,
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Line that it begins in, from 1.
    pub line: u64,
    /// Its cells.
    pub cells: &'a Cells,
}

impl Cells {
    /// Number of cells.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none, which no row has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bytes of a cell; `None` where the row has fewer.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends[..self.count].get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        Some(&self.bytes[start..end])
    }

    /// Splits `raw`, a whole row.
    fn split(&mut self, parser: &mut csv_core::Reader, raw: &[u8]) {
        parser.reset();
        // No cell is longer than the row, and there are at most as many as bytes, and one more.
        self.bytes.resize(raw.len(), 0);
        self.ends.resize(raw.len() + 1, 0);
        let (mut read, mut written) = (0, 0);
        self.count = 0;
        loop {
            let (result, taken, put, ended) =
                parser.read_record(&raw[read..], &mut self.bytes[written..], &mut self.ends[self.count..]);
            (read, written, self.count) = (read + taken, written + put, self.count + ended);
            match result {
                // With no input left the next call ends the row.
                ReadRecordResult::InputEmpty => {}
                _ => return,
            }
        }
    }
}

impl Rows {
    /// Opens `path` and reads the header.
    ///
    /// # Errors
    ///
    /// Returns an error when the file cannot be read, is empty, or does not begin with a header in UTF-8.
    pub fn open(path: &Path, delimiter: u8) -> Result<Self, LoadError> {
        let failed = |source| LoadError::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        let mut rows = Self {
            path: path.to_owned(),
            file: BufReader::with_capacity(64 << 10, file),
            hash: Sha256::new(),
            parser: csv_core::ReaderBuilder::new().delimiter(delimiter).build(),
            header: Vec::new(),
            lines: 0,
            raw: Vec::new(),
            cells: Cells::default(),
        };
        let wrong = |problem| LoadError::Header { path: path.to_owned(), problem };
        let Some(first) = rows.next_row()? else { return Err(LoadError::Empty { path: path.to_owned() }) };
        let mut header = Vec::with_capacity(first.cells.len());
        for index in 0..first.cells.len() {
            let cell = first.cells.get(index).unwrap_or_default();
            let name = std::str::from_utf8(cell)
                .map_err(|_| wrong(format!("the name of column {} is not UTF-8", index + 1)))?;
            header.push(name.trim().to_owned());
        }
        rows.header = header;
        Ok(rows)
    }

    /// The names of the columns.
    #[must_use]
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// The next row that is not blank; `None` at the end.
    ///
    /// # Errors
    ///
    /// Returns an error when the file cannot be read, or a row does not end.
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>, LoadError> {
        loop {
            let line = self.lines + 1;
            if !self.read_raw(line)? {
                return Ok(None);
            }
            if line == 1 {
                self.check_beginning()?;
            }
            if self.raw.iter().all(|it| matches!(it, b'\r' | b'\n')) {
                continue;
            }
            self.cells.split(&mut self.parser, &self.raw);
            return Ok(Some(Row { line, cells: &self.cells }));
        }
    }

    /// SHA-256 of all that was read: of the whole file once there is no next row.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }

    /// Reads lines until every quotation mark is closed; returns whether there was one.
    fn read_raw(&mut self, line: u64) -> Result<bool, LoadError> {
        let failed = |source| LoadError::File { path: self.path.clone(), source };
        let too_long = || LoadError::TooLong { path: self.path.clone(), line, limit: ROW_LIMIT };
        self.raw.clear();
        let mut is_open = false;
        loop {
            let start = self.raw.len();
            let room = (ROW_LIMIT + 1 - start) as u64;
            let read = (&mut self.file).take(room).read_until(b'\n', &mut self.raw).map_err(failed)?;
            if read == 0 {
                return if is_open {
                    Err(LoadError::Unclosed { path: self.path.clone(), line })
                } else {
                    Ok(false)
                };
            }
            let new = &self.raw[start..];
            self.hash.update(new);
            self.lines += u64::from(new.ends_with(b"\n"));
            // A mark within a cell is doubled, so an odd number is one that is open.
            is_open ^= new.iter().filter(|it| **it == b'"').count() % 2 == 1;
            if self.raw.len() > ROW_LIMIT {
                return Err(too_long());
            }
            if !is_open {
                return Ok(true);
            }
        }
    }

    /// What only the first line can be.
    fn check_beginning(&mut self) -> Result<(), LoadError> {
        if self.raw.starts_with(BYTE_ORDER_MARK) {
            self.raw.drain(..BYTE_ORDER_MARK.len());
        }
        let wrong =
            |problem: &str| Err(LoadError::Header { path: self.path.clone(), problem: problem.to_owned() });
        if self.raw.starts_with(b"\xff\xfe") || self.raw.starts_with(b"\xfe\xff") {
            return wrong("the file is UTF-16: save it as UTF-8");
        }
        if self.raw.trim_ascii_end().contains(&b'\r') {
            return wrong("lines end by a carriage return alone: save the file with LF or CRLF");
        }
        Ok(())
    }
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    fn read(bytes: &[u8]) -> Result<Vec<(u64, Vec<String>)>, LoadError> {
        let file = file(bytes);
        let mut rows = Rows::open(file.path(), b',')?;
        let mut found = vec![(1, rows.header().to_vec())];
        while let Some(row) = rows.next_row()? {
            let cell = |it| String::from_utf8_lossy(row.cells.get(it).unwrap()).into_owned();
            found.push((row.line, (0..row.cells.len()).map(cell).collect()));
        }
        assert_eq!(rows.hash(), <[u8; 32]>::from(Sha256::digest(bytes)));
        Ok(found)
    }

    #[test]
    fn rows_come_with_the_line_they_begin_in() {
        let row = |line, cells: [&str; 2]| (line, cells.map(str::to_owned).to_vec());
        let header = row(1, ["a", "b"]);
        let cases: [(&[u8], Vec<_>); 6] = [
            (b"a,b\n1,2\n3,4", vec![row(2, ["1", "2"]), row(3, ["3", "4"])]),
            (b"a,b\r\n1,2\r\n", vec![row(2, ["1", "2"])]),
            (b"\xef\xbb\xbfa,b\n1,2\n", vec![row(2, ["1", "2"])]),
            (b"a , b\n\n\n1,2\n", vec![row(4, ["1", "2"])]),
            (
                b"\"a\",\"b\"\n\"x,\"\"y\"\"\",\"two\nlines\"\n3,4\n",
                vec![row(2, ["x,\"y\"", "two\nlines"]), row(4, ["3", "4"])],
            ),
            (b"a,b\n", vec![]),
        ];
        for (bytes, mut expected) in cases {
            expected.insert(0, header.clone());
            assert_eq!(read(bytes).unwrap(), expected, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn what_is_no_csv_is_refused() {
        assert!(matches!(read(b""), Err(LoadError::Empty { .. })));
        assert!(matches!(read(b"\n\n"), Err(LoadError::Empty { .. })));
        let utf16 = read(b"\xff\xfea\0,\0b\0\n\0").unwrap_err().to_string();
        assert!(utf16.contains("UTF-16"), "{utf16}");
        let mac = read(b"a,b\r1,2\r").unwrap_err().to_string();
        assert!(mac.contains("carriage return alone"), "{mac}");
        let latin = read(b"a,\xe4\n1,2\n").unwrap_err().to_string();
        assert!(latin.contains("column 2 is not UTF-8"), "{latin}");
        assert!(matches!(Rows::open(Path::new("/"), b','), Err(LoadError::File { .. })));
        assert!(matches!(Rows::open(Path::new("/none"), b','), Err(LoadError::File { .. })));
    }

    #[test]
    fn a_row_without_end_is_refused_by_its_line_before_memory_is() {
        let mut bytes = b"a,b\n1,2\n3,\"".to_vec();
        bytes.extend(std::iter::repeat_n(b'x', 4 * ROW_LIMIT));
        let error = read(&bytes).unwrap_err();
        assert!(matches!(error, LoadError::TooLong { line: 3, .. }), "{error}");
        let error = read(b"a,b\n1,2\n3,\"4\n5,6\n").unwrap_err();
        assert!(matches!(error, LoadError::Unclosed { line: 3, .. }), "{error}");
    }
}
