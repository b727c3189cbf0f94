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
                Ok(client) => return Ok(Self { addresses: addresses.to_vec(), config, at, client }),
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
        let mut others = self.addresses.len().saturating_sub(1);
        let mut outcome = self.client.send(method.clone(), path, content_type, accept, body.clone()).await;
        while others > 0 && is_outage(&outcome) {
            others -= 1;
            let next = match self.go_on().await {
                Ok(()) => self.client.send(method.clone(), path, content_type, accept, body.clone()).await,
                Err(error) => Err(error),
            };
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

    async fn go_on(&mut self) -> Result<(), ClientError> {
        self.at = (self.at + 1) % self.addresses.len().max(1);
        self.client = Client::connect_tls(&self.addresses[self.at], self.config.clone()).await?;
        Ok(())
    }
}

fn is_outage(outcome: &Result<Answer, ClientError>) -> bool {
    match outcome {
        Ok(answer) => answer.status.is_server_error(),
        Err(error) => error.is_outage(),
    }
}
