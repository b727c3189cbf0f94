//! Asks a local service over its own protocol which certificate it serves, and believes what a client with
//! `sslmode=verify-full` would believe: a hook that succeeded is no proof (rule R8).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::AlertDescription;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::ca::bundle::Leaf;
use crate::clock::{Clock, Timestamp};
use crate::name::DnsName;
use crate::serial::Serial;
use crate::text::serde_as_text;
use crate::tls::{self, presented};
use crate::token::{ServerAddress, ServerName as Host};

pub mod preamble;

/// For name resolution, TCP, what comes before TLS, and the handshake together.
const TIME: Duration = Duration::from_secs(5);
/// The pauses between tries: a service that was just told to reload may need a moment. About six seconds in all.
const PAUSES: [Duration; 6] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1_600),
    Duration::from_millis(3_200),
];

/// What a service speaks before TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// Nothing.
    Tls,
    /// PostgreSQL's `SSLRequest`.
    Postgres,
    /// The `SSLRequest` packet after the greeting of MySQL and MariaDB.
    Mysql,
    /// STARTTLS (RFC 3207).
    Smtp,
}

const SCHEMES: [(&str, Protocol); 4] =
    [("tls", Protocol::Tls), ("postgres", Protocol::Postgres), ("mysql", Protocol::Mysql), ("smtp", Protocol::Smtp)];

/// A service to be probed: `postgres://127.0.0.1:5432`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    protocol: Protocol,
    address: ServerAddress,
}

/// A text that names no service to probe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no probe; write it as tls://, postgres://, mysql:// or smtp:// with host and port: postgres://127.0.0.1:5432"
)]
pub struct NotAProbe(String);

impl Probe {
    /// Reads `SCHEME://HOST:PORT`.
    ///
    /// # Errors
    /// [`NotAProbe`].
    pub fn parse(text: &str) -> Result<Self, NotAProbe> {
        let read = || {
            let (scheme, address) = text.split_once("://")?;
            let (_, protocol) = SCHEMES.into_iter().find(|(known, _)| *known == scheme)?;
            Some(Self { protocol, address: ServerAddress::parse(address).ok()? })
        };
        read().ok_or_else(|| NotAProbe(text.to_owned()))
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = SCHEMES.iter().find(|(_, protocol)| *protocol == self.protocol).map_or("", |(scheme, _)| scheme);
        write!(f, "{scheme}://{}", self.address)
    }
}

serde_as_text!(Probe);

/// What a service has to prove, and to whom.
pub struct Expected<'a> {
    /// The roots that clients trust.
    pub anchors: &'a [CertificateDer<'a>],
    /// The name under which they know the service.
    pub name: &'a DnsName,
    /// The certificate that it has to serve.
    pub serial: &'a Serial,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unproven {
    /// There was no connection, or it broke before TLS could begin.
    #[error("{probe} cannot be reached: {cause}")]
    Unreachable {
        /// Whom we called.
        probe: String,
        /// What happened.
        cause: String,
    },
    /// It took the connection and then said nothing; to ask again would only take longer.
    #[error("{probe} gives no answer within {} seconds", TIME.as_secs())]
    Silent {
        /// Whom we called.
        probe: String,
    },
    /// It answered, and did not offer TLS as it should.
    #[error("{probe} offers no TLS: {cause}")]
    NoTls {
        /// Whom we called.
        probe: String,
        /// What it said.
        cause: String,
    },
    /// It serves another certificate.
    #[error("{probe} serves serial {served}, until {until}, and not {expected}, which is installed")]
    Another {
        /// Whom we called.
        probe: String,
        /// Which one it serves.
        served: Serial,
        /// The end of that one.
        until: Timestamp,
        /// Which one it should.
        expected: Serial,
    },
    /// A client would not accept what it serves.
    #[error("a client would not accept {probe}: {cause}")]
    Refused {
        /// Whom we called.
        probe: String,
        /// What is wrong.
        cause: String,
    },
}

/// Asks until the service proves it, with pauses that `pause` makes, and then gives up.
///
/// # Errors
/// The last [`Unproven`].
pub async fn prove(probe: &Probe, expected: &Expected<'_>, pause: impl AsyncFn(Duration)) -> Result<(), Unproven> {
    for length in PAUSES {
        match ask(probe, expected).await {
            Ok(()) => return Ok(()),
            Err(silent @ Unproven::Silent { .. }) => return Err(silent),
            Err(_) => pause(length).await,
        }
    }
    ask(probe, expected).await
}

/// Asks once, for five seconds at most.
async fn ask(probe: &Probe, expected: &Expected<'_>) -> Result<(), Unproven> {
    let refused = |cause: String| Unproven::Refused { probe: probe.to_string(), cause };
    let (config, presented) = presented::probe_config(expected.anchors, expected.clock.clone())
        .map_err(|error| refused(error.to_string()))?;
    let name = ServerName::try_from(expected.name.as_str().to_owned()).map_err(|error| refused(error.to_string()))?;
    let asked = tokio::time::timeout(TIME, async {
        let mut stream = connect(probe).await?;
        preamble::speak(probe, &mut stream).await?;
        // What follows the handshake is the service's own business.
        Ok(TlsConnector::from(config).connect(name, stream).await.map(drop))
    });
    let handshake = match asked.await {
        Ok(asked) => asked?,
        Err(_) => return Err(Unproven::Silent { probe: probe.to_string() }),
    };
    let leaf = presented.get().map(Leaf::read);
    if let Some(Ok(leaf)) = &leaf
        && leaf.serial != *expected.serial
    {
        // Whether a client would accept that one is of less interest.
        let (served, until, expected) = (leaf.serial.clone(), leaf.not_after, expected.serial.clone());
        return Err(Unproven::Another { probe: probe.to_string(), served, until, expected });
    }
    handshake.map_err(|error| {
        let no_tls = |cause| Unproven::NoTls { probe: probe.to_string(), cause };
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidMessage(_)) => no_tls("what it says is no TLS".to_owned()),
            Some(rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)) => {
                no_tls("it speaks neither TLS 1.2 nor TLS 1.3".to_owned())
            }
            Some(error) => refused(tls::explain(error)),
            None => no_tls(format!("it broke off the handshake ({error}); does it speak TLS there?")),
        }
    })?;
    // Only a serial number that was read is a proof.
    match leaf {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) => Err(refused(format!("its certificate cannot be read: {error}"))),
        None => Err(refused("it presented no certificate".to_owned())),
    }
}

async fn connect(probe: &Probe) -> Result<TcpStream, Unproven> {
    let port = probe.address.port;
    let connected = match &probe.address.name {
        Host::Ip(ip) => TcpStream::connect((*ip, port)).await,
        Host::Dns(name) => TcpStream::connect((name.as_str(), port)).await,
    };
    connected.map_err(|error| unreachable(probe, &error))
}

fn unreachable(probe: &Probe, error: &std::io::Error) -> Unproven {
    let cause = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "nothing listens there (connection refused)".to_owned(),
        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset => "it hung up".to_owned(),
        _ => error.to_string(),
    };
    Unproven::Unreachable { probe: probe.to_string(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_a_scheme_and_an_address() {
        for good in ["tls://127.0.0.1:443", "postgres://localhost:5432", "mysql://[::1]:3306", "smtp://127.0.0.1:25"] {
            assert_eq!(Probe::parse(good).unwrap().to_string(), good);
        }
        for bad in ["", "127.0.0.1:443", "http://127.0.0.1:80", "tls://127.0.0.1", "tls:/127.0.0.1:443", "tls://:443"] {
            assert!(Probe::parse(bad).is_err(), "{bad}");
        }
    }
}
