use rcgen::KeyPair;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ClientConnection, ServerConnection};

use super::*;
use crate::ca::bundle::Bundle;
use crate::ca::fixture::{DAY, Fixed, Hierarchy, LeafSpec, dns, now};
use crate::profile::{SubjectAltNames, Usages};

fn clock() -> Arc<dyn Clock> {
    Arc::new(Fixed(now()))
}

struct World {
    ca: Hierarchy,
    identities: Hierarchy,
    server: Arc<ServerConfig>,
}

fn world() -> World {
    let (ca, identities) = (Hierarchy::new("PSF_CA"), Hierarchy::new("PSF_CA identities"));
    let bundle = ca.bundle(&LeafSpec::server(&dns(&["ca.psf.io"])));
    let server = serve(&ca, &bundle, &identities);
    World { ca, identities, server }
}

fn serve(ca: &Hierarchy, bundle: &Bundle, identities: &Hierarchy) -> Arc<ServerConfig> {
    let mut chain = bundle.chain().certificates().to_vec();
    chain.push(ca.root_der());
    server_config(chain, bundle.key().to_rustls(), &[identities.root_der()], clock(), DAY).unwrap()
}

/// Runs a handshake in memory; the server's view of it or the first error on either side.
fn handshake(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    name: &str,
) -> Result<ServerConnection, rustls::Error> {
    let mut server = ServerConnection::new(server.clone()).unwrap();
    let mut client = ClientConnection::new(client.clone(), name.to_owned().try_into().unwrap()).unwrap();
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    assert!(!server.is_handshaking() && !client.is_handshaking());
    Ok(server)
}

fn identity(ca: &Hierarchy, spec: &LeafSpec<'_>) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let chain = ca.sign_by_root(spec, &key).certificates().to_vec();
    (chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

fn host() -> SubjectAltNames {
    SubjectAltNames { uri: Some("spiffe://psf.io/host/pg0.iad1.psf.io".to_owned()), ..Default::default() }
}

#[test]
fn a_client_verifies_chain_and_name() {
    let world = world();
    let client = client_config(&[world.ca.root_der()], None, clock()).unwrap();
    let server = handshake(&world.server, &client, "ca.psf.io").unwrap();
    assert_eq!(server.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(server.alpn_protocol(), Some(ALPN));
    assert!(server.peer_certificates().is_none());

    let wrong = handshake(&world.server, &client, "other.psf.io").unwrap_err();
    assert_eq!(explain(&wrong), "its certificate is for ca.psf.io, not for other.psf.io");
    let stranger = client_config(&[Hierarchy::new("other").root_der()], None, clock()).unwrap();
    let wrong = handshake(&world.server, &stranger, "ca.psf.io").unwrap_err();
    assert_eq!(explain(&wrong), "its certificate comes from no root that is trusted here");
}

#[test]
fn an_identity_is_optional_and_verified() {
    let world = world();
    let names = host();
    let good = LeafSpec { usages: Usages::Client, ..LeafSpec::server(&names) };
    let anchors = [world.ca.root_der()];
    let connect = |from: &Hierarchy, spec: &LeafSpec<'_>| {
        let client = client_config(&anchors, Some(identity(from, spec)), clock()).unwrap();
        handshake(&world.server, &client, "ca.psf.io")
    };
    assert_eq!(connect(&world.identities, &good).unwrap().peer_certificates().unwrap().len(), 2);
    // A service certificate is no identity, whatever it may be used for.
    assert!(connect(&world.ca, &good).is_err());
    assert!(connect(&world.identities, &LeafSpec { usages: Usages::Server, ..good }).is_err());
    // A host whose identity has ended may still renew it; that is judged at the request.
    let ended = |ago: Duration| LeafSpec { not_before: now().minus(DAY * 30), not_after: now().minus(ago), ..good };
    assert!(connect(&world.identities, &ended(Duration::from_secs(1))).is_ok());
    assert!(connect(&world.identities, &ended(DAY)).is_ok());
    let over = connect(&world.identities, &ended(DAY + Duration::from_secs(1))).unwrap_err();
    assert!(explain(&over).starts_with("the certificate expired"), "{over}");
    // The end of its dates excuses nothing else.
    let ended = ended(Duration::from_secs(1));
    assert!(connect(&world.ca, &ended).is_err());
    assert!(connect(&world.identities, &LeafSpec { usages: Usages::Server, ..ended }).is_err());
    let early = LeafSpec { not_before: now().plus(Duration::from_secs(1)), not_after: now().plus(DAY), ..good };
    assert!(connect(&world.identities, &early).is_err());
}

#[test]
fn a_pinned_root_is_found_and_learned() {
    let world = world();
    let root = world.ca.root_der();
    let (client, learned) = pinned_client_config(Digest::of(&root), NamedBy::Token, clock()).unwrap();
    assert!(learned.get().is_none());
    handshake(&world.server, &client, "ca.psf.io").unwrap();
    assert_eq!(learned.get(), Some(&root));
}

#[test]
fn a_pin_is_no_licence_for_another_root_name_or_time() {
    let world = world();
    let (client, learned) = pinned_client_config(Digest::of(b"other"), NamedBy::Token, clock()).unwrap();
    let wrong = handshake(&world.server, &client, "ca.psf.io").unwrap_err();
    assert!(explain(&wrong).contains("did not show the root that the token names"), "{wrong}");
    assert!(learned.get().is_none());

    let root = Digest::of(&world.ca.root_der());
    let (client, learned) = pinned_client_config(root, NamedBy::Token, clock()).unwrap();
    assert!(handshake(&world.server, &client, "other.psf.io").is_err());
    assert!(learned.get().is_none());

    let later = Fixed(now().plus(crate::ca::fixture::DAY * 2));
    let (client, learned) = pinned_client_config(root, NamedBy::Token, Arc::new(later)).unwrap();
    assert!(handshake(&world.server, &client, "ca.psf.io").is_err());
    assert!(learned.get().is_none());
}

#[test]
fn showing_the_pinned_root_beside_a_foreign_chain_is_refused() {
    let world = world();
    let thief = Hierarchy::new("thief");
    let bundle = thief.bundle(&LeafSpec::server(&dns(&["ca.psf.io"])));
    // The root is public, so anyone can send it; only its signature counts.
    let server = serve(&world.ca, &bundle, &world.identities);
    let (client, learned) = pinned_client_config(Digest::of(&world.ca.root_der()), NamedBy::Token, clock()).unwrap();
    assert!(handshake(&server, &client, "ca.psf.io").is_err());
    assert!(learned.get().is_none());
}

#[test]
fn tls_1_2_is_refused() {
    let extensions: &[u8] = &[
        0, 10, 0, 4, 0, 2, 0, 23, // supported_groups: secp256r1
        0, 13, 0, 4, 0, 2, 4, 3, // signature_algorithms: ecdsa_secp256r1_sha256
        0, 11, 0, 2, 1, 0, // ec_point_formats: uncompressed
    ];
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0, 0, extensions.len() as u8]);
    hello.extend(extensions);
    let mut record = vec![22, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
    record.extend(hello);
    let mut server = ServerConnection::new(world().server).unwrap();
    server.read_tls(&mut record.as_slice()).unwrap();
    let error = server.process_new_packets().unwrap_err();
    assert!(matches!(error, rustls::Error::PeerIncompatible(_)), "{error}");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let ca = Hierarchy::new("PSF_CA");
    let names = dns(&["ca.psf.io"]);
    let (one, other) = (ca.bundle(&LeafSpec::server(&names)), ca.bundle(&LeafSpec::server(&names)));
    let made =
        server_config(one.chain().certificates().to_vec(), other.key().to_rustls(), &[ca.root_der()], clock(), DAY);
    assert!(matches!(made, Err(TlsError::Credentials(_))));
    assert!(matches!(client_config(&[], None, clock()), Err(TlsError::NoAnchor)));
}
