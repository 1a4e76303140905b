//! Where the broker is and how to speak to it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

/// Settings of the connection to an MQTT broker.
///
/// Each setting is a flag and an environment variable.
#[derive(Debug, Clone, Args)]
pub struct MqttConfig {
    /// Address of the MQTT broker, `host:port`
    #[arg(long, env = "MQTT", default_value = "127.0.0.1:1883", value_name = "HOST:PORT")]
    pub mqtt: Address,

    /// Version of the protocol
    #[arg(long, env = "MQTT_VERSION", value_enum, default_value_t = Version::V5)]
    pub mqtt_version: Version,

    /// User to log in as
    #[arg(long, env = "MQTT_USER", requires = "mqtt_password_file")]
    pub mqtt_user: Option<String>,

    /// File with the password of the user; a line end at its end is not part of it
    #[arg(long, env = "MQTT_PASSWORD_FILE", requires = "mqtt_user", value_name = "FILE")]
    pub mqtt_password_file: Option<PathBuf>,

    /// Encrypt the connection
    #[arg(long, env = "MQTT_TLS")]
    pub mqtt_tls: bool,

    /// File with the certificates (PEM) of the authorities that may vouch for the broker; the system's if absent
    #[arg(long, env = "MQTT_CA", requires = "mqtt_tls", value_name = "FILE")]
    pub mqtt_ca: Option<PathBuf>,

    /// Longest silence before a ping, from 1s to 18h
    #[arg(long, env = "MQTT_KEEP_ALIVE", default_value = "30s", value_name = "DURATION")]
    pub mqtt_keep_alive: humantime::Duration,

    /// Client id, or where there are several sessions, what their ids begin with [default: named for the service]
    #[arg(long, env = "MQTT_CLIENT_ID", value_name = "ID")]
    pub mqtt_client_id: Option<String>,
}

/// Version of the MQTT protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Version {
    /// MQTT 3.1.1
    #[value(name = "3.1.1", alias = "4")]
    V311,
    /// MQTT 5
    #[value(name = "5")]
    V5,
}

/// Host and port of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Name or address, an IPv6 address in brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not host:port, such as broker.example:1883");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        if host.is_empty() || host.contains(['/', ' ']) || bare_ipv6 || port == 0 {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why the MQTT settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file that a setting names cannot be read.
    #[error("reading {path:?}, given by {flag}")]
    Read {
        /// The setting.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system reported.
        source: std::io::Error,
    },
    /// The authority is not a PEM certificate.
    #[error("reading a PEM certificate from {path:?}, given by --mqtt-ca")]
    Authority {
        /// The file.
        path: PathBuf,
        /// What the TLS library reported.
        source: native_tls::Error,
    },
    /// TLS could not be set up.
    #[error("setting up TLS for MQTT")]
    Tls(#[source] native_tls::Error),
    /// The keep-alive does not fit the protocol.
    #[error("--mqtt-keep-alive {0:?} is not between 1s and 18h")]
    KeepAlive(Duration),
    /// The password is not text.
    #[error("the password in {path:?}, given by --mqtt-password-file, is empty or not UTF-8 text")]
    Password {
        /// The file.
        path: PathBuf,
    },
}

/// A broker that sessions connect to: settings read and checked, cheap to share by many sessions.
#[derive(Clone)]
pub struct Endpoint {
    pub(crate) address: Address,
    pub(crate) version: Version,
    pub(crate) credentials: Option<(String, String)>,
    pub(crate) tls: Option<native_tls::TlsConnector>,
    pub(crate) keep_alive: Duration,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("address", &self.address)
            .field("version", &self.version)
            .field("user", &self.credentials.as_ref().map(|(user, _)| user))
            .field("tls", &self.tls.is_some())
            .field("keep_alive", &self.keep_alive)
            .finish()
    }
}

impl Endpoint {
    /// An endpoint without TLS, user or password, with a keep-alive of 30 s.
    #[must_use]
    pub fn plain(address: Address, version: Version) -> Self {
        Self { address, version, credentials: None, tls: None, keep_alive: Duration::from_secs(30) }
    }

    /// The address of the broker.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl MqttConfig {
    /// The flags that lead to the same broker: for a service that is started with them. The client id is not among them, since
    /// each service has its own.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        let version = self.mqtt_version.to_possible_value().map(|it| it.get_name().to_owned());
        let path = |it: &Option<PathBuf>| it.as_ref().map(|it| it.display().to_string());
        let given = [
            ("--mqtt", Some(self.mqtt.to_string())),
            ("--mqtt-version", version),
            ("--mqtt-user", self.mqtt_user.clone()),
            ("--mqtt-password-file", path(&self.mqtt_password_file)),
            ("--mqtt-ca", path(&self.mqtt_ca)),
            ("--mqtt-keep-alive", Some(self.mqtt_keep_alive.to_string())),
        ];
        let tls = self.mqtt_tls.then(|| "--mqtt-tls".to_owned());
        let given = given.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?]));
        given.flatten().chain(tls).collect()
    }

    /// Reads the files and checks the settings; connects to nothing.
    ///
    /// # Errors
    ///
    /// Returns which setting cannot be used and why.
    pub fn endpoint(&self) -> Result<Endpoint, ConfigError> {
        let keep_alive = *self.mqtt_keep_alive;
        if !(1..=64_800).contains(&keep_alive.as_secs()) {
            return Err(ConfigError::KeepAlive(keep_alive));
        }
        let credentials = match (&self.mqtt_user, &self.mqtt_password_file) {
            (Some(user), Some(path)) => Some((user.clone(), password(path)?)),
            _ => None,
        };
        let tls = if self.mqtt_tls { Some(connector(self.mqtt_ca.as_deref())?) } else { None };
        Ok(Endpoint { address: self.mqtt.clone(), version: self.mqtt_version, credentials, tls, keep_alive })
    }
}

fn password(path: &Path) -> Result<String, ConfigError> {
    let bytes = read("--mqtt-password-file", path)?;
    let wrong = || ConfigError::Password { path: path.to_owned() };
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() { Err(wrong()) } else { Ok(text.to_owned()) }
}

fn connector(authority: Option<&Path>) -> Result<native_tls::TlsConnector, ConfigError> {
    let mut builder = native_tls::TlsConnector::builder();
    if let Some(path) = authority {
        let pem = read("--mqtt-ca", path)?;
        let authority = |source| ConfigError::Authority { path: path.to_owned(), source };
        // OpenSSL takes a file without any for an empty bundle, but says what is wrong with a single one.
        let mut certificates = native_tls::Certificate::stack_from_pem(&pem).map_err(authority)?;
        if certificates.is_empty() {
            certificates.push(native_tls::Certificate::from_pem(&pem).map_err(authority)?);
        }
        for certificate in certificates {
            builder.add_root_certificate(certificate);
        }
        builder.disable_built_in_roots(true);
    }
    builder.build().map_err(ConfigError::Tls)
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|source| ConfigError::Read { flag, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        mqtt: MqttConfig,
    }

    fn parse(flags: &[&str]) -> Result<MqttConfig, clap::Error> {
        Command::try_parse_from(["test"].iter().chain(flags)).map(|it| it.mqtt)
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let good = [("localhost:1883", "localhost", 1883), ("[::1]:8883", "[::1]", 8883)];
        for (text, host, port) in good {
            assert_eq!(text.parse(), Ok(Address { host: host.into(), port }), "{text}");
        }
        for text in ["localhost", ":1883", "host:0", "host:70000", "mqtt://host:1883", "::1:1883", ""] {
            assert!(text.parse::<Address>().unwrap_err().contains("host:port"), "{text}");
        }
    }

    #[test]
    fn settings_come_back_from_the_flags_they_give() {
        let flags = "--mqtt a:1 --mqtt-version 3.1.1 --mqtt-user me --mqtt-password-file secret --mqtt-ca ca.pem \
            --mqtt-keep-alive 7s --mqtt-tls";
        let flags: Vec<&str> = flags.split_whitespace().collect();
        assert_eq!(parse(&flags).unwrap().flags(), flags);
    }

    #[test]
    fn settings_are_checked_before_anything_connects() {
        let missing = ["--mqtt-user", "u", "--mqtt-password-file", "no-such-file"];
        let message = parse(&missing).unwrap().endpoint().unwrap_err().to_string();
        assert_eq!(message, "reading \"no-such-file\", given by --mqtt-password-file");
        let message = parse(&["--mqtt-keep-alive", "0s"]).unwrap().endpoint().unwrap_err().to_string();
        assert!(message.contains("--mqtt-keep-alive"), "{message}");
        assert!(parse(&["--mqtt-user", "u"]).is_err());
        assert!(parse(&["--mqtt-version", "6"]).is_err());
        assert_eq!(parse(&["--mqtt-version", "3.1.1"]).unwrap().mqtt_version, Version::V311);
    }

    #[test]
    fn a_password_is_a_file_and_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret\n").unwrap();
        let path = file.path().to_str().unwrap();
        let endpoint =
            parse(&["--mqtt-user", "u", "--mqtt-password-file", path]).unwrap().endpoint().unwrap();
        assert_eq!(endpoint.credentials, Some(("u".to_owned(), "secret".to_owned())));
        assert!(!format!("{endpoint:?}").contains("secret"));
        std::fs::write(file.path(), "\n").unwrap();
        let again = parse(&["--mqtt-user", "u", "--mqtt-password-file", path]).unwrap().endpoint();
        assert!(matches!(again, Err(ConfigError::Password { .. })));
    }

    #[test]
    fn an_authority_that_is_no_certificate_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "nonsense").unwrap();
        let path = file.path().to_str().unwrap();
        let error = parse(&["--mqtt-tls", "--mqtt-ca", path]).unwrap().endpoint().unwrap_err();
        assert!(error.to_string().contains("--mqtt-ca"), "{error}");
    }
}
