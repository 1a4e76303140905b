//! The paths of the REST API.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::compatibility::Level;
use super::journal::Mode;
use super::request::{Body, Refusal, SchemaBody, answer};
use super::store::{Found, Store, Which};

type Shared = State<Arc<Mutex<Store>>>;
type Answer = Result<Response, Refusal>;

/// What requests ask for behind the question mark; unknown questions are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Ask {
    #[serde(deserialize_with = "flag")]
    deleted: bool,
    #[serde(deserialize_with = "flag")]
    permanent: bool,
    #[serde(deserialize_with = "flag")]
    verbose: bool,
    #[serde(deserialize_with = "flag")]
    default_to_global: bool,
    subject_prefix: String,
}

/// Whether the text is `true` in any case: the Python client writes `True`.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(String::deserialize(deserializer)?.eq_ignore_ascii_case("true"))
}

/// Serves `store`.
pub(super) fn router(store: Store) -> Router {
    Router::new()
        .route("/", get(async || answer(json!({}))))
        .route("/schemas", get(schemas))
        .route("/schemas/types", get(async || answer(json!(["AVRO"]))))
        .route("/schemas/ids/{id}", get(schema))
        .route("/schemas/ids/{id}/schema", get(schema_text))
        .route("/schemas/ids/{id}/subjects", get(schema_subjects))
        .route("/schemas/ids/{id}/versions", get(schema_versions))
        .route("/subjects", get(subjects))
        .route("/subjects/{subject}", post(look_up).delete(delete_subject))
        .route("/subjects/{subject}/versions", get(versions).post(register))
        .route("/subjects/{subject}/versions/{version}", get(version).delete(delete_version))
        .route("/subjects/{subject}/versions/{version}/schema", get(version_text))
        .route("/subjects/{subject}/versions/{version}/referencedby", get(referenced_by))
        .route("/compatibility/subjects/{subject}/versions", post(check_all))
        .route("/compatibility/subjects/{subject}/versions/{version}", post(check_one))
        .route("/config", get(level).put(set_level).delete(remove_level))
        .route("/config/{subject}", get(level).put(set_level).delete(remove_level))
        .route("/mode", get(mode).put(set_mode).delete(remove_mode))
        .route("/mode/{subject}", get(mode).put(set_mode).delete(remove_mode))
        .fallback(async || Refusal::NoPath)
        .method_not_allowed_fallback(async || Refusal::NoMethod)
        .with_state(Arc::new(Mutex::new(store)))
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn subjects(State(store): Shared, Query(ask): Query<Ask>) -> Answer {
    let store = lock(&store);
    let names = store.subjects(ask.deleted);
    let names: Vec<_> = names.into_iter().filter(|it| it.starts_with(&ask.subject_prefix)).collect();
    Ok(answer(json!(names)))
}

async fn schemas(State(store): Shared, Query(ask): Query<Ask>) -> Answer {
    let store = lock(&store);
    let mut all = Vec::new();
    for subject in store.subjects(ask.deleted).into_iter().filter(|it| it.starts_with(&ask.subject_prefix)) {
        for number in store.versions(subject, ask.deleted)? {
            all.push(whole(&store.version(subject, Which::Number(number), ask.deleted)?));
        }
    }
    Ok(answer(json!(all)))
}

async fn schema(State(store): Shared, Path(id): Path<String>) -> Answer {
    let store = lock(&store);
    let (_, text) = store.schema(&id)?;
    Ok(answer(json!({ "schema": text })))
}

async fn schema_text(State(store): Shared, Path(id): Path<String>) -> Answer {
    let store = lock(&store);
    raw(store.schema(&id)?.1)
}

async fn schema_subjects(State(store): Shared, Path(id): Path<String>, Query(ask): Query<Ask>) -> Answer {
    let store = lock(&store);
    let (id, _) = store.schema(&id)?;
    let mut names: Vec<_> = store.uses(id, ask.deleted).into_iter().map(|(name, _)| name).collect();
    names.dedup();
    Ok(answer(json!(names)))
}

async fn schema_versions(State(store): Shared, Path(id): Path<String>, Query(ask): Query<Ask>) -> Answer {
    let store = lock(&store);
    let (id, _) = store.schema(&id)?;
    let uses = store.uses(id, ask.deleted);
    let uses: Vec<_> = uses.iter().map(|(name, it)| json!({ "subject": name, "version": it })).collect();
    Ok(answer(json!(uses)))
}

async fn versions(State(store): Shared, Path(subject): Path<String>, Query(ask): Query<Ask>) -> Answer {
    Ok(answer(json!(lock(&store).versions(&subject, ask.deleted)?)))
}

async fn register(State(store): Shared, Path(subject): Path<String>, Body(body): Body<SchemaBody>) -> Answer {
    let id = lock(&store).register(&subject, body.text()?)?;
    Ok(answer(json!({ "id": id })))
}

async fn look_up(
    State(store): Shared,
    Path(subject): Path<String>,
    Query(ask): Query<Ask>,
    Body(body): Body<SchemaBody>,
) -> Answer {
    let store = lock(&store);
    Ok(answer(whole(&store.look_up(&subject, body.text()?, ask.deleted)?)))
}

async fn version(
    State(store): Shared,
    Path((subject, which)): Path<(String, String)>,
    Query(ask): Query<Ask>,
) -> Answer {
    let store = lock(&store);
    Ok(answer(whole(&store.version(&subject, Which::parse(&which)?, ask.deleted)?)))
}

async fn version_text(
    State(store): Shared,
    Path((subject, which)): Path<(String, String)>,
    Query(ask): Query<Ask>,
) -> Answer {
    let store = lock(&store);
    raw(store.version(&subject, Which::parse(&which)?, ask.deleted)?.schema)
}

async fn referenced_by(State(store): Shared, Path((subject, which)): Path<(String, String)>) -> Answer {
    lock(&store).version(&subject, Which::parse(&which)?, false)?;
    Ok(answer(json!([])))
}

async fn delete_subject(State(store): Shared, Path(subject): Path<String>, Query(ask): Query<Ask>) -> Answer {
    Ok(answer(json!(lock(&store).delete_subject(&subject, ask.permanent)?)))
}

async fn delete_version(
    State(store): Shared,
    Path((subject, which)): Path<(String, String)>,
    Query(ask): Query<Ask>,
) -> Answer {
    let which = Which::parse(&which)?;
    Ok(answer(json!(lock(&store).delete_version(&subject, which, ask.permanent)?)))
}

async fn check_all(
    store: Shared,
    Path(subject): Path<String>,
    ask: Query<Ask>,
    Body(body): Body<SchemaBody>,
) -> Answer {
    check(&store, &subject, None, &ask, &body)
}

async fn check_one(
    store: Shared,
    Path((subject, which)): Path<(String, String)>,
    ask: Query<Ask>,
    Body(body): Body<SchemaBody>,
) -> Answer {
    check(&store, &subject, Some(Which::parse(&which)?), &ask, &body)
}

fn check(store: &Shared, subject: &str, which: Option<Which>, ask: &Ask, body: &SchemaBody) -> Answer {
    let conflicts = lock(store).check(subject, which, body.text()?)?;
    let mut result = json!({ "is_compatible": conflicts.is_empty() });
    if ask.verbose {
        result["messages"] = json!(conflicts);
    }
    Ok(answer(result))
}

type Subject = Option<Path<String>>;

#[derive(Debug, Deserialize)]
struct LevelBody {
    compatibility: String,
}

#[derive(Debug, Deserialize)]
struct ModeBody {
    mode: String,
}

async fn level(State(store): Shared, subject: Subject, Query(ask): Query<Ask>) -> Answer {
    let (store, subject) = (lock(&store), name(&subject));
    let own = store.level(subject);
    let level = match (own, subject) {
        (None, Some(subject)) if ask.default_to_global => store.level_of(subject),
        (None, subject) => return Err(Refusal::NoLevel(subject.unwrap_or_default().to_owned())),
        (Some(level), _) => level,
    };
    Ok(answer(json!({ "compatibilityLevel": level })))
}

async fn set_level(State(store): Shared, subject: Subject, Body(body): Body<LevelBody>) -> Answer {
    let level = Level::parse(&body.compatibility).ok_or(Refusal::InvalidLevel)?;
    lock(&store).set_level(name(&subject), Some(level))?;
    Ok(answer(json!({ "compatibility": level })))
}

async fn remove_level(State(store): Shared, subject: Subject) -> Answer {
    let (mut store, subject) = (lock(&store), name(&subject));
    let old = store.level(subject);
    let old = old.ok_or_else(|| Refusal::NoLevel(subject.unwrap_or_default().to_owned()))?;
    store.set_level(subject, None)?;
    Ok(answer(json!({ "compatibilityLevel": old })))
}

async fn mode(State(store): Shared, subject: Subject, Query(ask): Query<Ask>) -> Answer {
    let (store, subject) = (lock(&store), name(&subject));
    let mode = match (store.mode(subject), subject) {
        (None, Some(subject)) if ask.default_to_global => store.mode_of(subject),
        (None, subject) => return Err(Refusal::NoMode(subject.unwrap_or_default().to_owned())),
        (Some(mode), _) => mode,
    };
    Ok(answer(json!({ "mode": mode })))
}

async fn set_mode(State(store): Shared, subject: Subject, Body(body): Body<ModeBody>) -> Answer {
    let mode = Mode::parse(&body.mode).ok_or(Refusal::InvalidMode)?;
    lock(&store).set_mode(name(&subject), Some(mode))?;
    Ok(answer(json!({ "mode": mode })))
}

async fn remove_mode(State(store): Shared, subject: Subject) -> Answer {
    let (mut store, subject) = (lock(&store), name(&subject));
    let old = store.mode(subject);
    let old = old.ok_or_else(|| Refusal::NoMode(subject.unwrap_or_default().to_owned()))?;
    store.set_mode(subject, None)?;
    Ok(answer(json!({ "mode": old })))
}

fn name(subject: &Subject) -> Option<&str> {
    subject.as_ref().map(|it| it.0.as_str())
}

fn whole(found: &Found<'_>) -> serde_json::Value {
    let Found { subject, version, id, schema } = found;
    json!({ "subject": subject, "version": version, "id": id, "schema": schema })
}

/// The schema itself, not as text within JSON.
fn raw(text: &str) -> Answer {
    let value = serde_json::from_str(text).map_err(|it| Refusal::InvalidSchema(it.to_string()))?;
    Ok(answer(value))
}
