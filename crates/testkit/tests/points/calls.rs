//! Every call of a transaction, refused, unanswered, cut off, before and after Kafka carried it out.

use std::sync::Mutex;
use std::thread;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use telltale_testkit::gate::{Fault, Gate, Moment, Point};
use telltale_testkit::{Engines, wait_until};
use tokio_util::sync::CancellationToken;

use crate::copying::Case;

/// The requests of a transaction in their order, and an error with which Kafka may refuse each.
const CALLS: [(ApiKey, ResponseError); 6] = [
    (ApiKey::InitProducerId, ResponseError::CoordinatorLoadInProgress),
    (ApiKey::AddPartitionsToTxn, ResponseError::UnknownServerError),
    (ApiKey::Produce, ResponseError::UnknownServerError),
    (ApiKey::AddOffsetsToTxn, ResponseError::UnknownServerError),
    (ApiKey::TxnOffsetCommit, ResponseError::UnknownServerError),
    (ApiKey::EndTxn, ResponseError::UnknownServerError),
];

#[test]
fn a_call_that_fails_in_any_way_loses_and_doubles_nothing() {
    let engines = Engines::with_data();
    let mut cases = Vec::new();
    for (api, error) in CALLS {
        cases.push((api, "refused", Moment::Before, Fault::Refuse(error)));
        cases.push((api, "cut before", Moment::Before, Fault::Cut));
        cases.push((api, "cut during", Moment::During, Fault::Cut));
        cases.push((api, "silent before", Moment::Before, Fault::Silence));
        cases.push((api, "silent during", Moment::During, Fault::Silence));
    }
    // Side by side: most of the time they wait.
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for (number, (api, name, moment, fault)) in cases.into_iter().enumerate() {
            let (engines, results) = (&engines, &results);
            scope.spawn(move || {
                let case = Case::new(engines);
                let gate = Gate::before(&case.kafka);
                // In the midst of the work; a producer begins only once.
                let skip = if api == ApiKey::InitProducerId { 0 } else { 1 };
                gate.arm(Point { api, moment }, skip, fault);
                let restarts = case.beside_our_loop(&gate.kafka(&case.kafka), || {
                    wait_until("the fault strikes", || gate.has_struck());
                    case.wait_until_copied();
                });
                let holds = case.copied() == case.wanted();
                results.lock().unwrap().push((number, api, name, restarts, holds));
            });
        }
    });
    let mut results = results.into_inner().unwrap();
    results.sort_unstable_by_key(|it| it.0);
    println!("{:<20} {:<14} {:>8}  each record once, in order", "call", "fault", "restarts");
    for (_, api, name, restarts, holds) in &results {
        println!(
            "{:<20} {name:<14} {restarts:>8}  {}",
            format!("{api:?}"),
            if *holds { "yes" } else { "NO" }
        );
    }
    assert!(results.iter().all(|it| it.4));
}

#[test]
fn a_loop_ends_when_it_is_asked_to_whichever_call_kafka_went_away_in() {
    let engines = Engines::with_data();
    let loops: Vec<_> = CALLS
        .iter()
        .map(|&(api, _)| {
            let case = Case::new(&engines);
            let gate = Gate::before(&case.kafka);
            let skip = if api == ApiKey::InitProducerId { 0 } else { 1 };
            gate.arm(Point { api, moment: Moment::Before }, skip, Fault::Away);
            let stop = CancellationToken::new();
            let running = case.start(gate.kafka(&case.kafka), stop.clone());
            (api, gate, stop, running)
        })
        .collect();
    for (api, gate, stop, _) in &loops {
        wait_until(&format!("Kafka is away in {api:?}"), || gate.has_struck());
        stop.cancel();
    }
    for (api, _gate, _, running) in loops {
        wait_until(&format!("the loop that was in {api:?} has ended"), || running.is_finished());
        assert_eq!(running.join().unwrap(), Ok(()), "{api:?}");
    }
}
