//! What is said before TLS begins, protocol by protocol. Nothing is read beyond what belongs to that: octets that came
//! early would be taken for a part of the encrypted conversation.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{Probe, Protocol, Unproven, unreachable};
use crate::terminal::{cut, printable};

/// The length of an `SSLRequest` and its code, 1234 and 5679 (PostgreSQL's documentation, Message Formats).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// Longest packet of MySQL and longest line of SMTP that is read (RFC 5321, section 4.5.3.1.5, has 512 octets).
const MAX_READ: usize = 2_048;
/// Most lines of one answer of SMTP.
const MAX_LINES: usize = 64;
/// Longest part of what a service says that is shown, in characters.
const MAX_SHOWN: usize = 200;

/// `CLIENT_SSL` in the capabilities of MySQL, and what a client of today sends beside it: `CLIENT_PROTOCOL_41` and
/// `CLIENT_SECURE_CONNECTION` (MySQL's documentation, Capability Flags).
const CLIENT_SSL: u32 = 0x0800;
const CAPABILITIES: u32 = CLIENT_SSL | 0x0200 | 0x8000;

/// Speaks until TLS can begin.
///
/// # Errors
/// [`Unproven`] when the service hangs up, or offers no TLS.
pub async fn speak<S>(probe: &Probe, stream: &mut S) -> Result<(), Unproven>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let spoken = match probe.protocol {
        Protocol::Tls => Ok(()),
        Protocol::Postgres => postgres(stream).await,
        Protocol::Mysql => mysql(stream).await,
        Protocol::Smtp => smtp(stream).await,
    };
    spoken.map_err(|refusal| match refusal {
        Refusal::Broken(error) => unreachable(probe, &error),
        Refusal::Said(cause) => Unproven::NoTls { probe: probe.to_string(), cause },
    })
}

enum Refusal {
    /// The connection broke.
    Broken(io::Error),
    /// It does not want to, or is something else.
    Said(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

async fn postgres<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<(), Refusal> {
    stream.write_all(&SSL_REQUEST).await?;
    match stream.read_u8().await? {
        b'S' => Ok(()),
        b'N' => Err(Refusal::Said("PostgreSQL answers that it has none; is ssl = on?".to_owned())),
        b'E' => Err(Refusal::Said("PostgreSQL answers with an error; its log has the cause".to_owned())),
        _ => Err(Refusal::Said("what it says is not PostgreSQL's".to_owned())),
    }
}

async fn mysql<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<(), Refusal> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    let [a, b, c, sequence] = header;
    let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
    if length == 0 || length > MAX_READ || sequence != 0 {
        return Err(Refusal::Said("what it says is not MySQL's greeting".to_owned()));
    }
    let mut greeting = vec![0; length];
    stream.read_exact(&mut greeting).await?;
    if offered(&greeting)? & CLIENT_SSL == 0 {
        return Err(Refusal::Said("its greeting says that it has none; are ssl_cert and ssl_key set?".to_owned()));
    }
    // Capabilities, the longest packet (any), utf8mb4, and 23 octets of nothing (Protocol::SSLRequest).
    let mut request = vec![32, 0, 0, 1];
    request.extend(CAPABILITIES.to_le_bytes());
    request.extend(0x0100_0000_u32.to_le_bytes());
    request.push(45);
    request.resize(4 + 32, 0);
    Ok(stream.write_all(&request).await?)
}

/// The lower capabilities of a greeting (Protocol::HandshakeV10): version, the server's version up to a zero,
/// thread, eight octets of salt, a zero.
fn offered(greeting: &[u8]) -> Result<u32, Refusal> {
    if let [0xff, _, _, message @ ..] = greeting {
        return Err(Refusal::Said(format!("it answers with an error: {}", shown(message))));
    }
    let capabilities = || {
        let rest = greeting.strip_prefix(&[10])?;
        let version = rest.iter().position(|octet| *octet == 0)?;
        let at = version + 1 + 4 + 8 + 1;
        Some(u32::from(u16::from_le_bytes(rest.get(at..at + 2)?.try_into().ok()?)))
    };
    capabilities().ok_or_else(|| Refusal::Said("what it says is not MySQL's greeting".to_owned()))
}

async fn smtp<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<(), Refusal> {
    let expect = |wanted: &str, (code, lines): (String, Vec<String>)| match code == wanted {
        true => Ok(lines),
        false => Err(Refusal::Said(format!("it answers {code} {}", lines.join(" ")))),
    };
    expect("220", answer(stream).await?)?;
    stream.write_all(b"EHLO localhost\r\n").await?;
    let lines = expect("250", answer(stream).await?)?;
    if !lines.iter().any(|line| line.eq_ignore_ascii_case("STARTTLS")) {
        return Err(Refusal::Said("it does not announce STARTTLS".to_owned()));
    }
    stream.write_all(b"STARTTLS\r\n").await?;
    expect("220", answer(stream).await?).map(drop)
}

/// One answer, of one or more lines (RFC 5321, section 4.2.1): its code and its texts.
async fn answer<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(String, Vec<String>), Refusal> {
    let mut texts = Vec::new();
    while texts.len() < MAX_LINES {
        let line = line(stream).await?;
        let (code, rest) = line.split_at_checked(3).unwrap_or((&line, ""));
        if !code.bytes().all(|b| b.is_ascii_digit()) || code.len() != 3 {
            return Err(Refusal::Said(format!("what it says is not SMTP's: {}", shown(line.as_bytes()))));
        }
        texts.push(shown(rest.get(1..).unwrap_or("").as_bytes()));
        if !rest.starts_with('-') {
            return Ok((code.to_owned(), texts));
        }
    }
    Err(Refusal::Said("its answer does not end".to_owned()))
}

/// Octet by octet, because the one after the line may be TLS's already.
async fn line<S: AsyncRead + Unpin>(stream: &mut S) -> Result<String, Refusal> {
    let mut line = Vec::new();
    while line.len() < MAX_READ {
        match stream.read_u8().await? {
            b'\n' => return Ok(String::from_utf8_lossy(&line).trim_end().to_owned()),
            octet => line.push(octet),
        }
    }
    Err(Refusal::Said("it sends a line that does not end".to_owned()))
}

fn shown(text: &[u8]) -> String {
    printable(&cut(&String::from_utf8_lossy(text), MAX_SHOWN)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Speaks with a service that says `said`, whatever it hears; returns what it heard.
    async fn with(url: &str, said: &[u8]) -> Result<Vec<u8>, String> {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
        theirs.write_all(said).await.unwrap();
        let probe = Probe::parse(&format!("{url}://127.0.0.1:1")).unwrap();
        // A service that says no more hangs up.
        theirs.shutdown().await.unwrap();
        speak(&probe, &mut ours).await.map_err(|error| error.to_string())?;
        drop(ours);
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).await.unwrap();
        Ok(heard)
    }

    fn greeting(capabilities: u16) -> Vec<u8> {
        let mut payload = b"\x0a5.5.5-10.11.6-MariaDB\0\x01\0\0\0saltsalt\0".to_vec();
        payload.extend(capabilities.to_le_bytes());
        payload.extend([0; 30]);
        [&[u8::try_from(payload.len()).unwrap(), 0, 0, 0], payload.as_slice()].concat()
    }

    #[tokio::test]
    async fn each_protocol_is_spoken_up_to_where_tls_begins() {
        assert_eq!(with("tls", b"").await.unwrap(), b"");
        assert_eq!(with("postgres", b"S").await.unwrap(), SSL_REQUEST);
        let request = with("mysql", &greeting(0xfffe)).await.unwrap();
        assert_eq!((request.len(), &request[..8]), (36, &[32, 0, 0, 1, 0, 0x8a, 0, 0][..]));
        let said = b"220 mail ESMTP\r\n250-mail\r\n250-PIPELINING\r\n250 STARTTLS\r\n220 2.0.0 Ready\r\n";
        assert_eq!(with("smtp", said).await.unwrap(), b"EHLO localhost\r\nSTARTTLS\r\n");
    }

    #[tokio::test]
    async fn a_service_without_tls_is_told_from_one_that_is_something_else() {
        let long = [b"220 ".as_slice(), &[b'x'; 9_000]].concat();
        let many = b"220-x\r\n".repeat(100);
        for (scheme, said, text) in [
            ("postgres", &b"N"[..], "is ssl = on?"),
            ("postgres", b"E", "its log has the cause"),
            ("postgres", b"HTTP/1.1 400", "not PostgreSQL's"),
            ("postgres", b"", "it hung up"),
            ("mysql", &greeting(0xf7fe), "are ssl_cert and ssl_key set?"),
            ("mysql", b"\x0c\0\0\0\xff\x10\x04Too many", "it hung up"),
            ("mysql", b"\x0b\0\0\0\xff\x10\x04Too many", "it answers with an error: Too many"),
            ("mysql", b"HTTP/1.1 400 Bad Request", "not MySQL's greeting"),
            ("mysql", b"\x02\0\0\0\x0a\0", "not MySQL's greeting"),
            ("smtp", b"220 x\r\n250 HELP\r\n", "does not announce STARTTLS"),
            ("smtp", b"554 go away\x1b[2J\r\n", "it answers 554 go away\\u{1b}[2J"),
            ("smtp", b"+OK POP3\r\n", "not SMTP's: +OK POP3"),
            ("smtp", &long, "does not end"),
            ("smtp", &many, "does not end"),
            ("smtp", b"220 x\r\n250 STARTTLS\r\n454 4.7.0 TLS not available\r\n", "it answers 454 4.7.0"),
        ] {
            let error = with(scheme, said).await.unwrap_err();
            assert!(error.contains(text), "{scheme} {:?}: {error}", String::from_utf8_lossy(said));
        }
    }
}
