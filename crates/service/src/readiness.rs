//! Whether a service can do its work now, and if not, what it waits for.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tracing::info;

/// The components of a service with the reason why each is not ready, if it is not.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    components: Mutex<BTreeMap<String, Option<String>>>,
}

impl Readiness {
    pub(crate) fn set(&self, service: &str, component: &str, reason: Option<&str>) {
        let mut components = self.components.lock().unwrap_or_else(PoisonError::into_inner);
        if components.get(component).is_some_and(|known| known.as_deref() == reason) {
            return;
        }
        match reason {
            None => info!(service, component, "ready"),
            Some(reason) => info!(service, component, reason, "not ready"),
        }
        components.insert(component.to_owned(), reason.map(str::to_owned));
    }

    /// Why the service is not ready, one `component: reason` each; empty if it is ready.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let components = self.components.lock().unwrap_or_else(PoisonError::into_inner);
        if components.is_empty() {
            return vec!["starting".to_owned()];
        }
        let waiting = components.iter().filter_map(|(name, reason)| Some((name, reason.as_ref()?)));
        waiting.map(|(name, reason)| format!("{name}: {reason}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_ready_when_each_of_its_components_is() {
        let readiness = Readiness::default();
        assert_eq!(readiness.reasons(), ["starting"]);
        readiness.set("scorer", "kafka", None);
        readiness.set("scorer", "model", Some("no model yet"));
        assert_eq!(readiness.reasons(), ["model: no model yet"]);
        readiness.set("scorer", "model", None);
        assert!(readiness.reasons().is_empty());
        readiness.set("scorer", "kafka", Some("no broker answers"));
        assert_eq!(readiness.reasons(), ["kafka: no broker answers"]);
    }
}
