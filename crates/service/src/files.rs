//! How many files, and so connections, this process may have open.

/// Raises the limit of open files as far as the system lets this process, and returns it.
///
/// Shells start processes with 1,024, whereas a service holds a connection for each device.
#[must_use]
pub fn open_files() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    #[expect(unsafe_code, reason = "getrlimit(2) and setrlimit(2) have no safe form in the standard library")]
    // SAFETY: both calls are given a pointer to a valid structure of this frame.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return None;
        }
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) == 0 {
            limit = raised;
        }
    }
    Some(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_as_high_as_it_may_be() {
        let limit = open_files().unwrap();
        assert!(limit >= 256);
        assert_eq!(open_files(), Some(limit));
    }
}
