//! The HTTP server of a process: `/livez`, `/readyz`, `/metrics`.
//!
//! It must answer while the services are busy or drain, and must not be a way to hurt them: connections
//! are bounded in number, in time, and in the size of their headers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use crate::host::Services;
use crate::process::Process;

/// Prometheus, the kubelet and a person or two hold one connection each.
const CONNECTIONS: usize = 64;
/// A client sends its request's header within this time.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// Clients that keep a connection open are asked to connect again after this time.
const CONNECTION_TIME: Duration = Duration::from_secs(300);
const PLAIN: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Binds `address` now, so that a port in use is an error at start.
pub(crate) async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers probes until the runtime ends.
pub(crate) async fn serve(listener: TcpListener, services: Arc<Services>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Most often no free descriptor: accepting again at once would spin.
                debug!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let services = Arc::clone(&services);
        connections.spawn(async move {
            let answer = service_fn(move |request| {
                let services = Arc::clone(&services);
                async move { Ok::<_, Infallible>(answer(&request, &services)) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIME)
                .max_buf_size(16 << 10)
                .serve_connection(TokioIo::new(stream), answer);
            if let Ok(Err(error)) = timeout(CONNECTION_TIME, connection).await {
                debug!(%error, "connection of a probe ended");
            }
            drop(slot);
        });
    }
}

fn answer(request: &Request<Incoming>, services: &Services) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return respond(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD\n".to_owned());
    }
    match request.uri().path() {
        "/livez" => respond(StatusCode::OK, PLAIN, "alive\n".to_owned()),
        "/readyz" => ready(services),
        "/metrics" => metrics(services),
        _ => respond(StatusCode::NOT_FOUND, PLAIN, "there are /livez, /readyz and /metrics\n".to_owned()),
    }
}

fn ready(services: &Services) -> Response<Full<Bytes>> {
    let mut reasons = String::new();
    for service in services.list() {
        for reason in service.unready() {
            reasons.push_str(&format!("{}: {reason}\n", service.name()));
        }
    }
    if reasons.is_empty() {
        return respond(StatusCode::OK, PLAIN, "ready\n".to_owned());
    }
    respond(StatusCode::SERVICE_UNAVAILABLE, PLAIN, reasons)
}

fn metrics(services: &Services) -> Response<Full<Bytes>> {
    let mut body = String::new();
    let mut process = Registry::default();
    process.register_collector(Box::new(Process));
    let encoded = text::encode_registry(&mut body, &process);
    let encoded = encoded.and_then(|()| {
        services.list().iter().try_for_each(|it| text::encode_registry(&mut body, &it.registry()))
    });
    match encoded.and_then(|()| text::encode_eof(&mut body)) {
        Ok(()) => respond(StatusCode::OK, OPEN_METRICS, body),
        Err(error) => {
            respond(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("encoding metrics: {error}\n"))
        }
    }
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
