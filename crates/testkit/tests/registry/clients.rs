//! Our own client, as the services use it.

use std::collections::BTreeSet;

use telltale_kafka::RegistryError;
use telltale_records::schema;
use telltale_testkit::wait_until;

use crate::{A, B, World, record};

/// Asks again while the registry is too slow for the client's patience, as services do.
fn asked<T>(mut ask: impl FnMut() -> Result<T, RegistryError>) -> Result<T, RegistryError> {
    let mut last = None;
    wait_until("the registry answers in time", || {
        let answer = ask();
        let answered = !matches!(&answer, Err(RegistryError::Passing { .. }));
        last = Some(answer);
        answered
    });
    last.unwrap()
}

#[test]
fn our_client_registers_finds_and_understands_refusals() {
    let world = World::start();
    let registry = world.engines.registry();
    let subject = format!("{}/with slash-value", world.subject);
    let id = asked(|| registry.register(&subject, schema::CLEAN)).unwrap();
    assert_eq!(asked(|| registry.register(&subject, schema::CLEAN)).unwrap(), id);
    assert_eq!(asked(|| registry.latest(&subject)).unwrap().0, id);
    let mut versions = BTreeSet::new();
    asked(|| registry.versions(&subject, &mut versions)).unwrap();
    assert_eq!(versions, BTreeSet::from([(1, id)]));
    // Another client, without anything in memory.
    asked(|| world.engines.registry().schema(id)).unwrap();

    let error = asked(|| registry.schema(2_147_483_000)).unwrap_err();
    assert!(matches!(error, RegistryError::UnknownId { .. }) && !error.is_passing(), "{error}");
    let error = asked(|| registry.latest(&world.engines.name("unknown"))).unwrap_err();
    assert!(matches!(error, RegistryError::UnknownSubject { .. }), "{error}");
    asked(|| registry.register(&world.subject, &record(&world.subject, A))).unwrap();
    let next = record(&world.subject, &format!("{A},{B}"));
    let error = asked(|| registry.register(&world.subject, &next)).unwrap_err();
    assert!(matches!(error, RegistryError::Incompatible { code: 409, .. }), "{error}");
    let error = asked(|| registry.register(&world.subject, "{")).unwrap_err();
    assert!(matches!(error, RegistryError::Incompatible { .. }) && !error.is_passing(), "{error}");
}
