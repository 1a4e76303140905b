//! Runs the development log alone, to try any Kafka client against it: `log [PORT] [DATA FOLDER]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use telltale_embedded::log::{Error, Log, LogConfig};

fn main() -> Result<(), Error> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().and_then(|it| it.parse().ok()).unwrap_or(9092);
    let mut config = LogConfig::default();
    config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    config.data = arguments.next().map(PathBuf::from);
    config.auto_create_topics = true;
    let log = Log::start(config)?;
    println!("serving Kafka clients on {}; end with Ctrl-C", log.addr());
    loop {
        std::thread::park();
    }
}
