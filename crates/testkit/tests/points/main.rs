//! The loop of our stream services while its talk with Kafka is disturbed at every step: nothing lost, nothing doubled.

mod calls;
mod copying;
mod torn;
