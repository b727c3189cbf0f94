use std::path::PathBuf;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

use super::*;
use crate::ca::fixture::{Fixed, Hierarchy, LeafSpec, dns, now};

/// A server that answers every request on one connection with `answer`, whatever was asked.
fn socket(directory: &tempfile::TempDir, answer: Vec<u8>) -> (PathBuf, tokio::task::JoinHandle<String>) {
    let path = directory.path().join("admin.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = vec![0; 4096];
        let read = stream.read(&mut seen).await.unwrap();
        // The reader may hang up when the answer is too long, which is the point.
        let _ = stream.write_all(&answer).await;
        String::from_utf8_lossy(&seen[..read]).into_owned()
    });
    (path, serving)
}

async fn ask(answer: &[u8]) -> (Result<Answer, ClientError>, String) {
    let directory = tempfile::tempdir().unwrap();
    let (path, serving) = socket(&directory, answer.to_vec());
    let mut client = Client::connect_unix(&path).await.unwrap();
    let answer = client.send(Method::POST, "/v1/certs/a.psf.io", "application/pkcs10", "", "body").await;
    drop(client);
    (answer, serving.await.unwrap())
}

#[tokio::test]
async fn one_request_and_its_answer() {
    let (answer, request) = ask(b"HTTP/1.1 200 OK\r\npsfca-serial: 0a\r\ncontent-length: 9\r\n\r\n{\"a\": 1}\n").await;
    let answer = answer.unwrap().ok().unwrap();
    assert_eq!(answer.header("psfca-serial"), Some("0a"));
    assert_eq!(answer.json::<serde_json::Value>().unwrap()["a"], 1);
    assert!(answer.json::<Vec<u8>>().is_err());
    assert!(request.starts_with("POST /v1/certs/a.psf.io HTTP/1.1\r\nhost: localhost\r\n"), "{request}");
    assert!(request.contains("content-type: application/pkcs10\r\n") && !request.contains("accept"), "{request}");
}

#[tokio::test]
async fn a_refusal_carries_the_reason_of_the_server() {
    let body = r#"{"type":"urn:psfca:problem:denied","title":"Denied","status":403,"detail":"no, because"}"#;
    let head = format!("HTTP/1.1 403 Forbidden\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let error = ask(head.as_bytes()).await.0.unwrap().ok().unwrap_err();
    assert_eq!(error.to_string(), "no, because");
    assert!(error.is_denial() && !error.is_outage());

    let error = ask(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\nhtml").await.0.unwrap().ok().unwrap_err();
    assert!(error.is_outage() && error.to_string().contains("answered 502 Bad Gateway and gave no reason"), "{error}");
}

#[tokio::test]
async fn no_reason_of_the_other_end_drives_the_terminal_or_fills_it() {
    let said = |detail: &str| {
        let problem = Problem {
            kind: "urn:x\u{1b}".to_owned(),
            title: "\u{9b}31m".to_owned(),
            status: 403,
            detail: detail.to_owned(),
        };
        let body = serde_json::to_string(&problem).unwrap();
        format!("HTTP/1.1 403 Forbidden\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let answer = ask(said("\u{1b}]0;pwned\u{7}\u{1b}[2J all\nis \u{202e}well").as_bytes()).await.0.unwrap();
    let problem = answer.problem();
    assert_eq!(problem.detail, r"\u{1b}]0;pwned\u{7}\u{1b}[2J all\u{a}is \u{202e}well");
    assert_eq!((problem.kind.as_str(), problem.title.as_str()), (r"urn:x\u{1b}", r"\u{9b}31m"));
    let long = ask(said(&"x".repeat(100_000)).as_bytes()).await.0.unwrap();
    assert!(long.ok().unwrap_err().to_string().len() < 3_000);
    // What a parser says of an answer quotes the answer.
    let answer = ask(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n\"a\\u001b\"").await.0.unwrap();
    let error = answer.json::<crate::profile::Usages>().unwrap_err().to_string();
    assert!(!error.contains('\u{1b}'), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_is_too_long_or_no_http_is_not_read() {
    let mut long = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", MAX_ADMIN_ANSWER + 1).into_bytes();
    long.resize(long.len() + MAX_ADMIN_ANSWER + 1, b'x');
    let error = ask(&long).await.0.unwrap_err();
    assert!(matches!(error, ClientError::Malformed { .. }), "{error}");
    let error = ask(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await.0.unwrap_err();
    assert!(matches!(error, ClientError::Malformed { .. }), "{error}");
    let cut = ask(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc").await.0.unwrap_err();
    assert!(matches!(cut, ClientError::Unreachable { .. }), "{cut}");
}

#[tokio::test]
async fn a_missing_socket_says_so() {
    let error = Client::connect_unix(Path::new("/nonexistent/admin.sock")).await.unwrap_err();
    assert!(error.to_string().contains("is the daemon running?"), "{error}");
}

#[tokio::test]
async fn a_server_of_another_ca_is_untrusted_and_a_closed_port_unreachable() {
    let (ca, other) = (Hierarchy::new("PSF_CA"), Hierarchy::new("other"));
    let clock = || Arc::new(Fixed(now()));
    let names = dns(&["localhost"]);
    let bundle = ca.bundle(&LeafSpec::server(&names));
    let server = tls::server_config(
        bundle.chain().certificates().to_vec(),
        bundle.key().to_rustls(),
        &[ca.root_der()],
        clock(),
        std::time::Duration::ZERO,
    )
    .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let _ = tokio_rustls::TlsAcceptor::from(server).accept(stream).await;
    });
    let address = ServerAddress::parse(&format!("127.0.0.1:{port}")).unwrap();
    let config = tls::client_config(&[other.root_der()], None, clock()).unwrap();
    let error = Client::connect_tls(&address, config.clone()).await.unwrap_err();
    assert!(matches!(error, ClientError::Untrusted { .. }), "{error}");
    serving.await.unwrap();
    let error = Client::connect_tls(&address, config).await.unwrap_err();
    assert!(error.to_string().contains("connection refused"), "{error}");
}
