//! Which schema ids belong to a subject: what schema_registry_converter does not ask for.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use reqwest::blocking::Client;
use schema_registry_converter::error::SRCError;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Registry, RegistryError, server_fault};

/// How subjects are asked for.
pub(super) struct Subjects {
    pub(super) client: Client,
    /// User and password, where the registry asks for them.
    pub(super) user: Option<(String, Option<String>)>,
}

#[derive(Deserialize)]
struct Version {
    id: u32,
}

#[derive(Deserialize)]
struct Refusal {
    error_code: u32,
    message: String,
}

impl Registry {
    /// The ids of every schema that is registered under `subject`; none where there is no such subject.
    ///
    /// `known` are pairs of version and id that were found before; versions among them are not asked for again.
    ///
    /// # Errors
    ///
    /// Returns an error when the registry could not be asked.
    pub fn versions(&self, subject: &str, known: &mut BTreeSet<(u32, u32)>) -> Result<(), RegistryError> {
        let Some(versions) = self.ask::<Vec<u32>>(subject, "versions")? else { return Ok(()) };
        for version in versions {
            if known.iter().any(|(it, _)| *it == version) {
                continue;
            }
            if let Some(found) = self.ask::<Version>(subject, &format!("versions/{version}"))? {
                known.insert((version, found.id));
            }
        }
        Ok(())
    }

    /// The answer about a subject, `None` for "not found".
    fn ask<T: DeserializeOwned>(&self, subject: &str, what: &str) -> Result<Option<T>, RegistryError> {
        let attempt = format!("asking for the {what} of subject {subject}");
        let passing = |error: reqwest::Error| {
            let source = SRCError::retryable_with_cause(error, "the call failed");
            self.unanswered(attempt.clone(), source)
        };
        let mut request =
            self.subjects.client.get(format!("{}/subjects/{}/{what}", self.url, escaped(subject)));
        if let Some((user, password)) = &self.subjects.user {
            request = request.basic_auth(user, password.as_deref());
        }
        let response = request.send().map_err(passing)?;
        let status = response.status();
        if status.is_success() {
            return response.json().map(Some).map_err(passing);
        }
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let code = u32::from(status.as_u16());
        if server_fault(code) {
            let source = SRCError::new(&format!("the registry answered {status}"), None, true);
            return Err(RegistryError::Passing { attempt, url: self.url.clone(), source });
        }
        let said = response.json::<Refusal>().ok();
        let (code, message) = said.map_or((code, String::new()), |it| (it.error_code, it.message));
        Err(self.refused(attempt, code, message))
    }
}

/// A subject as part of a URL's path.
fn escaped(subject: &str) -> String {
    let mut text = String::with_capacity(subject.len());
    for byte in subject.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_one_part_of_the_path() {
        assert_eq!(escaped("sensor-data-value"), "sensor-data-value");
        assert_eq!(escaped("a/b?c=ü"), "a%2Fb%3Fc%3D%C3%BC");
    }
}
