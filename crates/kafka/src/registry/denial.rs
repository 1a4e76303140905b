//! Why the registry and this client do not let each other in, in words that say what to do.

use schema_registry_converter::error::SRCError;

use super::{Registry, RegistryError};
use crate::denial::untrusted;

impl Registry {
    /// The error for the answer of an unknown user (401), or of one without the right (403).
    pub(super) fn refused(&self, attempt: String, code: u32, message: String) -> RegistryError {
        let status = if code >= 1000 { code / 100 } else { code };
        let user = self.subjects.user.as_ref().map_or("of nobody", |(user, _)| user);
        let (problem, hint) = match status {
            401 => {
                (format!("does not let user {user} in"), "check --registry-user and --registry-password-file")
            }
            403 => (format!("does not allow it to user {user}"), "an administrator gives the right"),
            _ => return RegistryError::Refused { attempt, url: self.url.clone(), code, message },
        };
        RegistryError::Denied { attempt, url: self.url.clone(), problem, hint, source: None }
    }

    /// The error of a call that brought no answer, or one that lays the fault on the registry.
    pub(super) fn unanswered(&self, attempt: String, source: SRCError) -> RegistryError {
        let url = self.url.clone();
        let Some(complaint) = untrusted(&source) else {
            return RegistryError::Passing { attempt, url, source };
        };
        RegistryError::Denied {
            attempt,
            url,
            problem: format!("does not show a certificate that is trusted{complaint}"),
            hint: "check --registry-ca, and that the certificate is for the host in --registry and has not expired",
            source: Some(source),
        }
    }
}
