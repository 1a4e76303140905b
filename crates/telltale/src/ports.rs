//! Finds out before anything starts whether the ports are free, and says which flag changes a taken one.

use std::io;
use std::net::{IpAddr, TcpListener};

/// Why a port cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// Another process listens there.
    #[error(
        "port {port} for {purpose} is in use on {address}: stop what listens there, or choose another port with {flag} (0 takes any free one)"
    )]
    InUse {
        /// The port.
        port: u16,
        /// What would have listened there.
        purpose: &'static str,
        /// Address of this machine.
        address: IpAddr,
        /// The flag that changes it.
        flag: &'static str,
    },
    /// The system refuses it.
    #[error("listening on {address}:{port} for {purpose}, which {flag} changes")]
    Refused {
        /// The port.
        port: u16,
        /// What would have listened there.
        purpose: &'static str,
        /// Address of this machine.
        address: IpAddr,
        /// The flag that changes it.
        flag: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Two flags give the same port.
    #[error("{first} and {second} are both {port}: each needs a port of its own (0 takes any free one)")]
    Twice {
        /// The port.
        port: u16,
        /// One flag.
        first: &'static str,
        /// The other flag.
        second: &'static str,
    },
}

/// A port somebody asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The flag it was given by.
    pub flag: &'static str,
    /// What is to listen there.
    pub purpose: &'static str,
    /// The port, 0 for any free one.
    pub port: u16,
}

/// Checks that each port of `wanted` can be listened on at `address` and is asked for only once.
///
/// # Errors
///
/// Returns the first port that cannot be used.
pub fn check(address: IpAddr, wanted: &[Wanted]) -> Result<(), PortError> {
    for (index, &Wanted { flag, purpose, port }) in wanted.iter().enumerate() {
        if port == 0 {
            continue;
        }
        if let Some(other) = wanted[..index].iter().find(|it| it.port == port) {
            return Err(PortError::Twice { port, first: other.flag, second: flag });
        }
        match TcpListener::bind((address, port)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(PortError::InUse { port, purpose, address, flag });
            }
            Err(source) => return Err(PortError::Refused { port, purpose, address, flag, source }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_taken_port_is_named_with_its_flag() {
        let taken = TcpListener::bind((HERE, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let wanted = [
            Wanted { flag: "--mqtt-port", purpose: "MQTT", port: 0 },
            Wanted { flag: "--kafka-port", purpose: "Kafka", port },
        ];
        let message = check(HERE, &wanted).unwrap_err().to_string();
        assert!(message.starts_with(&format!("port {port} for Kafka is in use on 127.0.0.1")), "{message}");
        assert!(message.contains("--kafka-port (0 takes any free one)"), "{message}");
        drop(taken);
        check(HERE, &wanted).unwrap();
    }

    #[test]
    fn a_port_given_twice_names_both_flags() {
        let wanted = [
            Wanted { flag: "--mqtt-port", purpose: "MQTT", port: 40_001 },
            Wanted { flag: "--http-port", purpose: "HTTP", port: 40_001 },
        ];
        // Another process may hold the port just now; then that is the answer for the first flag.
        let error = check(HERE, &wanted).unwrap_err();
        assert!(
            matches!(error, PortError::Twice { .. } | PortError::InUse { flag: "--mqtt-port", .. }),
            "{error}"
        );
    }

    #[test]
    fn a_refused_port_says_what_the_system_said() {
        // 192.0.2.1 is reserved for documentation: no machine has it.
        let elsewhere: IpAddr = "192.0.2.1".parse().unwrap();
        let wanted = [Wanted { flag: "--mqtt-port", purpose: "MQTT", port: 40_002 }];
        let error = check(elsewhere, &wanted).unwrap_err();
        assert!(matches!(error, PortError::Refused { .. }), "{error}");
    }
}
