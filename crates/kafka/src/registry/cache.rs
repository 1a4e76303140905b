//! What is known of schema ids, and how often ids that nobody knows may be looked up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use telltale_records::schema::{Schema, SchemaError};

use super::RegistryError;

/// Most schemas kept; a fleet has a handful.
const MOST_SCHEMAS: usize = 1000;
/// Most ids remembered as unknown.
const MOST_UNKNOWN: usize = 10_000;
/// How long an id is remembered as unknown.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);
/// Unknown ids looked up without delay, and how many a second after those.
const FREE_LOOKUPS: f64 = 200.0;
const LOOKUPS_PER_SECOND: f64 = 50.0;

#[derive(Debug)]
pub(super) struct Cache {
    schemas: HashMap<u32, Arc<Schema>>,
    unknown: HashMap<u32, (Instant, Verdict)>,
    /// Look-ups of unknown ids that may be made at once; see [`FREE_LOOKUPS`].
    free: f64,
    filled: Instant,
}

/// Why an id has no usable schema.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    Unknown,
    NotAvro(String),
    Unusable(Arc<SchemaError>),
}

impl Cache {
    pub(super) fn new(now: Instant) -> Self {
        let (schemas, unknown) = (HashMap::new(), HashMap::new());
        Self { schemas, unknown, free: FREE_LOOKUPS, filled: now }
    }

    /// What is known of `id` now, if anything is.
    pub(super) fn get(&self, id: u32, now: Instant) -> Option<Result<Arc<Schema>, Verdict>> {
        if let Some(schema) = self.schemas.get(&id) {
            return Some(Ok(Arc::clone(schema)));
        }
        let (since, verdict) = self.unknown.get(&id)?;
        (now.duration_since(*since) < UNKNOWN_FOR).then(|| Err(verdict.clone()))
    }

    /// Takes one look-up out of the allowance; returns how long to wait before it may be made.
    pub(super) fn wait(&mut self, now: Instant) -> Duration {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * LOOKUPS_PER_SECOND;
        self.free = (self.free + gained).min(FREE_LOOKUPS) - 1.0;
        self.filled = now;
        Duration::from_secs_f64((-self.free / LOOKUPS_PER_SECOND).max(0.0))
    }

    /// Keeps a schema; its look-up costs nothing of the allowance.
    pub(super) fn keep(&mut self, id: u32, schema: &Arc<Schema>) {
        self.free = (self.free + 1.0).min(FREE_LOOKUPS);
        if self.schemas.len() >= MOST_SCHEMAS {
            // Which one goes is of no matter: those in use come back with one call each.
            let any = self.schemas.keys().next().copied();
            any.map(|it| self.schemas.remove(&it));
        }
        self.schemas.insert(id, Arc::clone(schema));
    }

    /// Remembers for a while that an id has no usable schema.
    pub(super) fn reject(&mut self, id: u32, verdict: Verdict, now: Instant) {
        if self.unknown.len() >= MOST_UNKNOWN {
            self.unknown.retain(|_, (since, _)| now.duration_since(*since) < UNKNOWN_FOR);
        }
        if self.unknown.len() >= MOST_UNKNOWN {
            self.unknown.clear();
        }
        self.unknown.insert(id, (now, verdict));
    }
}

impl Verdict {
    pub(super) fn error(self, id: u32) -> RegistryError {
        match self {
            Self::Unknown => RegistryError::UnknownId { id },
            Self::NotAvro(kind) => RegistryError::NotAvro { id, kind },
            Self::Unusable(source) => RegistryError::Unusable { id, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_unknown(cache: &Cache, id: u32, now: Instant) -> bool {
        matches!(cache.get(id, now), Some(Err(Verdict::Unknown)))
    }

    #[test]
    fn an_unknown_id_is_asked_for_again_after_a_while() {
        let start = Instant::now();
        let mut cache = Cache::new(start);
        assert!(cache.get(7, start).is_none());
        cache.reject(7, Verdict::Unknown, start);
        assert!(is_unknown(&cache, 7, start + UNKNOWN_FOR - Duration::from_millis(1)));
        assert!(cache.get(7, start + UNKNOWN_FOR).is_none(), "it may have been registered meanwhile");
        let schema = Arc::new(Schema::parse(telltale_records::schema::CLEAN).unwrap());
        cache.keep(7, &schema);
        assert!(matches!(cache.get(7, start), Some(Ok(_))), "a schema never changes");
    }

    #[test]
    fn ids_that_nobody_knows_do_not_fill_the_memory() {
        let start = Instant::now();
        let mut cache = Cache::new(start);
        for id in 0..30_000 {
            cache.reject(id, Verdict::Unknown, start);
            assert!(cache.unknown.len() <= MOST_UNKNOWN);
        }
        let later = start + UNKNOWN_FOR;
        let mut cache = Cache::new(start);
        (0..MOST_UNKNOWN as u32 - 1).for_each(|it| cache.reject(it, Verdict::Unknown, start));
        cache.reject(20_000, Verdict::Unknown, later);
        cache.reject(20_001, Verdict::Unknown, later);
        assert_eq!(cache.unknown.len(), 2, "the old ones go first");
        assert!(is_unknown(&cache, 20_000, later) && is_unknown(&cache, 20_001, later));
    }

    #[test]
    fn look_ups_are_free_at_first_and_then_come_at_a_rate() {
        let start = Instant::now();
        let mut cache = Cache::new(start);
        assert!((0..200).all(|_| cache.wait(start).is_zero()));
        let (first, second) = (cache.wait(start), cache.wait(start));
        assert_eq!((first, second), (Duration::from_millis(20), Duration::from_millis(40)));
        // Ten seconds bring 500, of which 200 are kept.
        let later = start + Duration::from_secs(10);
        assert!((0..200).all(|_| cache.wait(later).is_zero()));
        assert!(!cache.wait(later).is_zero());
        // Ids that exist cost nothing.
        let schema = Arc::new(Schema::parse(telltale_records::schema::CLEAN).unwrap());
        let mut cache = Cache::new(start);
        for id in 0..5000 {
            assert!(cache.wait(start).is_zero());
            cache.keep(id, &schema);
        }
        assert_eq!(cache.schemas.len(), MOST_SCHEMAS);
    }
}
