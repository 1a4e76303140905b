//! Where an embedded engine is known to differ from the real one.

use crate::engines::Kind;

/// The page that lists every difference with its reason.
const PAGE: &str = include_str!("../../../docs/CONFORMANCE.md");

/// Whether `kind` has the difference `name`: the embedded engines do, the real ones are the reference.
///
/// # Panics
///
/// Where docs/CONFORMANCE.md has no row that begins with that name.
#[must_use]
pub fn known_difference(kind: Kind, name: &str) -> bool {
    let row = format!("| **{name}** |");
    assert!(PAGE.contains(&row), "docs/CONFORMANCE.md has no row {row}");
    kind == Kind::Embedded
}
