//! The schema registry: from schema id to schema, and from subject to schema id.
//!
//! A schema never changes under its id, so a schema once fetched is kept. "There is no such schema" can
//! change: that answer is kept for a while only. Ids come from strangers' bytes: both caches are bounded,
//! and look-ups of ids that do not exist are held to a rate, so that random ids cannot flood the registry.

mod cache;
mod denial;
mod subjects;

use std::error::Error as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use schema_registry_converter::blocking::schema_registry::{
    SrSettings, get_schema_by_id, get_schema_by_subject, post_schema,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{
    RawError, RegisteredSchema, SchemaType, SubjectNameStrategy, SuppliedSchema,
};
use telltale_records::schema::{Schema, SchemaError};

use crate::config::{RegistryConfig, read, secret};
use cache::{Cache, Verdict};
use subjects::Subjects;

/// How long one call may take.
const CALL: Duration = Duration::from_secs(3);

/// Why the registry gave no schema or id.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The settings cannot be used.
    #[error("{problem}: check --registry, --registry-user, --registry-password-file and --registry-ca")]
    Settings {
        /// What is wrong.
        problem: String,
    },
    /// A file with a secret could not be read.
    #[error(transparent)]
    File(crate::Error),
    /// There is no schema with this id.
    #[error("the registry has no schema {id}")]
    UnknownId {
        /// The id.
        id: u32,
    },
    /// There is no such subject.
    #[error("the registry has no subject {subject}")]
    UnknownSubject {
        /// Name of the subject.
        subject: String,
    },
    /// The schema belongs to other subjects than the one it must belong to.
    #[error("schema {id} is not registered for {subject}")]
    Foreign {
        /// The id.
        id: u32,
        /// The subject, or several.
        subject: String,
    },
    /// The schema is not an Avro schema.
    #[error("schema {id} is {kind}, not Avro")]
    NotAvro {
        /// The id.
        id: u32,
        /// What it is instead.
        kind: String,
    },
    /// The schema is not one that this program takes.
    #[error("schema {id} cannot be used")]
    Unusable {
        /// The id.
        id: u32,
        /// Why.
        source: Arc<SchemaError>,
    },
    /// The registry does not take the schema under this subject.
    #[error("the registry refuses the schema for subject {subject} (error {code}: {message})")]
    Incompatible {
        /// Name of the subject.
        subject: String,
        /// The registry's error code; 409 says incompatible.
        code: u32,
        /// The registry's message.
        message: String,
    },
    /// The registry refuses the caller.
    #[error("{attempt}: the registry at {url} refuses (error {code}: {message})")]
    Refused {
        /// What was being attempted.
        attempt: String,
        /// Where.
        url: String,
        /// The registry's error code.
        code: u32,
        /// The registry's message.
        message: String,
    },
    /// The registry does not let this client in or do this, or this client does not trust it.
    #[error("{attempt} failed: the registry at {url} {problem}: {hint}")]
    Denied {
        /// What was being attempted.
        attempt: String,
        /// Where.
        url: String,
        /// What the registry does not do.
        problem: String,
        /// What to do about it.
        hint: &'static str,
        /// What was reported, where it says more.
        source: Option<SRCError>,
    },
    /// The registry was away, slow, or failed inside: trying again later may succeed.
    #[error("{attempt} failed (is the registry reachable at {url}? `--registry` names it)")]
    Passing {
        /// What was being attempted.
        attempt: String,
        /// Where.
        url: String,
        /// What was reported.
        source: SRCError,
    },
}

impl RegistryError {
    /// Whether trying again later may succeed; if not, a record with this schema id is a bad record.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Passing { .. } | Self::Refused { .. } | Self::Denied { .. })
    }

    /// Whether a person must change settings or rights before it succeeds: a service that has not begun ends with it.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        matches!(self, Self::Denied { .. })
    }
}

/// A client of the registry; share it, by reference or in an [`Arc`], rather than make several.
///
/// Its calls block and must not be made on an asynchronous executor.
pub struct Registry {
    settings: SrSettings,
    subjects: Subjects,
    url: String,
    cache: Mutex<Cache>,
}

impl Registry {
    /// Makes a client; connects when it is first used.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the settings.
    pub fn new(config: &RegistryConfig) -> Result<Self, RegistryError> {
        let url = config.url.trim_end_matches('/').to_owned();
        let problem = |problem: String| RegistryError::Settings { problem };
        match reqwest::Url::parse(&url) {
            Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => {}
            Ok(_) => {
                return Err(problem(format!(
                    "the registry's URL {url:?} begins with neither http nor https"
                )));
            }
            Err(error) => return Err(problem(format!("the registry's URL {url:?} is not a URL ({error})"))),
        }
        let mut builder = SrSettings::new_builder(url.clone());
        builder.set_timeout(CALL);
        let mut login = None;
        match (&config.registry_user, &config.registry_password_file) {
            (None, None) => {}
            (Some(user), None) => login = Some((user.clone(), None)),
            (Some(user), Some(path)) => {
                let password = secret("--registry-password-file", path).map_err(RegistryError::File)?;
                login = Some((user.clone(), Some(password)));
            }
            (None, Some(_)) => return Err(problem("a registry password is given without a user".to_owned())),
        }
        if let Some((user, password)) = &login {
            builder.set_basic_authorization(user, password.as_deref());
        }
        let authorities = config.registry_ca.as_deref().map(authorities).transpose()?;
        let client = || {
            let client = reqwest::blocking::Client::builder().connect_timeout(CALL).pool_max_idle_per_host(2);
            // Only those, as for Kafka and MQTT.
            match &authorities {
                Some(authorities) => client.tls_certs_only(authorities.clone()),
                None => client,
            }
        };
        let settings = builder.build_with(client()).map_err(|error| problem(error.to_string()))?;
        let client = client().timeout(CALL).build().map_err(|error| problem(error.to_string()))?;
        let subjects = Subjects { client, user: login };
        let cache = Mutex::new(Cache::new(Instant::now()));
        Ok(Self { settings, subjects, url, cache })
    }

    /// The schema with `id`, from memory if it was fetched before.
    ///
    /// # Errors
    ///
    /// Returns why there is none; [`RegistryError::is_passing`] says whether that may change by itself.
    pub fn schema(&self, id: u32) -> Result<Arc<Schema>, RegistryError> {
        let wait = {
            let mut cache = self.lock();
            let now = Instant::now();
            if let Some(known) = cache.get(id, now) {
                return known.map_err(|it| it.error(id));
            }
            cache.wait(now)
        };
        thread::sleep(wait);
        self.fetch(id)
    }

    /// Registers `schema` under `subject`, or finds it there; returns its id.
    ///
    /// # Errors
    ///
    /// Returns an error when the registry does not take the schema, or could not be asked.
    pub fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let supplied = SuppliedSchema::new(None, SchemaType::Avro, schema.to_owned());
        match post_schema(&self.settings, subject.to_owned(), supplied) {
            Ok(registered) => Ok(registered.id),
            Err(error) => Err(match code(&error) {
                Some((code @ (409 | 422 | 42201 | 42202 | 42203), message)) => {
                    RegistryError::Incompatible { subject: subject.to_owned(), code, message }
                }
                _ => self.failed(format!("registering the schema of subject {subject}"), error),
            }),
        }
    }

    /// The newest schema of `subject`, with its id.
    ///
    /// # Errors
    ///
    /// Returns an error when there is none, or the registry could not be asked.
    pub fn latest(&self, subject: &str) -> Result<(u32, Arc<Schema>), RegistryError> {
        // The strategy that takes a name as it is: the subject need not be a topic's.
        let strategy = SubjectNameStrategy::RecordNameStrategy(subject.to_owned());
        match get_schema_by_subject(&self.settings, &strategy) {
            Ok(registered) => {
                let id = registered.id;
                Ok((id, self.keep(registered)?))
            }
            Err(error) => Err(match code(&error) {
                Some((404 | 40401 | 40402, _)) => {
                    RegistryError::UnknownSubject { subject: subject.to_owned() }
                }
                _ => self.failed(format!("asking for subject {subject}"), error),
            }),
        }
    }

    fn fetch(&self, id: u32) -> Result<Arc<Schema>, RegistryError> {
        match get_schema_by_id(id, &self.settings) {
            Ok(registered) => self.keep(registered),
            Err(error) => match code(&error) {
                Some((404 | 40403, _)) => Err(self.reject(id, Verdict::Unknown)),
                _ => Err(self.failed(format!("asking for schema {id}"), error)),
            },
        }
    }

    fn keep(&self, registered: RegisteredSchema) -> Result<Arc<Schema>, RegistryError> {
        let id = registered.id;
        if registered.schema_type != SchemaType::Avro {
            return Err(self.reject(id, Verdict::NotAvro(format!("{:?}", registered.schema_type))));
        }
        let schema = match Schema::parse(&registered.schema) {
            Ok(schema) => Arc::new(schema),
            Err(error) => return Err(self.reject(id, Verdict::Unusable(Arc::new(error)))),
        };
        self.lock().keep(id, &schema);
        Ok(schema)
    }

    fn reject(&self, id: u32, verdict: Verdict) -> RegistryError {
        self.lock().reject(id, verdict.clone(), Instant::now());
        verdict.error(id)
    }

    fn failed(&self, attempt: String, error: SRCError) -> RegistryError {
        match code(&error) {
            Some((code, message)) if !error.retriable && !server_fault(code) => {
                self.refused(attempt, code, message)
            }
            _ => self.unanswered(attempt, error),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The certificates of a PEM file.
fn authorities(path: &Path) -> Result<Vec<reqwest::Certificate>, RegistryError> {
    let pem = read("--registry-ca", path).map_err(RegistryError::File)?;
    let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).unwrap_or_default();
    if certificates.is_empty() {
        let problem = format!("{} holds no certificate (PEM)", path.display());
        return Err(RegistryError::Settings { problem });
    }
    Ok(certificates)
}

/// Confluent's error code and message, or the HTTP status where the answer has none.
fn code(error: &SRCError) -> Option<(u32, String)> {
    let raw = error.source()?.downcast_ref::<RawError>()?;
    if raw.error_code != 0 {
        return Some((raw.error_code, raw.message.clone()));
    }
    // "HTTP request to schema registry failed with status 404 Not Found"
    let status = error.error.rsplit_once("status ")?.1.split(' ').next()?;
    Some((status.parse().ok()?, raw.message.clone()))
}

/// Whether a code (HTTP status, or status and two digits) lays the fault on the registry, or asks for patience.
fn server_fault(code: u32) -> bool {
    let status = if code >= 1000 { code / 100 } else { code };
    status >= 500 || status == 429 || status == 408
}
