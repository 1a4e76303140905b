//! Logs and traces of the process.

use std::error::Error;
use std::io;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::{error, warn};
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::{LogFormat, ProcessConfig};

/// A collector that does not answer must not hold the process back for longer.
const EXPORT_TIME: Duration = Duration::from_secs(5);
/// The libraries of the exporter would trace their own requests, and what the MQTT client warns of is said by
/// the crate that uses it.
const QUIET: &str =
    "hyper=warn,hyper_util=warn,reqwest=warn,opentelemetry=warn,opentelemetry_sdk=error,rumqttc=error";

/// Logs and traces of this process; [`Telemetry::stop`] sends what is left.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

/// Why logs or traces cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The log filter is not one.
    #[error("reading the log filter {filter:?} (--log)")]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The exporter of traces cannot be made.
    #[error("preparing traces to {endpoint} (--otlp-endpoint)")]
    Traces {
        /// The collector's base URL.
        endpoint: String,
        /// What the exporter said.
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// Something else in this process already takes the logs.
    #[error("taking over the logs of the process")]
    Taken(#[source] TryInitError),
}

impl Telemetry {
    /// Starts logs to standard error and, if there is an endpoint, traces.
    ///
    /// # Errors
    ///
    /// Returns an error for a wrong filter or endpoint, and when it was called before in this process.
    pub fn start(name: &'static str, config: &ProcessConfig) -> Result<Self, TelemetryError> {
        Self::start_with(name, config, BoxMakeWriter::new(io::stderr))
    }

    /// Starts logs to `writer` and, if there is an endpoint, traces.
    ///
    /// Must not be called from asynchronous code: the exporter brings a runtime of its own.
    ///
    /// # Errors
    ///
    /// Returns an error for a wrong filter or endpoint, and when it was called before in this process.
    pub fn start_with(
        name: &'static str,
        config: &ProcessConfig,
        writer: BoxMakeWriter,
    ) -> Result<Self, TelemetryError> {
        let filter = filter(&config.log)?;
        let traces = config.otlp_endpoint.as_deref().map(|it| exporter(name, it, config)).transpose()?;
        // A log on a full disk loses lines; said on standard error, which is that log, it would be a panic of whoever logs.
        let format = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
        let format = match config.log_format {
            LogFormat::Human => format.with_target(false).with_ansi(false).boxed(),
            LogFormat::Json => format.json().flatten_event(true).boxed(),
        };
        let layer = traces.as_ref().map(|it| {
            let tracer = it.tracer(name);
            tracing_opentelemetry::layer().with_tracer(tracer)
        });
        let registry = tracing_subscriber::registry().with(filter).with(format).with(layer);
        registry.try_init().map_err(TelemetryError::Taken)?;
        Ok(Self { traces })
    }

    /// Logs each panic, with its place, before it unwinds.
    pub fn log_panics(&self) {
        std::panic::set_hook(Box::new(|panic| {
            let thread = std::thread::current();
            let place = panic.location().map(ToString::to_string);
            let message = panic.payload_as_str().unwrap_or("no message");
            error!(message, place, thread = thread.name(), "panic");
        }));
    }

    /// Sends the traces that are left, within five seconds.
    ///
    /// Must not be called from asynchronous code.
    pub fn stop(self) {
        let Some(traces) = self.traces else { return };
        if let Err(error) = traces.shutdown_with_timeout(EXPORT_TIME) {
            warn!(%error, "the last traces were not sent");
        }
    }
}

fn filter(text: &str) -> Result<EnvFilter, TelemetryError> {
    // A later directive replaces an earlier one for the same target, so the user's win.
    let all = format!("{QUIET},{text}");
    EnvFilter::try_new(all).map_err(|source| TelemetryError::Filter { filter: text.to_owned(), source })
}

fn exporter(
    name: &'static str,
    endpoint: &str,
    config: &ProcessConfig,
) -> Result<SdkTracerProvider, TelemetryError> {
    let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let exporter = SpanExporter::builder().with_http().with_endpoint(url).with_timeout(EXPORT_TIME).build();
    let exporter =
        exporter.map_err(|source| TelemetryError::Traces { endpoint: endpoint.to_owned(), source })?;
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.trace_share.get())));
    let resource = Resource::builder().with_service_name(format!("telltale-{name}")).build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sampler)
        .with_resource(resource)
        .build())
}

/// The messages of `error` and of everything that caused it, from the outside in.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
