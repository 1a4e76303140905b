//! Says where in a TOML text something lies: its line and its key, written as a person would.

/// Line number, from 1, and key (such as `feature[3].scale`) of the byte at `offset` of `text`.
pub(crate) fn locate(text: &str, offset: usize) -> (usize, String) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let line_start = text[..offset].rfind('\n').map_or(0, |it| it + 1);
    let line_number = text[..line_start].matches('\n').count() + 1;
    let line = text[line_start..].lines().next().unwrap_or_default();
    let table = table_of(&text[..line_start]);
    if let Some(header) = header_of(line) {
        let index = text[..line_start].lines().filter_map(header_of).filter(|it| *it == header).count();
        return (line_number, named(header, index));
    }
    let key = line.split_once('=').map_or("", |(key, _)| key.trim().trim_matches('"'));
    let key = match (table.is_empty(), key.is_empty()) {
        (true, _) => key.to_owned(),
        (false, true) => table,
        (false, false) => format!("{table}.{key}"),
    };
    (line_number, key)
}

/// The table that the end of `before` lies in.
fn table_of(before: &str) -> String {
    let headers: Vec<_> = before.lines().filter_map(header_of).collect();
    let Some(&last) = headers.last() else { return String::new() };
    let index = headers.iter().filter(|it| **it == last).count() - 1;
    named(last, index)
}

/// Name in a line such as `[name]` or `[[name]]`, and whether it is one of many.
fn header_of(line: &str) -> Option<(&str, bool)> {
    let line = line.trim();
    let many = line.starts_with("[[");
    let open = if many { 2 } else { 1 };
    if !line.starts_with('[') {
        return None;
    }
    let name = line.get(open..)?.split(']').next()?.trim();
    (!name.is_empty()).then_some((name, many))
}

fn named((name, many): (&str, bool), index: usize) -> String {
    if many { format!("{name}[{index}]") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::locate;

    #[test]
    fn names_line_and_key() {
        let text = "a = 1\n[t]\nb = 2\n[[f]]\nc = 3\n[[f]]\nc = 4\n";
        let cases = [("a = 1", 1, "a"), ("b = 2", 3, "t.b"), ("c = 3", 5, "f[0].c"), ("c = 4", 7, "f[1].c")];
        for (at, line, key) in cases {
            assert_eq!(locate(text, text.find(at).unwrap()), (line, key.to_owned()));
        }
        assert_eq!(locate(text, text.rfind("[[f]]").unwrap()), (6, "f[1]".to_owned()));
        assert_eq!(locate("", 99), (1, String::new()));
    }
}
