//! How to reach Kafka and the schema registry: settings, and the librdkafka configuration made of them.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use rdkafka::ClientConfig;

use crate::error::Error;

/// How to reach Kafka.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Kafka")]
pub struct KafkaConfig {
    /// Kafka's bootstrap servers, as host:port, several separated by commas
    #[arg(long = "kafka", env = "KAFKA", default_value = "localhost:9092", value_name = "HOST:PORT")]
    pub bootstrap: String,

    /// How connections to Kafka are protected
    #[arg(long = "kafka-security", env = "KAFKA_SECURITY", value_enum, default_value_t = Security::Plaintext)]
    pub security: Security,

    /// File with the certificates (PEM) of the authorities that may vouch for Kafka; the system's if absent
    #[arg(long = "kafka-ca", env = "KAFKA_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// File with this client's certificate (PEM), where Kafka asks for one
    #[arg(long = "kafka-certificate", env = "KAFKA_CERTIFICATE", value_name = "FILE", requires = "key")]
    pub certificate: Option<PathBuf>,

    /// File with the key (PEM) of this client's certificate
    #[arg(id = "key", long = "kafka-key", env = "KAFKA_KEY", value_name = "FILE", requires = "certificate")]
    pub key: Option<PathBuf>,

    /// SASL mechanism, where the protection says SASL
    #[arg(long = "kafka-sasl", env = "KAFKA_SASL", value_enum, default_value_t = SaslMechanism::ScramSha512)]
    pub sasl: SaslMechanism,

    /// SASL user
    #[arg(long = "kafka-user", env = "KAFKA_USER", value_name = "NAME")]
    pub user: Option<String>,

    /// File with the SASL password
    #[arg(long = "kafka-password-file", env = "KAFKA_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// How records are compressed that are written: CPU time for bytes on the wire, on disk and in replicas
    #[arg(long = "kafka-compression", env = "KAFKA_COMPRESSION", value_enum, default_value_t = Compression::None)]
    pub compression: Compression,

    /// Name by which Kafka's logs and quotas know this process
    #[arg(
        long = "kafka-client-id",
        env = "KAFKA_CLIENT_ID",
        default_value = "telltale",
        value_name = "NAME"
    )]
    pub client_id: String,
}

/// Protection of a connection to Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Security {
    /// Neither encrypted nor authenticated
    Plaintext,
    /// Encrypted; authenticated by a client certificate if one is given
    Tls,
    /// Authenticated by SASL, not encrypted
    SaslPlaintext,
    /// Authenticated by SASL and encrypted
    SaslTls,
}

/// Way of proving who one is by SASL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SaslMechanism {
    /// User and password as they are; use it with TLS only
    Plain,
    /// Salted challenge and response, SHA-256
    #[value(name = "scram-sha-256")]
    ScramSha256,
    /// Salted challenge and response, SHA-512
    #[value(name = "scram-sha-512")]
    ScramSha512,
}

/// How records are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// Not at all
    None,
    /// A little CPU time; JSON readings take a quarter of their bytes, Avro ones less than half
    Lz4,
    /// More CPU time for fewer bytes: an eighth, and a third
    Zstd,
}

/// How to reach the schema registry.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Schema registry")]
pub struct RegistryConfig {
    /// URL of the schema registry
    #[arg(long = "registry", env = "REGISTRY", default_value = "http://localhost:8081", value_name = "URL")]
    pub url: String,

    /// User, where the registry asks for one
    #[arg(long = "registry-user", env = "REGISTRY_USER", value_name = "NAME")]
    pub registry_user: Option<String>,

    /// File with the certificates (PEM) of the authorities that may vouch for the registry; the system's if absent
    #[arg(long = "registry-ca", env = "REGISTRY_CA", value_name = "FILE")]
    pub registry_ca: Option<PathBuf>,

    /// File with the registry user's password
    #[arg(long = "registry-password-file", env = "REGISTRY_PASSWORD_FILE", value_name = "FILE")]
    pub registry_password_file: Option<PathBuf>,
}

impl KafkaConfig {
    /// Settings for an unprotected Kafka at `bootstrap`, as the embedded one is.
    #[must_use]
    pub fn at(bootstrap: impl Into<String>) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            security: Security::Plaintext,
            ca: None,
            certificate: None,
            key: None,
            sasl: SaslMechanism::ScramSha512,
            user: None,
            password_file: None,
            compression: Compression::None,
            client_id: "telltale".to_owned(),
        }
    }

    /// The flags that make these settings: for a service that is started with them.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        let name = |it: Option<clap::builder::PossibleValue>| it.map(|it| it.get_name().to_owned());
        given([
            ("--kafka", Some(self.bootstrap.clone())),
            ("--kafka-security", name(self.security.to_possible_value())),
            ("--kafka-ca", path(self.ca.as_ref())),
            ("--kafka-certificate", path(self.certificate.as_ref())),
            ("--kafka-key", path(self.key.as_ref())),
            ("--kafka-sasl", name(self.sasl.to_possible_value())),
            ("--kafka-user", self.user.clone()),
            ("--kafka-password-file", path(self.password_file.as_ref())),
            ("--kafka-compression", name(self.compression.to_possible_value())),
            ("--kafka-client-id", Some(self.client_id.clone())),
        ])
    }

    /// Checks the settings and that the files they name can be read.
    ///
    /// # Errors
    ///
    /// Returns what is missing, contradictory or unreadable.
    pub fn check(&self) -> Result<(), Error> {
        self.client().map(drop)
    }

    /// The librdkafka settings that every client shares.
    pub(crate) fn client(&self) -> Result<ClientConfig, Error> {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", &self.client_id)
            // Kafka's nodes come and go; a node that is back is tried again within this time.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000")
            .set("socket.nagle.disable", "true")
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set("log.connection.close", "false");
        let sasl = matches!(self.security, Security::SaslPlaintext | Security::SaslTls);
        let tls = matches!(self.security, Security::Tls | Security::SaslTls);
        client.set(
            "security.protocol",
            match self.security {
                Security::Plaintext => "plaintext",
                Security::Tls => "ssl",
                Security::SaslPlaintext => "sasl_plaintext",
                Security::SaslTls => "sasl_ssl",
            },
        );
        if tls {
            self.set_tls(&mut client)?;
        } else if self.ca.is_some() || self.certificate.is_some() {
            return Err(Error::Settings {
                problem: "certificates are given, but the connection is not encrypted".to_owned(),
                hint: "use --kafka-security tls or sasl-tls, or leave --kafka-ca and --kafka-certificate out",
            });
        }
        if sasl {
            self.set_sasl(&mut client)?;
        } else if self.user.is_some() || self.password_file.is_some() {
            return Err(Error::Settings {
                problem: "a Kafka user is given, but the connection does not use SASL".to_owned(),
                hint: "use --kafka-security sasl-tls, or leave --kafka-user and --kafka-password-file out",
            });
        }
        Ok(client)
    }

    /// The librdkafka settings that every producer shares.
    pub(crate) fn producer(&self) -> Result<ClientConfig, Error> {
        let mut client = self.client()?;
        let compression = match self.compression {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        };
        client.set("compression.type", compression);
        Ok(client)
    }

    fn set_tls(&self, client: &mut ClientConfig) -> Result<(), Error> {
        if let Some(path) = &self.ca {
            client.set("ssl.ca.pem", read("--kafka-ca", path)?);
        } else {
            client.set("ssl.ca.location", system_authorities());
        }
        if let (Some(certificate), Some(key)) = (&self.certificate, &self.key) {
            client.set("ssl.certificate.pem", read("--kafka-certificate", certificate)?);
            client.set("ssl.key.pem", read("--kafka-key", key)?);
        }
        Ok(())
    }

    fn set_sasl(&self, client: &mut ClientConfig) -> Result<(), Error> {
        let (Some(user), Some(path)) = (&self.user, &self.password_file) else {
            return Err(Error::Settings {
                problem: "SASL needs a user and a password".to_owned(),
                hint: "give --kafka-user and --kafka-password-file",
            });
        };
        let mechanism = match self.sasl {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        };
        client
            .set("sasl.mechanism", mechanism)
            .set("sasl.username", user)
            .set("sasl.password", secret("--kafka-password-file", path)?);
        Ok(())
    }
}

impl RegistryConfig {
    /// Settings for a registry at `url` that asks for no user, as the embedded one is.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), registry_user: None, registry_ca: None, registry_password_file: None }
    }

    /// The flags that make these settings: for a service that is started with them.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        given([
            ("--registry", Some(self.url.clone())),
            ("--registry-user", self.registry_user.clone()),
            ("--registry-password-file", path(self.registry_password_file.as_ref())),
        ])
    }
}

fn path(path: Option<&PathBuf>) -> Option<String> {
    path.map(|it| it.display().to_string())
}

/// The flags that have a value.
fn given<const N: usize>(flags: [(&str, Option<String>); N]) -> Vec<String> {
    let given = flags.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?]));
    given.flatten().collect()
}

/// Where the system keeps the authorities it trusts; the one place all our TLS takes them from (`SSL_CERT_FILE` moves it).
fn system_authorities() -> String {
    let found = openssl_probe::probe();
    let place = found.cert_file.or_else(|| found.cert_dir.into_iter().next());
    place.map_or_else(|| "probe".to_owned(), |it| it.to_string_lossy().into_owned())
}

/// The text of a file that a flag names.
pub(crate) fn read(flag: &'static str, path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::File { flag, path: path.to_owned(), source })
}

/// The first line of a file with a secret; editors add an end of line.
pub(crate) fn secret(flag: &'static str, path: &Path) -> Result<String, Error> {
    Ok(read(flag, path)?.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        kafka: KafkaConfig,
        #[command(flatten)]
        registry: RegistryConfig,
    }

    #[test]
    fn settings_come_back_from_the_flags_they_give() {
        let wanted = "--kafka a:1,b:2 --kafka-security sasl-tls --kafka-ca ca.pem --kafka-certificate it.pem --kafka-key it.key \
            --kafka-sasl plain --kafka-user me --kafka-password-file secret \
            --kafka-compression lz4 --kafka-client-id test";
        let registry = "--registry https://x --registry-user me --registry-password-file other";
        let words: Vec<&str> = wanted.split_whitespace().chain(registry.split_whitespace()).collect();
        let flags = <Flags as clap::Parser>::try_parse_from(["test"].iter().chain(&words)).unwrap();
        assert_eq!([flags.kafka.flags(), flags.registry.flags()].concat(), words);
        assert_eq!(RegistryConfig::at("http://y").flags(), ["--registry", "http://y"]);
    }

    #[test]
    fn the_flags_are_consistent() {
        <Flags as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn contradictory_settings_are_refused_with_what_to_do() {
        let cases: [(&[&str], &str); 5] = [
            (&["--kafka-user", "a"], "--kafka-security sasl-tls"),
            (&["--kafka-ca", "ca.pem"], "--kafka-security tls"),
            (&["--kafka-security", "sasl-tls"], "--kafka-user and --kafka-password-file"),
            (&["--kafka-security", "tls", "--kafka-ca", "/none/ca.pem"], "/none/ca.pem"),
            (
                &[
                    "--kafka-security",
                    "sasl-tls",
                    "--kafka-user",
                    "a",
                    "--kafka-password-file",
                    "/none/secret",
                ],
                "--kafka-password-file",
            ),
        ];
        for (arguments, expected) in cases {
            let all = ["test"].iter().chain(arguments);
            let flags = <Flags as clap::Parser>::try_parse_from(all).unwrap();
            let error = flags.kafka.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn a_password_is_the_first_line_of_its_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\n").unwrap();
        assert_eq!(secret("--kafka-password-file", file.path()).unwrap(), "s3cret");
    }
}
