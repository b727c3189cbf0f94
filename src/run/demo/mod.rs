//! `psfca demo`: the whole main job in a temporary directory on loopback. It prints shell commands
//! and runs exactly those, with this very binary, so that what it shows is what a person would get.

mod postgresql;
mod stage;

use std::process::ExitCode;

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};

use self::stage::Stage;
use crate::cli;

/// The declaration of the demo is the sample that ships.
const TLS: &str = include_str!("../../../ca-config/tls.yaml");
const ROLES: &str = include_str!("../../../ca-config/roles.yaml");

/// `ca.yaml` as in the sample, but for paths and addresses that need no root.
const CA: &str = "\
name: PSF_CA
cert_opts:
  C: US
  ST: NH
  L: Wolfeboro
  O: Python Software Foundation
  OU: Infrastructure Team
  emailAddress: infrastructure-staff@python.org
trust_domain: psf.io
declaration: [tls.yaml, roles.yaml]
listen: 127.0.0.1:0
server_names: [localhost]
state: ca-state
trust_bundle: PSF_CA.pem
admin_socket: admin.sock
";

/// The fleet of the demo; two of these hosts are really there.
const HOSTS: &str = "\
pg0.iad1.psf.io
pg1.iad1.psf.io
lb0.iad1.psf.io
consul0.iad1.psf.io
docs.iad1.psf.io
app-1.iad1.psf.io
salt.iad1.psf.io
";

/// Runs every step; the first that does not do what it should ends the demo with an error.
pub(super) fn run(args: &cli::Demo) -> anyhow::Result<ExitCode> {
    let mut stage = Stage::new()?;
    play(&mut stage)?;
    if !args.once {
        let directory = stage.directory().display();
        stage.say(&format!(
            "\nThe daemon stays up. In another terminal, try more of these commands:\n\
             $ cd {directory} && PATH={}:$PATH\n\
             Ctrl-C here ends it and removes the directory.",
            stage.binary_directory().display()
        ))?;
        super::runtime()?.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                _ = terminate.recv() => std::io::Result::Ok(()),
                done = tokio::signal::ctrl_c() => done,
            }
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn play(stage: &mut Stage) -> anyhow::Result<()> {
    let owner = postgresql::bundle_owner();
    stage.write("ca.yaml", CA)?;
    stage.write("tls.yaml", TLS)?;
    stage.write("roles.yaml", ROLES)?;
    stage.write("hosts.txt", HOSTS)?;
    for host in ["pg0", "lb0"] {
        stage.make_directory(&format!("{host}/bundles"))?;
        let settings = format!(
            "state: state\nbundles: bundles\nhooks: hooks.d\ntrust_bundle: PSF_CA.pem\nmode: \"0600\"\n{owner}"
        );
        stage.write(&format!("{host}/host.yaml"), &settings)?;
    }
    stage.say(&format!("Everything happens in {}", stage.directory().display()))?;

    stage.title("The declaration says who may have what")?;
    stage.run("psfca check --config ca.yaml --hosts hosts.txt", 0)?;

    stage.title("A CA is made: PSF_CA, its issuing CA, and a CA for host identities")?;
    stage.run("psfca init --config ca.yaml", 0)?;
    stage.serve("psfca serve --config ca.yaml")?;

    stage.title("Two hosts enrol, each with a token of its own; their keys never leave them")?;
    for host in ["pg0", "lb0"] {
        let token = format!("psfca token {host}.iad1.psf.io --config ca.yaml");
        stage.run(&format!("{token} | psfca enroll --config {host}/host.yaml"), 0)?;
    }

    stage.title("postgresql.psf.io is issued to pg0.iad1.psf.io, whose role allows it")?;
    stage.run("psfca issue postgresql.psf.io --config pg0/host.yaml", 0)?;
    stage.run("psfca inspect pg0/bundles/postgresql.psf.io.pem", 0)?;

    stage.title("It is refused to lb0.iad1.psf.io, whose role does not; exit code 3 means denied")?;
    stage.run("psfca issue postgresql.psf.io --config lb0/host.yaml", 3)?;
    stage.run("psfca why postgresql.psf.io lb0.iad1.psf.io --config ca.yaml", 3)?;
    if stage.directory().join("lb0/bundles/postgresql.psf.io.pem").exists() {
        bail!("lb0 has a bundle that it may not have; please report this");
    }

    stage.title("OpenSSL verifies the chain: clients need nothing but PSF_CA.pem")?;
    let bundle = "pg0/bundles/postgresql.psf.io.pem";
    stage.run(
        &format!(
            "openssl verify -x509_strict -purpose sslserver -verify_hostname postgresql.psf.io \
             -CAfile PSF_CA.pem -untrusted {bundle} {bundle}"
        ),
        0,
    )?;

    stage.title("The timer's command renews what is due; --force renews the rest as well")?;
    stage.run("psfca renew --force --config pg0/host.yaml", 0)?;

    postgresql::play(stage)?;

    stage.title("The audit has everything that was ever issued, newest first")?;
    stage.run("psfca audit list --config ca.yaml", 0)?;
    stage.say("\nDone: every step did what it should.")?;
    Ok(())
}
