//! A small HTTP/1.1 client for the host agent and the operator's commands: one connection, kept
//! alive, over TLS or over the admin Unix socket; every wait and every size has a bound.

mod answer;

use std::error::Error as _;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::tls::{self, TlsError};
use crate::token::{ServerAddress, ServerName};
use crate::wire::Problem;

pub use answer::Answer;

/// For name resolution, TCP and the TLS handshake together.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// From sending a request to the last byte of its answer.
const REQUEST_TIME: Duration = Duration::from_secs(60);
/// What to do when the admin socket is closed to this user.
const NOT_AN_OPERATOR: &str = "permission denied: it is for root and the members of admin_group in ca.yaml; \
                               a new member logs in again first";
/// Longest answer that is read from the network.
const MAX_ANSWER: usize = 1 << 20;
/// Longest answer that is read from the admin socket: a tile of 256 entries of full length is 16 MiB.
const MAX_ADMIN_ANSWER: usize = 17 << 20;
/// Longest head of an answer, and how many headers it may have.
const MAX_HEAD: usize = 32 << 10;
const MAX_HEADERS: usize = 64;

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection, or it broke, or the answer took too long. Trying again may help.
    #[error("{server} cannot be reached: {cause}")]
    Unreachable {
        /// Whom we called.
        server: String,
        /// What happened.
        cause: String,
    },
    /// The server did not prove to be who it should be.
    #[error("{server} is not trusted: {cause}")]
    Untrusted {
        /// Whom we called.
        server: String,
        /// What is wrong with its certificate.
        cause: String,
    },
    /// The server does not accept this host's identity certificate.
    #[error(
        "{server} does not accept this host's identity: {cause}; enrol again (psfca enroll) with a new token, made with psfca token HOST --replace"
    )]
    IdentityRefused {
        /// Whom we called.
        server: String,
        /// What it said.
        cause: String,
    },
    /// The server answered with an error and its reason.
    #[error("{}", problem.detail)]
    Refused {
        /// The reason.
        problem: Box<Problem>,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The server answered something that no psfca daemon would.
    #[error("{server} gave an answer that makes no sense: {cause}; is it a psfca daemon?")]
    Malformed {
        /// Whom we called.
        server: String,
        /// What is wrong with the answer.
        cause: String,
    },
    /// The TLS configuration does not fit.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl ClientError {
    /// Whether the CA could not do its work just now, as against having decided.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Untrusted { .. } | Self::Malformed { .. } => true,
            // Somebody between us and the CA redirects.
            Self::Refused { problem, .. } => problem.status >= 500 || problem.status == 429 || problem.status < 400,
            Self::IdentityRefused { .. } | Self::Tls(_) => false,
        }
    }

    /// How long the server asks to be left alone, where it does.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the CA said no to this host or to what it asked for.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        match self {
            Self::Refused { problem, .. } => matches!(problem.status, 401 | 403 | 404 | 409),
            Self::IdentityRefused { .. } => true,
            Self::Unreachable { .. } | Self::Untrusted { .. } | Self::Malformed { .. } | Self::Tls(_) => false,
        }
    }
}

/// One connection to a daemon.
#[derive(Debug)]
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    server: String,
    max_answer: usize,
    // Ends with the client, so no connection outlives its owner.
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    /// Connects over TLS within 10 s; the server's certificate must carry `address.name`.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] or [`ClientError::Untrusted`].
    pub async fn connect_tls(address: &ServerAddress, config: Arc<ClientConfig>) -> Result<Self, ClientError> {
        let server = address.to_string();
        let name = tls::peer_name(&address.name)?;
        let connecting = async {
            let tcp = tcp(address, &server).await?;
            TlsConnector::from(config).connect(name, tcp).await.map_err(|error| broken(&server, &error))
        };
        let stream = bounded(CONNECT_TIME, &server, "connecting", connecting).await?;
        Self::over(stream, address.to_string(), server.clone(), MAX_ANSWER).await
    }

    /// Connects over TCP without TLS, for what is signed in itself, within 10 s.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`].
    pub async fn connect_tcp(address: &ServerAddress) -> Result<Self, ClientError> {
        let server = address.to_string();
        let tcp = bounded(CONNECT_TIME, &server, "connecting", tcp(address, &server)).await?;
        Self::over(tcp, address.to_string(), server.clone(), MAX_ANSWER).await
    }

    /// Connects to a Unix socket.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], with the reason (absent, no permission).
    pub async fn connect_unix(path: &Path) -> Result<Self, ClientError> {
        let server = path.display().to_string();
        let connecting = async {
            UnixStream::connect(path).await.map_err(|error| match error.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    ClientError::Unreachable { server: server.clone(), cause: NOT_AN_OPERATOR.to_owned() }
                }
                _ => broken(&server, &error),
            })
        };
        let stream = bounded(CONNECT_TIME, &server, "connecting", connecting).await?;
        Self::over(stream, "localhost".to_owned(), server.clone(), MAX_ADMIN_ANSWER).await
    }

    async fn over<S>(stream: S, host: String, server: String, max_answer: usize) -> Result<Self, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| from_hyper(&server, &error))?;
        // Its error, if any, reaches the request that is under way.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, host, server, max_answer, driver })
    }

    /// Whether the other side has closed the connection, so that only a new one helps.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends one request and reads the whole answer, whatever its status, within 60 s. An empty
    /// `content_type` or `accept` is left out. `path` begins with `/` and is already encoded.
    ///
    /// # Errors
    /// [`ClientError`] when there is no whole answer of at most 1 MiB (17 MiB on the admin socket).
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        content_type: &str,
        accept: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.host)
            .header(USER_AGENT, concat!("psfca/", env!("CARGO_PKG_VERSION")));
        if !content_type.is_empty() {
            request = request.header(CONTENT_TYPE, content_type);
        }
        if !accept.is_empty() {
            request = request.header(ACCEPT, accept);
        }
        let malformed = |cause: String| ClientError::Malformed { server: self.server.clone(), cause };
        let request = request.body(Full::new(body.into())).map_err(|error| malformed(error.to_string()))?;
        let (server, max_answer) = (self.server.clone(), self.max_answer);
        let exchange = async {
            self.sender.ready().await.map_err(|error| from_hyper(&server, &error))?;
            let answer = self.sender.send_request(request).await.map_err(|error| from_hyper(&server, &error))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, max_answer).collect().await.map_err(|error| {
                match error.downcast_ref::<hyper::Error>() {
                    Some(error) => from_hyper(&server, error),
                    None => ClientError::Malformed {
                        server: server.clone(),
                        cause: format!("more than {max_answer} bytes"),
                    },
                }
            })?;
            let (status, headers) = (head.status, head.headers);
            Ok(Answer { status, headers, body: body.to_bytes(), server: server.clone() })
        };
        bounded(REQUEST_TIME, &server, "waiting for an answer", exchange).await
    }

    /// `GET path`, for JSON.
    ///
    /// # Errors
    /// As [`Client::send`], or [`ClientError::Refused`] when the server answers with a problem.
    pub async fn get_json<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        self.send(Method::GET, path, "", "application/json", Bytes::new()).await?.ok()?.json()
    }
}

async fn tcp(address: &ServerAddress, server: &str) -> Result<TcpStream, ClientError> {
    let tcp = match &address.name {
        ServerName::Dns(name) => TcpStream::connect((name.as_str(), address.port)).await,
        ServerName::Ip(ip) => TcpStream::connect((*ip, address.port)).await,
    };
    let tcp = tcp.map_err(|error| broken(server, &error))?;
    // Requests are single small writes; waiting for more to send only adds latency.
    let _ = tcp.set_nodelay(true);
    Ok(tcp)
}

async fn bounded<T>(
    time: Duration,
    server: &str,
    doing: &str,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    tokio::time::timeout(time, work).await.unwrap_or_else(|_| {
        let cause = format!("{doing} took more than {} s", time.as_secs());
        Err(ClientError::Unreachable { server: server.to_owned(), cause })
    })
}

fn from_hyper(server: &str, error: &hyper::Error) -> ClientError {
    let mut cause = error.source();
    while let Some(inner) = cause.filter(|inner| !inner.is::<std::io::Error>()) {
        cause = inner.source();
    }
    match cause.and_then(|cause| cause.downcast_ref()) {
        Some(io) => broken(server, io),
        None if error.is_parse() => ClientError::Malformed { server: server.to_owned(), cause: error.to_string() },
        None => ClientError::Unreachable { server: server.to_owned(), cause: error.to_string() },
    }
}

/// TLS failures arrive wrapped in I/O errors, in the handshake and (TLS 1.3) with the first read.
fn broken(server: &str, error: &std::io::Error) -> ClientError {
    use rustls::AlertDescription as Alert;
    let server = server.to_owned();
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return ClientError::Unreachable { server, cause: reason(error) };
    };
    let cause = tls::explain(tls);
    match tls {
        rustls::Error::AlertReceived(
            Alert::CertificateExpired
            | Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::CertificateRevoked
            | Alert::CertificateRequired
            | Alert::AccessDenied
            | Alert::DecryptError,
        ) => ClientError::IdentityRefused { server, cause },
        rustls::Error::AlertReceived(_) => ClientError::Unreachable { server, cause },
        _ => ClientError::Untrusted { server, cause },
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "nothing listens there (connection refused)".to_owned(),
        std::io::ErrorKind::NotFound => "there is no such socket; is the daemon running?".to_owned(),
        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset => {
            "it closed the connection".to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
