//! Fills topics with readings of a given number of cars and of a given size.

use std::num::NonZeroU32;

use anyhow::{Result, ensure};
use telltale_kafka::producer::NewRecord;
use telltale_testkit::Writer;

use crate::filled::Filled;
use crate::load::{Fleet, Readings, now_ms};
use crate::place::{PLAIN, Place};

/// What a reading's text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// As cars send it, some 540 bytes.
    AsSent,
    /// The same with a field that nobody asked for, which fills it up to so many bytes.
    Padded(usize),
    /// Two sensors, the car and the time: some 100 bytes.
    Small,
}

/// Makes the texts of readings.
struct Texts {
    readings: Readings,
    shape: Shape,
}

impl Texts {
    fn make(&mut self, number: u64, time_ms: i64) -> (String, Vec<u8>) {
        let (car, text) = self.readings.make(number, time_ms);
        let text = match self.shape {
            Shape::AsSent => text,
            Shape::Padded(bytes) => padded(text, bytes),
            Shape::Small => small(&car, number, time_ms),
        };
        (car, text)
    }
}

/// The same object with one field more.
fn padded(text: Vec<u8>, bytes: usize) -> Vec<u8> {
    const FIELD: [&[u8]; 2] = [b"{\"remark\":\"", b"\","];
    let around: usize = FIELD.iter().map(|it| it.len()).sum::<usize>() - 1;
    let Some(room) = bytes.checked_sub(text.len() + around) else { return text };
    [FIELD[0], &b"x".repeat(room), FIELD[1], &text[1..]].concat()
}

fn small(car: &str, number: u64, time_ms: i64) -> Vec<u8> {
    let (coolant, speed) = (70.0 + (number % 251) as f64 / 7.0, (number % 1301) as f64 / 11.0);
    let text =
        format!(r#"{{"coolant_temp":{coolant:.3},"speed":{speed:.3},"car":"{car}","event_time":{time_ms}}}"#);
    text.into_bytes()
}

/// Fills a topic of its own with `place.settings.readings` of `cars`, each car one a second, and with the partitions of the settings.
pub(super) fn fill(place: &mut Place, name: &str, cars: NonZeroU32, shape: Shape) -> Result<Filled> {
    let topic = place.topic(name, PLAIN)?;
    write(place, &topic, cars, shape)?;
    let filled = Filled::count(&place.kafka, &topic, &place.stop)?;
    let messages = place.settings.readings;
    ensure!(filled.records == messages, "{} of {messages} readings are in the topic", filled.records);
    Ok(filled)
}

/// Writes `place.settings.readings` to a topic.
pub(super) fn write(place: &Place, topic: &str, cars: NonZeroU32, shape: Shape) -> Result<()> {
    let (messages, seed) = (place.settings.readings, place.settings.seed);
    let readings = Readings::new(&Fleet { cars, seed, messages, rate: None })?;
    let mut texts = Texts { readings, shape };
    let second = |number: u64| i64::try_from(number / u64::from(cars.get())).unwrap_or(0);
    // The last ones are of now: a clean reading of the future would be none.
    let first_ms = now_ms() - 1000 * (second(messages) + 1);
    let writer = Writer::new(&place.kafka);
    for number in 0..messages {
        let time_ms = first_ms + 1000 * second(number);
        let (car, value) = texts.make(number, time_ms);
        let (key, value, timestamp_ms) = (Some(car.as_bytes()), Some(&value[..]), Some(time_ms));
        writer.send(NewRecord { topic, key, value, timestamp_ms, ..NewRecord::default() });
        ensure!(number % 10_000 != 0 || !place.stop.is_cancelled(), "stopped");
    }
    writer.flush();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_the_size_that_is_asked_for_and_say_the_same() {
        let fleet = Fleet { cars: NonZeroU32::MIN, seed: 1, messages: 9, rate: None };
        let of =
            |shape| Texts { readings: Readings::new(&fleet).unwrap(), shape }.make(0, 1_700_000_000_000).1;
        let parsed = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).unwrap();
        let plain = parsed(&of(Shape::AsSent));
        for bytes in [2_000, 10_000] {
            let text = of(Shape::Padded(bytes));
            let mut value = parsed(&text);
            assert_eq!(text.len(), bytes);
            value.as_object_mut().unwrap().remove("remark").unwrap();
            assert_eq!(value, plain);
        }
        assert_eq!(parsed(&of(Shape::Padded(10))), plain, "what is longer already stays");
        let small = of(Shape::Small);
        assert!((80..=110).contains(&small.len()), "{}", small.len());
        assert_eq!(parsed(&small)["car"], plain["car"]);
    }
}
