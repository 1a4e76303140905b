//! Ports that an engine can have again after it was killed: below those that the system hands out to connections.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context as _, Result};

/// First port and number of ports to choose from: below the 32768 where Linux begins to hand out ports by itself.
const FIRST: u16 = 12_000;
const PORTS: u16 = 18_000;

/// Free ports, each named once.
#[derive(Debug)]
pub struct Ports(u16);

impl Default for Ports {
    fn default() -> Self {
        // Soaks side by side begin at different places.
        Self(FIRST + (std::process::id().wrapping_mul(97) % u32::from(PORTS)) as u16)
    }
}

impl Ports {
    /// The next port that is free now.
    ///
    /// # Errors
    ///
    /// Returns an error when none is.
    pub fn one(&mut self) -> Result<u16> {
        self.next_of(1)
    }

    /// The first of so many ports in a row that are free now.
    ///
    /// # Errors
    ///
    /// Returns an error when there are none.
    pub fn next_of(&mut self, count: u16) -> Result<u16> {
        let mut run = 0;
        for _ in 0..PORTS {
            self.0 = if self.0 + 1 < FIRST + PORTS { self.0 + 1 } else { FIRST };
            run = if TcpListener::bind((Ipv4Addr::LOCALHOST, self.0)).is_ok() { run + 1 } else { 0 };
            if run == count && self.0 + 1 >= FIRST + count {
                return Ok(self.0 + 1 - count);
            }
        }
        None.with_context(|| format!("{count} free ports from {FIRST} to {}", FIRST + PORTS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_named_once() {
        let mut ports = Ports::default();
        let taken: Vec<u16> = (0..20).map(|_| ports.one().unwrap()).collect();
        let mut different = taken.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), taken.len());
        let first = ports.next_of(5).unwrap();
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, first + 5)).ok();
        assert!(
            (first..first + 5).all(|it| TcpListener::bind((Ipv4Addr::LOCALHOST, it)).is_ok()),
            "{held:?}"
        );
    }
}
