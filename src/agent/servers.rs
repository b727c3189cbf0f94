//! The daemons of this host's CA, one after the other: the next is asked where one does not answer, or answers that it
//! cannot serve (5xx), also in the middle of a run.

use std::sync::Arc;

use hyper::Method;
use hyper::body::Bytes;
use rustls::ClientConfig;
use serde::de::DeserializeOwned;

use crate::client::{Answer, Client, ClientError};
use crate::token::ServerAddress;

/// A connection to one of them, and where the others are.
#[derive(Debug)]
pub struct Servers {
    addresses: Vec<ServerAddress>,
    config: Arc<ClientConfig>,
    /// Which of them `client` is connected to.
    at: usize,
    client: Client,
    /// Whether it has sent a request.
    used: bool,
}

impl Servers {
    /// Connects to the first that answers and is trusted.
    ///
    /// # Errors
    /// The last one's [`ClientError`]; none where there is no address.
    pub async fn connect(addresses: &[ServerAddress], config: Arc<ClientConfig>) -> Result<Self, Option<ClientError>> {
        let mut last = None;
        for (at, address) in addresses.iter().enumerate() {
            match Client::connect_tls(address, config.clone()).await {
                Ok(client) => return Ok(Self { addresses: addresses.to_vec(), config, at, client, used: false }),
                Err(error) => last = Some(error),
            }
        }
        Err(last)
    }

    /// The connection that there is now, for whoever asks one daemon and no other.
    pub const fn current(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Sends one request ([`Client::send`]), to the next daemon where one fails; each is asked once. The one that
    /// answered is asked from then on.
    ///
    /// # Errors
    /// The last one's [`ClientError`] where none gave an answer.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        content_type: &str,
        accept: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, ClientError> {
        let body = body.into();
        let ask = Ask { method, path, content_type, accept, body };
        let mut others = self.addresses.len().saturating_sub(1);
        let used = std::mem::replace(&mut self.used, true);
        let mut outcome = match self.client.is_closed() {
            false => ask.send(&mut self.client).await,
            true => self.again(&ask, self.at).await,
        };
        // A connection that was used before may be closed at any time; what changes nothing may be sent once more
        // (RFC 9110, section 9.2.2).
        if used && ask.method == Method::GET && outcome.is_err() && self.client.is_closed() {
            outcome = self.again(&ask, self.at).await;
        }
        while others > 0 && is_outage(&outcome) {
            others -= 1;
            let next = self.again(&ask, (self.at + 1) % self.addresses.len()).await;
            // A daemon that says why it cannot serve says more than one that is silent.
            if outcome.is_err() || next.is_ok() {
                outcome = next;
            }
        }
        outcome
    }

    /// `GET path`, for JSON.
    ///
    /// # Errors
    /// As [`Servers::send`], or [`ClientError::Refused`] when the answer is a problem.
    pub async fn get_json<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        self.send(Method::GET, path, "", "application/json", Bytes::new()).await?.ok()?.json()
    }

    /// By a new connection.
    async fn again(&mut self, ask: &Ask<'_>, at: usize) -> Result<Answer, ClientError> {
        self.at = at;
        self.client = Client::connect_tls(&self.addresses[at], self.config.clone()).await?;
        ask.send(&mut self.client).await
    }
}

/// A request that may be sent more than once.
struct Ask<'a> {
    method: Method,
    path: &'a str,
    content_type: &'a str,
    accept: &'a str,
    body: Bytes,
}

impl Ask<'_> {
    async fn send(&self, client: &mut Client) -> Result<Answer, ClientError> {
        client.send(self.method.clone(), self.path, self.content_type, self.accept, self.body.clone()).await
    }
}

fn is_outage(outcome: &Result<Answer, ClientError>) -> bool {
    match outcome {
        Ok(answer) => answer.status.is_server_error(),
        Err(error) => error.is_outage(),
    }
}
