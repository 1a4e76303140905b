//! To which stage a stack belongs, and whose it is.
//!
//! The innermost function that says it decides: `memcpy` and the allocator belong to whoever calls them. What the kernel does
//! is the kernel's, whoever asked for it.

use crate::stacks::Stack;

/// Whose work a stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// This project's.
    Ours,
    /// librdkafka's, in a call of ours.
    ClientCalled,
    /// librdkafka's, in threads of its own.
    ClientThreads,
    /// rumqttc's and tokio's.
    Runtime,
    /// The kernel's.
    Kernel,
    /// Everything else.
    Rest,
}

impl Owner {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::ClientCalled => "librdkafka, called by us",
            Self::ClientThreads => "librdkafka, its threads",
            Self::Runtime => "rumqttc and tokio",
            Self::Kernel => "kernel",
            Self::Rest => "rest",
        }
    }
}

/// Whose work it is, and which.
pub(crate) type Stage = (Owner, &'static str);

/// Parts of names of functions of ours, and the stage that they are; the first that fits counts. A function of no rule belongs
/// to the stage of its caller.
const OURS: &[(&str, Stage)] = &[
    ("telltale_records::json", (Owner::Ours, "JSON to columns")),
    ("telltale_records::avro::matrix", (Owner::Ours, "Avro to rows of numbers")),
    ("telltale_records::avro::decoder", (Owner::Ours, "Avro to columns")),
    ("telltale_records::avro::encoder", (Owner::Ours, "columns to Avro")),
    ("telltale_records::prediction", (Owner::Ours, "prediction to Avro")),
    ("telltale_records::batch", (Owner::Ours, "record into a batch")),
    ("telltale_records::outgoing", (Owner::Ours, "record into what goes out")),
    ("telltale_records::source", (Owner::Ours, "record into what goes out")),
    ("telltale_preprocessor::sql", (Owner::Ours, "SQL and checks")),
    ("telltale_preprocessor::table", (Owner::Ours, "SQL and checks")),
    ("telltale_preprocessor::windows", (Owner::Ours, "counts of windows")),
    ("telltale_preprocessor::transform", (Owner::Ours, "outcome of each record")),
    ("telltale_preprocessor::decode", (Owner::Ours, "outcome of each record")),
    ("datafusion", (Owner::Ours, "SQL and checks")),
    ("telltale_features", (Owner::Ours, "inputs of the model")),
    ("telltale_model::score", (Owner::Ours, "forward pass and score")),
    ("telltale_model::kernel", (Owner::Ours, "forward pass and score")),
    ("telltale_model::kept", (Owner::Ours, "choice of what is kept")),
    ("telltale_model::trainer::Trainer::feed", (Owner::Ours, "choice of what is kept")),
    ("telltale_model::delivery", (Owner::Ours, "choice of what is kept")),
    ("telltale_model", (Owner::Ours, "learning")),
    ("telltale_scorer::step", (Owner::Ours, "outcome of each record")),
    ("telltale_trainer::read", (Owner::Ours, "rows put together")),
    ("telltale_kafka::transaction", (Owner::Ours, "record to librdkafka")),
    ("telltale_kafka::producer", (Owner::Ours, "record to librdkafka")),
    ("telltale_kafka", (Owner::Ours, "record from librdkafka")),
    ("telltale_mqtt", (Owner::Ours, "MQTT: order of acknowledgements")),
    // rumqttc's way of a packet, from the socket to us, is compiled into the function that asks for the next one.
    ("telltale_bridge::relay::Relay::receive", (Owner::Ours, "receiving, with what of rumqttc is inlined")),
    ("telltale_bridge", (Owner::Ours, "message to record")),
    ("telltale_", (Owner::Ours, "other")),
];

/// A function that runs its caller's work with the CPU's widest instructions.
const OF_ITS_CALLER: &str = "telltale_model::instructions";

/// What names of functions of librdkafka and of its Rust side have in common.
const RDKAFKA: &[&str] = &["rd_kafka_", "rdkafka::", "rd_buf_", "rd_list_", "rd_slice_"];
/// What those have that have to do with what goes out.
const GOES_OUT: &[&str] = &["roduce", "msgset_writer", "transaction", "_txn_", "idemp", "kafka-delivery"];
/// What those have that have to do with what comes in.
const COMES_IN: &[&str] = &["etch", "onsume", "msgset_parse", "msgset_reader", "intake", "Taken", "reader"];

/// The stage of a stack.
pub(crate) fn stage(stack: &Stack) -> Stage {
    if stack.is_in_kernel() {
        return (Owner::Kernel, kernel(stack));
    }
    if stack.thread.starts_with("rdk:") {
        return (Owner::ClientThreads, direction(stack));
    }
    for frame in stack.frames.iter().rev().filter(|it| !it.contains(OF_ITS_CALLER)) {
        if RDKAFKA.iter().any(|it| frame.contains(it)) {
            return (Owner::ClientCalled, direction(stack));
        }
        if let Some((_, stage)) = OURS.iter().find(|(part, _)| frame.contains(part)) {
            return *stage;
        }
        if frame.contains("rumqttc") {
            return (Owner::Runtime, "rumqttc");
        }
        if frame.trim_start_matches('<').starts_with("tokio") {
            return (Owner::Runtime, "tokio");
        }
    }
    match stack.frames.last().map(String::as_str).unwrap_or_default() {
        _ if stack.thread == "kafka-delivery" => (Owner::ClientCalled, "delivery reports"),
        it if it.starts_with("__mem") => {
            (Owner::Rest, "copying and comparing; perf has lost who asked for it")
        }
        _ => (Owner::Rest, "start, probes, stacks that perf has lost"),
    }
}

/// What librdkafka was doing.
fn direction(stack: &Stack) -> &'static str {
    if stack.thread == "kafka-delivery" {
        "delivery reports"
    } else if stack.has(GOES_OUT) {
        "what goes out"
    } else if stack.has(COMES_IN) {
        "what comes in"
    } else {
        "other"
    }
}

/// What the kernel was doing.
fn kernel(stack: &Stack) -> &'static str {
    if stack.has(&["vdso"]) {
        "clock"
    } else if stack.has(&["page_fault", "munmap", "madvise", "mmap", "brk"]) {
        "memory"
    } else if stack.has(&[
        "tcp_", "sock_", "inet_", "unix_", "recvmsg", "sendmsg", "recvfrom", "sendto", "readv", "writev",
    ]) {
        "network"
    } else if stack.has(&["futex", "schedule", "epoll", "do_poll", "nanosleep", "eventfd"]) {
        "waking and waiting"
    } else {
        "other"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(thread: &str, frames: &[&str]) -> Stage {
        let frames = frames.iter().map(|it| (*it).to_owned()).collect();
        stage(&Stack { thread: thread.to_owned(), frames, samples: 1 })
    }

    #[test]
    fn the_innermost_function_that_says_it_decides() {
        let step = "<telltale_scorer::step::Scoring as telltale_kafka::exactly_once::Step>::process";
        let worker = "telltale_kafka::exactly_once::worker::run";
        assert_eq!(of("worker-0", &[worker, step, "memcpy"]), (Owner::Ours, "outcome of each record"));
        assert_eq!(
            of(
                "worker-0",
                &[worker, step, "telltale_model::score::Model::score", "telltale_model::instructions::avx2"]
            ),
            (Owner::Ours, "forward pass and score")
        );
        assert_eq!(of("worker-0", &[worker, "malloc"]), (Owner::Ours, "record from librdkafka"));
        assert_eq!(
            of("tokio-rt-worker", &["telltale_bridge::lane::Lane::work", "<tokio::task::It>::poll"]).0,
            Owner::Runtime
        );
        assert_eq!(of("worker-0", &["start_thread"]).0, Owner::Rest);
    }

    #[test]
    fn the_clients_work_is_told_by_thread_and_direction() {
        let worker = "telltale_kafka::exactly_once::worker::run";
        let cases: [(&str, &[&str], Stage); 6] = [
            ("rdk:broker1", &["rd_kafka_ProduceRequest", "memcpy"], (Owner::ClientThreads, "what goes out")),
            ("rdk:broker1", &["rd_kafka_msgset_reader_v2"], (Owner::ClientThreads, "what comes in")),
            ("rdk:main", &["rd_kafka_q_serve"], (Owner::ClientThreads, "other")),
            (
                "worker-0",
                &[worker, "rd_kafka_consume_batch_queue", "malloc"],
                (Owner::ClientCalled, "what comes in"),
            ),
            (
                "worker-0",
                &[
                    worker,
                    "rdkafka::producer::base_producer::BaseProducer<C,Part>::send",
                    "rd_kafka_msg_new0",
                ],
                (Owner::ClientCalled, "what goes out"),
            ),
            ("kafka-delivery", &["rd_kafka_op_destroy"], (Owner::ClientCalled, "delivery reports")),
        ];
        for (thread, frames, expected) in cases {
            assert_eq!(of(thread, frames), expected, "{thread} {frames:?}");
        }
    }

    #[test]
    fn the_kernel_is_the_kernel_whoever_asked() {
        assert_eq!(
            of("rdk:broker1", &["rd_buf_write", "exc_page_fault_[k]", "clear_page_erms_[k]"]),
            (Owner::Kernel, "memory")
        );
        assert_eq!(of("worker-0", &["tcp_sendmsg_[k]"]), (Owner::Kernel, "network"));
        assert_eq!(of("worker-0", &["do_futex_[k]", "schedule_[k]"]), (Owner::Kernel, "waking and waiting"));
    }
}
