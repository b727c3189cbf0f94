//! The asking side of a connection: as little work as possible, so that one core is enough to keep the daemon's busy.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use psfca::wire::{PEM_CHAIN, PKCS10};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::fleet::Host;

/// A connection that stays open.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

/// What the daemon answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a header, whose name is in lower case as the daemon writes it.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

impl Connection {
    /// A new connection with a full handshake, in which `host` shows its identity.
    pub(crate) async fn open(host: &Host, port: u16) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddrV4::new(host.address, 0).into())?;
        let tcp = socket.connect(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into()).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::clone(&host.tls)).connect(name, tcp).await?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// One request and its whole answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        self.buffer.clear();
        let end = loop {
            self.read().await?;
            if let Some(end) = self.buffer.windows(4).position(|part| part == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8(self.buffer[..end].to_vec()).map_err(io::Error::other)?;
        let status = head.get(9..12).and_then(|status| status.parse().ok()).ok_or_else(|| malformed(&head))?;
        let length: usize =
            header(&head, "content-length").and_then(|length| length.parse().ok()).ok_or_else(|| malformed(&head))?;
        while self.buffer.len() < end + length {
            self.read().await?;
        }
        Ok(Answer { status, head, body: self.buffer[end..end + length].to_vec() })
    }

    async fn read(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Ends the connection as a client does that has all it wanted.
    pub(crate) async fn close(mut self) {
        let _ = self.stream.shutdown().await;
    }
}

fn malformed(head: &str) -> io::Error {
    io::Error::other(format!("no answer of this daemon: {head}"))
}

/// A request for what needs no body.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nuser-agent: load\r\n\r\n").into_bytes()
}

/// Asks for `name`, as the agent would: with a request of the host's own, or for a bundle.
pub(crate) fn post(name: &str, csr: Option<&str>) -> Vec<u8> {
    let (kind, body) = match csr {
        Some(csr) => (format!("content-type: {PKCS10}\r\n"), csr),
        None => (String::new(), ""),
    };
    format!(
        "POST /v1/certs/{name} HTTP/1.1\r\nhost: localhost\r\nuser-agent: load\r\n{kind}accept: {PEM_CHAIN}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// How a host connects that has this identity: TLS 1.3 without resumption, as the agent does.
pub(crate) fn client(chain_pem: &str, key: Vec<u8>) -> Arc<ClientConfig> {
    let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified))
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// Takes any server for the daemon: to verify it costs as much as its own side of the handshake, and the one core of
/// whatever asks has to keep up.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
