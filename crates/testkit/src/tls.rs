//! Certificates made for a test, and a TLS front for an engine that speaks plain text.
//!
//! ```text
//! client ══ TLS ══▶ Front (certificate of an Authority) ── TCP ──▶ engine
//! ```

use std::net::SocketAddr;

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name, X509NameBuilder, X509NameRef};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// What a certificate is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// This machine, today.
    Valid,
    /// This machine, until yesterday.
    Expired,
    /// Another host.
    OtherHost,
}

/// Vouches for certificates; nobody trusts it who is not given its own.
#[derive(Debug)]
pub struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Identity(native_tls::Identity);

impl Authority {
    /// Makes an authority.
    ///
    /// # Panics
    ///
    /// Panics when OpenSSL cannot.
    #[must_use]
    pub fn new() -> Self {
        let key = key();
        // Of two with one name a client would try the key of the one it knows on what the other has signed.
        let own =
            name(&format!("test authority {}", random().to_hex_str().expect("a number can be written")));
        let mut builder = builder(&own, &key, -1, 1);
        let limits = BasicConstraints::new().critical().ca().build().expect("OpenSSL knows the extension");
        builder.append_extension(limits).expect("OpenSSL takes the extension");
        builder.set_issuer_name(&own).expect("OpenSSL takes the name");
        builder.sign(&key, MessageDigest::sha256()).expect("OpenSSL signs");
        Self { certificate: builder.build(), key }
    }

    /// The authority that `make up SECURITY=on` made.
    ///
    /// # Panics
    ///
    /// Panics when its files cannot be read.
    #[must_use]
    pub fn load(certificate: &std::path::Path, key: &std::path::Path) -> Self {
        let read = |path| std::fs::read(path).expect("the authority's files can be read");
        let certificate = X509::from_pem(&read(certificate)).expect("the authority's certificate is PEM");
        let key = PKey::private_key_from_pem(&read(key)).expect("the authority's key is PEM");
        Self { certificate, key }
    }

    /// Its certificate, as our settings take it.
    ///
    /// # Panics
    ///
    /// Panics when OpenSSL cannot write it.
    #[must_use]
    pub fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().expect("a certificate can be written")
    }

    /// Makes a certificate.
    ///
    /// # Panics
    ///
    /// Panics when OpenSSL cannot.
    #[must_use]
    pub fn issue(&self, certificate: Certificate) -> Identity {
        let own = key();
        let (from, to) = if certificate == Certificate::Expired { (-2, -1) } else { (-1, 1) };
        let mut builder = builder(&name("engine"), &own, from, to);
        let mut names = SubjectAlternativeName::new();
        match certificate {
            Certificate::OtherHost => names.dns("elsewhere.example"),
            Certificate::Valid | Certificate::Expired => names.dns("localhost").ip("127.0.0.1"),
        };
        let context = builder.x509v3_context(Some(&self.certificate), None);
        let names = names.build(&context).expect("OpenSSL knows the extension");
        builder.append_extension(names).expect("OpenSSL takes the extension");
        builder.set_issuer_name(self.certificate.subject_name()).expect("OpenSSL takes the name");
        builder.sign(&self.key, MessageDigest::sha256()).expect("OpenSSL signs");
        let pem = builder.build().to_pem().expect("a certificate can be written");
        let key = own.private_key_to_pem_pkcs8().expect("a key can be written");
        Identity(native_tls::Identity::from_pkcs8(&pem, &key).expect("certificate and key belong together"))
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn key() -> PKey<Private> {
    let key = Rsa::generate(2048).and_then(PKey::from_rsa);
    key.expect("OpenSSL makes keys")
}

/// A number that no other certificate has.
fn random() -> BigNum {
    let mut number = BigNum::new().expect("OpenSSL makes numbers");
    number.rand(127, MsbOption::MAYBE_ZERO, false).expect("OpenSSL draws numbers");
    number
}

fn name(text: &str) -> X509Name {
    let mut name = X509NameBuilder::new().expect("OpenSSL makes names");
    name.append_entry_by_text("CN", text).expect("OpenSSL takes the name");
    name.build()
}

/// A certificate that is valid from and to so many days from now.
fn builder(subject: &X509NameRef, key: &PKey<Private>, from_days: i64, to_days: i64) -> X509Builder {
    #[expect(clippy::disallowed_methods, reason = "certificates are checked against the wall clock")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    let now = i64::try_from(now.as_secs()).expect("seconds since 1970 fit");
    let day = |days: i64| Asn1Time::from_unix(now + days * 86_400).expect("a time of our century");
    let serial = Asn1Integer::from_bn(&random()).expect("the number fits");
    let mut builder = X509::builder().expect("OpenSSL makes certificates");
    let set = builder
        .set_version(2)
        .and_then(|()| builder.set_serial_number(&serial))
        .and_then(|()| builder.set_subject_name(subject))
        .and_then(|()| builder.set_pubkey(key))
        .and_then(|()| builder.set_not_before(&day(from_days)))
        .and_then(|()| builder.set_not_after(&day(to_days)));
    set.expect("OpenSSL takes what a certificate says");
    builder
}

/// Speaks TLS to clients and plain text to an engine; ends when it is dropped.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Front {
    /// Listens on a free port of this machine and passes on to `engine`; without one, a client gets the handshake only.
    ///
    /// # Panics
    ///
    /// Panics when the system gives no port or thread.
    #[must_use]
    pub fn start(identity: &Identity, engine: Option<SocketAddr>) -> Self {
        let acceptor = native_tls::TlsAcceptor::new(identity.0.clone()).expect("OpenSSL takes the identity");
        let acceptor = tokio_native_tls::TlsAcceptor::from(acceptor);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("the system gives a thread");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("the system gives a port");
        let address = listener.local_addr().expect("a listener has an address");
        runtime.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                clients.spawn(async move {
                    // What fails here, the client under test sees.
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let Some(engine) = engine else { return };
                    let Ok(mut engine) = TcpStream::connect(engine).await else { return };
                    let _bytes = tokio::io::copy_bidirectional(&mut client, &mut engine).await;
                });
            }
        });
        Self { address, _runtime: runtime }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
