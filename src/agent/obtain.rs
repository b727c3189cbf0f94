//! Gets one certificate and believes nothing about it: chain, names, usages, dates and key are
//! checked here before anything is installed (rule R4).

use hyper::Method;
use hyper::body::Bytes;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

use super::identity::Enrolment;
use super::install::{self, InstallError, Ownership};
use super::ledger::{Asked, Memory};
use super::placement::Place;
use super::servers::Servers;
use super::{Agent, AgentError, claims, debt, key};
use crate::ca::bundle::{Bundle, BundleError, Chain, Expected};
use crate::ca::pem_file::{self, Content};
use crate::client::Answer;
use crate::clock::Timestamp;
use crate::grant::CertificateKind;
use crate::name::{DnsName, HostName};
use crate::profile::{KeyKind, SubjectAltNames};
use crate::wire::{Entitlement, Entitlements, PEM_CHAIN, PKCS10, SERIAL_HEADER};

/// A certificate request that a person made.
#[derive(Debug)]
pub struct Request {
    pem: String,
    spki: Vec<u8>,
}

impl Request {
    /// Reads PEM text with one request in it.
    ///
    /// # Errors
    /// A text that says what is wrong.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let blocks = pem_file::strict_blocks(text).map_err(|error| error.to_string())?;
        let mut requests = blocks.iter().filter_map(|block| match &block.content {
            Content::Request(der) => Some(der),
            _ => None,
        });
        let (Some(der), None) = (requests.next(), requests.next()) else {
            return Err("there has to be exactly one CERTIFICATE REQUEST in it".to_owned());
        };
        let (_, parsed) = X509CertificationRequest::from_der(der).map_err(|error| error.to_string())?;
        let spki = parsed.certification_request_info.subject_pki.raw.to_vec();
        // Only the request is sent, in case a key stands beside it.
        let pem = pem::encode_config(
            &pem::Pem::new("CERTIFICATE REQUEST", der.clone()),
            pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
        );
        Ok(Self { pem, spki })
    }
}

/// A connection to the CA, and what its answers are held to.
pub struct Exchange<'a> {
    /// Settings and time.
    pub agent: &'a Agent<'a>,
    /// The connection, as this host.
    pub client: &'a mut Servers,
    /// Host and anchors.
    pub enrolment: &'a Enrolment,
    /// What this host has seen of the ledger.
    pub ledger: &'a mut Memory,
}

/// Asks what `host`, which this is, may have.
///
/// # Errors
/// [`AgentError::Client`], also where the answer is for another host.
pub async fn entitlements(client: &mut Servers, host: &HostName) -> Result<Entitlements, AgentError> {
    let answer = client.send(Method::GET, "/v1/certs", "", "application/json", Bytes::new()).await?.ok()?;
    let entitlements: Entitlements = answer.json()?;
    match entitlements.host == *host {
        true => Ok(entitlements),
        false => Err(answer.malformed(format_args!("it is for {}, and this is {host}", entitlements.host)).into()),
    }
}

/// Gets a bundle for `name`, with a key made here or, for `ca_made_key`, by the CA. Where the CA
/// did not list the name (`promised` is none) it is asked all the same, for its own reason.
///
/// # Errors
/// [`AgentError`]; nothing was installed.
pub async fn bundle(
    exchange: &mut Exchange<'_>,
    name: &DnsName,
    promised: Option<&Entitlement>,
    ca_made_key: bool,
) -> Result<Bundle, AgentError> {
    let bad = |cause| AgentError::BadAnswer { what: name.to_string(), cause };
    let (answer, bundle) = if ca_made_key {
        let answer = exchange.ask(name, None).await?;
        let bundle = Bundle::parse(&answer.body);
        (answer, bundle)
    } else {
        let kind = promised.map_or(KeyKind::default(), |promised| promised.key);
        let key = key::generate(kind, name.as_str())?;
        let answer = exchange.ask(name, Some(key::request(&key)?)).await?;
        let bundle = Chain::parse(&answer.body).and_then(|chain| Bundle::new(chain, key));
        (answer, bundle)
    };
    let bundle = bundle.map_err(bad)?;
    exchange.accept(&answer, bundle.chain(), name, promised, ca_made_key).await?;
    Ok(bundle)
}

/// Gets a chain for a request that a person made.
///
/// # Errors
/// [`AgentError`].
pub async fn chain(
    exchange: &mut Exchange<'_>,
    name: &DnsName,
    promised: Option<&Entitlement>,
    request: &Request,
) -> Result<Chain, AgentError> {
    let bad = |cause| AgentError::BadAnswer { what: name.to_string(), cause };
    let answer = exchange.ask(name, Some(request.pem.clone())).await?;
    let chain = Chain::parse(&answer.body).map_err(bad)?;
    if chain.leaf().spki != request.spki {
        return Err(bad(BundleError::KeyMismatch));
    }
    exchange.accept(&answer, &chain, name, promised, false).await?;
    Ok(chain)
}

/// Checks a chain against what was promised for `name`, or only against `name` where nothing was.
///
/// # Errors
/// [`BundleError`].
pub fn check(
    chain: &Chain,
    anchors: &[CertificateDer<'_>],
    name: &DnsName,
    promised: Option<&Entitlement>,
    now: Timestamp,
) -> Result<(), BundleError> {
    let alt_names = match promised {
        Some(promised) => {
            SubjectAltNames { dns: promised.dns.clone(), ip: promised.ip.clone(), ..SubjectAltNames::default() }
        }
        None => SubjectAltNames { dns: vec![name.clone()], ..SubjectAltNames::default() },
    };
    let usages = promised.map(|promised| promised.usages);
    chain.check(anchors, &Expected { alt_names: &alt_names, exactly: promised.is_some(), usages }, now)
}

/// Finds out whose the bundle of `name` will be and that its place will do. The CA is asked only
/// after that: a timer that runs into the same wall four times an hour must not fill the ledger.
///
/// # Errors
/// [`InstallError`].
pub fn prepare(agent: &Agent<'_>, name: &DnsName) -> Result<(Place, Ownership), InstallError> {
    let placement = &agent.settings.placement;
    let place = placement.bundle(name);
    if place.path.parent() == Some(&placement.default.path) {
        install::make_directory(&placement.default.path, 0o710)?;
    }
    let owner = agent.ownership(&place)?;
    install::check_place(&place.path, &owner)?;
    Ok((place, owner))
}

/// Installs a bundle that was checked; the old one stays until the new one is whole. That services have to load it is
/// written down before.
///
/// # Errors
/// [`InstallError`].
pub fn install(agent: &Agent<'_>, name: &DnsName, bundle: &Bundle) -> Result<(), InstallError> {
    let (place, owner) = prepare(agent, name)?;
    claims::remember(agent, &place.path)?;
    debt::expect(agent, name, &bundle.leaf().serial)?;
    install::install(&place.path, bundle.to_pem().as_bytes(), &owner, agent.random)
}

impl Exchange<'_> {
    async fn ask(&mut self, name: &DnsName, request: Option<String>) -> Result<Answer, AgentError> {
        self.ledger.before_asking(self.client, name.as_str(), self.agent.now()).await?;
        let path = format!("/v1/certs/{name}");
        let kind = if request.is_some() { PKCS10 } else { "" };
        let body = Bytes::from(request.unwrap_or_default());
        Ok(self.client.send(Method::POST, &path, kind, PEM_CHAIN, body).await?.ok()?)
    }

    /// The certificate as such, then its place in the ledger.
    async fn accept(
        &mut self,
        answer: &Answer,
        chain: &Chain,
        name: &DnsName,
        promised: Option<&Entitlement>,
        ca_made_key: bool,
    ) -> Result<(), AgentError> {
        let now = self.agent.now();
        let checked = same_serial(answer, chain);
        let checked = checked.and_then(|()| check(chain, &self.enrolment.anchors, name, promised, now));
        checked.map_err(|cause| AgentError::BadAnswer { what: name.to_string(), cause })?;
        let (kind, host) = (CertificateKind::Service, &self.enrolment.host);
        let asked = Asked { kind, name: name.as_str(), host, ca_made_key };
        self.ledger.accept(self.client, answer, chain.leaf(), &asked, now).await
    }
}

/// The serial is told twice; two answers that were mixed up would show here.
fn same_serial(answer: &Answer, chain: &Chain) -> Result<(), BundleError> {
    let serial = &chain.leaf().serial;
    match answer.header(SERIAL_HEADER) {
        Some(told) if told != serial.to_string() => {
            Err(BundleError::Certificate(format!("its serial is {serial}, and the answer says {told:.64}")))
        }
        _ => Ok(()),
    }
}
