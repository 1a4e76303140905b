//! Names of topics and filters over them.

/// Longest topic or filter the protocol can carry, in bytes.
pub const LONGEST: usize = 65_535;

/// Why a topic or a filter is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// Nothing is not a topic.
    #[error("it is empty")]
    Empty,
    /// More bytes than the protocol can carry.
    #[error("it is longer than {LONGEST} bytes")]
    Long,
    /// The protocol forbids the character U+0000.
    #[error("it contains the character NUL")]
    Nul,
    /// A message is published to one topic.
    #[error("it contains + or #, which only a filter may")]
    Wildcard,
    /// `+` must fill a level and `#` must be the last level.
    #[error("+ must be a whole level, and # the whole last level")]
    Misplaced,
}

/// Checks the name of a topic that a message is published to.
///
/// # Errors
///
/// Returns what is wrong with it.
pub fn check_topic(topic: &str) -> Result<(), TopicError> {
    check(topic)?;
    if topic.contains(['+', '#']) { Err(TopicError::Wildcard) } else { Ok(()) }
}

/// Checks a filter that a session subscribes to.
///
/// # Errors
///
/// Returns what is wrong with it.
pub fn check_filter(filter: &str) -> Result<(), TopicError> {
    check(filter)?;
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let wildcard = level.contains(['+', '#']);
        if wildcard && (level.len() > 1 || (level == "#" && levels.peek().is_some())) {
            return Err(TopicError::Misplaced);
        }
    }
    Ok(())
}

/// Whether some topic matches both filters, so that sessions with them would both receive it.
#[must_use]
pub fn overlap(one: &str, other: &str) -> bool {
    let (mut left, mut right) = (one.split('/'), other.split('/'));
    loop {
        match (left.next(), right.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(a), Some(b)) if a == b || a == "+" || b == "+" => {}
            _ => return false,
        }
    }
}

fn check(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        Err(TopicError::Empty)
    } else if text.len() > LONGEST {
        Err(TopicError::Long)
    } else if text.contains('\0') {
        Err(TopicError::Nul)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_filters_are_checked_as_the_standard_says() {
        let long = "x".repeat(LONGEST + 1);
        let cases = [
            // text, topic, filter
            ("vehicles/sensor/data/car-1", Ok(()), Ok(())),
            ("/", Ok(()), Ok(())),
            ("ü/ключ", Ok(()), Ok(())),
            ("vehicles/+/data", Err(TopicError::Wildcard), Ok(())),
            ("#", Err(TopicError::Wildcard), Ok(())),
            ("a/#", Err(TopicError::Wildcard), Ok(())),
            ("a/#/b", Err(TopicError::Wildcard), Err(TopicError::Misplaced)),
            ("a+/b", Err(TopicError::Wildcard), Err(TopicError::Misplaced)),
            ("a/b#", Err(TopicError::Wildcard), Err(TopicError::Misplaced)),
            ("", Err(TopicError::Empty), Err(TopicError::Empty)),
            ("a\0b", Err(TopicError::Nul), Err(TopicError::Nul)),
            (&long, Err(TopicError::Long), Err(TopicError::Long)),
        ];
        for (text, topic, filter) in cases {
            assert_eq!(check_topic(text), topic, "{text:.20}");
            assert_eq!(check_filter(text), filter, "{text:.20}");
        }
    }

    #[test]
    fn filters_overlap_when_a_topic_matches_both() {
        let cases = [
            ("a/+", "a/b", true),
            ("a/+", "a/+", true),
            ("#", "x/y", true),
            ("a/#", "a", true),
            ("a/+", "b/+", false),
            ("a/+", "a/b/c", false),
            ("vehicles/sensor/data/+", "vehicles/truth/+", false),
            ("+/x", "y/+", true),
        ];
        for (one, other, expected) in cases {
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }
}
