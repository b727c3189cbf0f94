//! Connections by hand, for what no well-behaved client does: many, slow, half-finished.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::Arc;

use psfca::clock::SystemClock;
use psfca::tls::client_config;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::{Ca, Host, PATIENCE};

/// A TLS connection.
pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A request that everyone may make.
pub const GET: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A TCP connection on which no read hangs for ever.
pub fn tcp(ca: &Ca) -> TcpStream {
    tcp_from(ca, Ipv4Addr::LOCALHOST)
}

/// The same, from another of this machine's addresses.
pub fn tcp_from(ca: &Ca, from: Ipv4Addr) -> TcpStream {
    connect_from(from, ca.address())
}

/// The same, to the port of any address of this machine.
pub fn connect_from(from: Ipv4Addr, address: &str) -> TcpStream {
    let port = address.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    // The standard library cannot choose the address from which it connects.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddrV4::new(from, 0).into()).unwrap();
        socket.connect(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into()).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// How a client of `ca` connects: as `host`, or as nobody.
pub fn client(ca: &Ca, host: Option<&Host>) -> Arc<ClientConfig> {
    let root = CertificateDer::from_pem_file(ca.trust_bundle()).unwrap();
    let identity = host.map(|host| {
        let file = host.identity();
        let chain = CertificateDer::pem_file_iter(&file).unwrap().map(Result::unwrap).collect();
        (chain, PrivateKeyDer::from_pem_file(&file).unwrap())
    });
    client_config(&[root], identity, Arc::new(SystemClock)).unwrap()
}

/// Shakes hands on `tcp`.
pub fn handshake(tcp: TcpStream, client: &Arc<ClientConfig>) -> Tls {
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(client), name).unwrap(), tcp);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    stream
}

/// A TLS connection without an identity whose handshake is done.
pub fn tls(ca: &Ca) -> Tls {
    handshake(tcp(ca), &client(ca, None))
}

/// A TLS connection of `host` whose handshake is done, and a request with it: with TLS 1.3 only the answer says that
/// the identity was taken.
pub fn tls_as(ca: &Ca, host: &Host) -> Tls {
    let mut stream = handshake(tcp(ca), &client(ca, Some(host)));
    assert!(is_served(&mut stream));
    stream
}

/// Everything until the other side closes, which it must; a reset closes as well.
pub fn read_all(stream: &mut impl std::io::Read) -> String {
    let mut text = Vec::new();
    match stream.read_to_end(&mut text) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("the daemon keeps the connection open: {}", String::from_utf8_lossy(&text))
        }
        _ => String::from_utf8_lossy(&text).into_owned(),
    }
}

/// One request on a connection that stays open: the whole answer, or none where the daemon has closed.
pub fn exchange(stream: &mut Tls, request: &[u8]) -> Option<String> {
    stream.write_all(request).and_then(|()| stream.flush()).ok()?;
    let mut answer = Vec::new();
    let mut part = [0; 4_096];
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0_usize) {
                return Some(text);
            }
        }
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return None,
            Ok(read) => answer.extend_from_slice(&part[..read]),
        }
    }
}

/// Whether a request is served on a connection that stays open.
pub fn is_served(stream: &mut Tls) -> bool {
    exchange(stream, GET.as_bytes()).is_some_and(|answer| answer.starts_with("HTTP/1.1 200 OK"))
}

/// Begins a request of `stream`'s host and leaves it unfinished.
pub fn begin_request(stream: &mut Tls) {
    let head = "POST /v1/certs/postgresql.psf.io HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n-";
    stream.write_all(head.as_bytes()).and_then(|()| stream.flush()).unwrap();
}
