//! A whole process: probes, metrics, signals, exit codes, logs and traces.
//!
//! This test starts itself as a service (`process serve MODE …`), since signals and exit codes belong to
//! processes.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Parser;
use prometheus_client::metrics::counter::Counter;
use telltale_service::Service;

/// Long, since the machine that runs the tests may be busy.
const LIMIT: Duration = Duration::from_secs(60);

/// A service that does as it is told.
#[derive(Debug, Parser)]
struct Config {
    /// What to do
    #[arg(long)]
    mode: String,
}

#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("reading the fleet")]
    Fleet(#[source] std::io::Error),
}

fn serve(config: Config, service: &Service) -> Result<(), Broken> {
    let served: Counter = Counter::default();
    service.registry().register("served", "Requests that were served", served.clone());
    served.inc_by(3);
    service.not_ready("kafka", "no broker answers");
    let shutdown = service.shutdown();
    match config.mode.as_str() {
        "wait" => _ = shutdown.sleep(LIMIT * 10),
        "ready" => {
            tracing::info_span!("work").in_scope(|| tracing::info!("working"));
            service.ready("kafka");
            let _ = shutdown.sleep(LIMIT * 10);
        }
        "done" => {}
        "error" => return Err(Broken::Fleet(std::io::Error::other("no such car"))),
        "panic" => panic!("a broken invariant"),
        "stage" => {
            service.thread::<()>("decode", || panic!("a broken stage"));
            let _ = shutdown.sleep(LIMIT * 10);
        }
        "stuck" => std::thread::sleep(LIMIT * 10),
        other => panic!("unknown mode {other}"),
    }
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if args.iter().any(|it| it == "--mode") {
        return telltale_service::run("probe-me", serve);
    }
    let tests: &[(&str, fn())] = &[
        ("a_signal_drains_and_ends_well", a_signal_drains_and_ends_well),
        ("probes_say_why_a_service_is_not_ready", probes_say_why_a_service_is_not_ready),
        ("metrics_carry_the_service_as_prefix", metrics_carry_the_service_as_prefix),
        ("metrics_say_what_the_process_takes", metrics_say_what_the_process_takes),
        ("a_service_that_is_done_ends_well", a_service_that_is_done_ends_well),
        ("an_error_is_logged_once_with_its_causes", an_error_is_logged_once_with_its_causes),
        ("a_panic_ends_the_process", a_panic_ends_the_process),
        ("a_panic_of_a_stage_ends_the_process", a_panic_of_a_stage_ends_the_process),
        ("a_stuck_service_is_given_up_at_the_deadline", a_stuck_service_is_given_up_at_the_deadline),
        ("a_port_in_use_is_named_with_its_flag", a_port_in_use_is_named_with_its_flag),
        ("a_slow_client_does_not_hold_up_others", a_slow_client_does_not_hold_up_others),
        ("a_wrong_flag_is_explained", a_wrong_flag_is_explained),
        ("traces_go_to_the_collector", traces_go_to_the_collector),
        ("a_dead_collector_does_not_hold_up_the_end", a_dead_collector_does_not_hold_up_the_end),
    ];
    let chosen = args.iter().skip(1).find(|it| !it.starts_with('-'));
    for (name, test) in tests {
        if chosen.is_none_or(|it| name.contains(it.as_str())) {
            test();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

/// A process under test with the lines it logs.
struct Process {
    child: Child,
    log: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Process {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        if !args.contains(&"--http") {
            command.args(["--http", "127.0.0.1:0"]);
        }
        let mut child = command.spawn().unwrap();
        let error = BufReader::new(child.stderr.take().unwrap());
        let (tx, log) = mpsc::sync_channel(10_000);
        std::thread::spawn(move || error.lines().map_while(Result::ok).try_for_each(|line| tx.send(line)));
        Self { child, log, seen: Vec::new() }
    }

    /// Reads the log up to a line that contains `text`, and returns that line.
    fn log_until(&mut self, text: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("{error} while waiting for {text:?} after {:#?}", self.seen),
            }
        }
    }

    fn address(&mut self) -> String {
        let line = self.log_until("serving /livez");
        line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
    }

    fn signal(&self, signal: i32) {
        let id = i32::try_from(self.child.id()).unwrap();
        #[expect(unsafe_code, reason = "kill(2) has no safe form in the standard library")]
        // SAFETY: the child has not been waited for, so the id is its own.
        let sent = unsafe { libc::kill(id, signal) };
        assert_eq!(sent, 0);
    }

    /// Waits for the end of the process and returns its status and its whole log.
    fn end(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + LIMIT;
        while let Ok(line) = self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.seen.push(line);
        }
        assert!(Instant::now() < deadline, "still running after {:#?}", self.seen);
        (self.child.wait().unwrap(), self.seen.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn a_signal_drains_and_ends_well() {
    for (name, signal) in [("SIGTERM", libc::SIGTERM), ("SIGINT", libc::SIGINT)] {
        let mut process = Process::start(&["--mode", "wait"]);
        process.log_until("not ready");
        process.signal(signal);
        let (status, log) = process.end();
        assert!(status.success(), "{log}");
        assert!(log.contains(&format!("signal=\"{name}\"")), "{log}");
        assert!(log.contains("stopped"), "{log}");
    }
}

fn probes_say_why_a_service_is_not_ready() {
    let mut process = Process::start(&["--mode", "wait"]);
    let address = process.address();
    process.log_until("not ready");
    assert_eq!(get(&address, "/livez"), (200, "alive\n".to_owned()));
    assert_eq!(get(&address, "/readyz"), (503, "probe-me: kafka: no broker answers\n".to_owned()));
    assert_eq!(get(&address, "/other").0, 404);
    let mut process = Process::start(&["--mode", "ready"]);
    let address = process.address();
    process.log_until("component=\"kafka\"");
    process.log_until(" ready");
    assert_eq!(get(&address, "/readyz"), (200, "ready\n".to_owned()));
}

fn metrics_carry_the_service_as_prefix() {
    let mut process = Process::start(&["--mode", "wait"]);
    let address = process.address();
    process.log_until("not ready");
    let (status, body) = get(&address, "/metrics");
    assert_eq!(status, 200);
    assert!(body.contains("telltale_probe_me_served_total 3\n"), "{body}");
    assert!(body.ends_with("# EOF\n"), "{body}");
}

fn metrics_say_what_the_process_takes() {
    let mut process = Process::start(&["--mode", "wait"]);
    let address = process.address();
    let (_, body) = get(&address, "/metrics");
    let value = |name: &str| {
        let line = body.lines().find_map(|it| it.strip_prefix(&format!("{name} ")));
        line.and_then(|it| it.parse::<f64>().ok()).unwrap_or_else(|| panic!("{name} is missing:\n{body}"))
    };
    assert!(value("process_cpu_seconds_total") >= 0.0);
    // 2020, and no more than an address space.
    assert!(value("process_start_time_seconds") > 1.577e9);
    let resident = value("process_resident_memory_bytes");
    assert!(resident > 1e6 && value("process_virtual_memory_bytes") >= resident, "{body}");
    assert!(value("process_threads") >= 3.0, "main and two workers");
    // Its three standard streams, a listener and this connection at least.
    assert!((5.0..value("process_max_fds")).contains(&value("process_open_fds")), "{body}");
}

fn a_service_that_is_done_ends_well() {
    let (status, log) = Process::start(&["--mode", "done"]).end();
    assert!(status.success(), "{log}");
}

fn an_error_is_logged_once_with_its_causes() {
    let (status, log) = Process::start(&["--mode", "error", "--log-format", "json"]).end();
    assert_eq!(status.code(), Some(1));
    let text = "\"error\":\"reading the fleet: no such car\"";
    assert_eq!(log.matches("no such car").count(), 1, "{log}");
    assert!(log.contains(text), "{log}");
}

fn a_panic_ends_the_process() {
    let (status, log) = Process::start(&["--mode", "panic"]).end();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("stage probe-me panicked: a broken invariant"), "{log}");
    assert!(log.contains("process.rs"), "the place of the panic is missing: {log}");
}

fn a_panic_of_a_stage_ends_the_process() {
    let (status, log) = Process::start(&["--mode", "stage"]).end();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("stage probe-me-decode panicked: a broken stage"), "{log}");
}

fn a_stuck_service_is_given_up_at_the_deadline() {
    let mut process = Process::start(&["--mode", "stuck", "--drain-timeout", "50ms"]);
    process.log_until("not ready");
    process.signal(libc::SIGTERM);
    let (status, log) = process.end();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("stage probe-me did not end within"), "{log}");
}

fn a_port_in_use_is_named_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, log) = Process::start(&["--mode", "wait", "--http", &address]).end();
    assert_eq!(status.code(), Some(1));
    let text = format!("listening for probes and metrics on {address}; --http chooses another address");
    assert!(log.contains(&text), "{log}");
}

fn a_slow_client_does_not_hold_up_others() {
    let mut process = Process::start(&["--mode", "wait"]);
    let address = process.address();
    process.log_until("not ready");
    let mut slow = TcpStream::connect(&address).unwrap();
    slow.write_all(b"GET /livez HTTP/1.1\r\nHos").unwrap();
    assert_eq!(get(&address, "/livez").0, 200);
    // The server gives the slow one up by itself: it is told so, or its connection is closed.
    slow.set_read_timeout(Some(LIMIT)).unwrap();
    let mut answer = Vec::new();
    if let Err(error) = slow.read_to_end(&mut answer) {
        let kind = error.kind();
        assert!(kind == ErrorKind::ConnectionReset, "the connection stays open: {error}");
    }
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
}

fn a_wrong_flag_is_explained() {
    let (status, log) = Process::start(&["--mode", "wait", "--log-format", "xml"]).end();
    assert_eq!(status.code(), Some(2));
    assert!(log.contains("xml") && log.contains("[possible values: human, json]"), "{log}");
    let (status, log) = Process::start(&["--mode", "wait", "--log", "info,=x=y"]).end();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("(--log)"), "{log}");
}

fn traces_go_to_the_collector() {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", collector.local_addr().unwrap());
    let (tx, requests) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let (mut stream, _) = collector.accept().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
        // The name of the span is the last thing this test needs of the request.
        while !request.windows(4).any(|it| it == b"work") {
            match stream.read(&mut buffer) {
                Ok(read) if read > 0 => request.extend_from_slice(&buffer[..read]),
                _ => break,
            }
        }
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(answer.as_bytes());
        tx.send(String::from_utf8_lossy(&request).into_owned()).unwrap();
    });
    let mut process = Process::start(&["--mode", "ready", "--otlp-endpoint", &url]);
    process.log_until("working");
    process.log_until(" ready");
    process.signal(libc::SIGTERM);
    let request = requests.recv_timeout(LIMIT).unwrap();
    assert!(request.starts_with("POST /v1/traces HTTP/1.1"), "{request}");
    assert!(request.contains("application/x-protobuf"), "{request}");
    assert!(request.contains("telltale-probe-me"), "{request}");
    let (status, log) = process.end();
    assert!(status.success(), "{log}");
}

fn a_dead_collector_does_not_hold_up_the_end() {
    // Bound but never accepted from: connections are made and nothing answers.
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", collector.local_addr().unwrap());
    let mut process = Process::start(&["--mode", "ready", "--otlp-endpoint", &url]);
    process.log_until(" ready");
    process.signal(libc::SIGTERM);
    let (status, log) = process.end();
    assert!(status.success(), "{log}");
}
