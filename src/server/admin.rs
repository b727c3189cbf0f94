//! The admin socket: whoever can open it is an operator, and the kernel says who that is.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::places::{Place, Places};
use super::{DRAIN, connection};
use crate::ca::identity::Peer;
use crate::clock::Clock;
use crate::rate::{LogGate, Rate, count};

/// Owner and group may connect, nobody else.
const MODE: u32 = 0o660;
/// Operators type; they may take their time between two requests.
const IDLE: Duration = Duration::from_secs(60);
/// Connections at one time, and of these with one user: few enough for the files that the daemon may open besides the
/// network's.
const CONNECTIONS: usize = 64;
const SHARE: usize = 32;
/// Log lines about connections, which every operator can cause as often as they like.
const LINES: Rate = Rate::per_minute(count(100), count(60));

/// Why the socket cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminSocketError {
    /// The file system refuses.
    #[error("{path}: {source}")]
    File {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon answers there.
    #[error("another daemon answers at {0}; stop it first")]
    InUse(PathBuf),
    /// Something that is no socket lies there.
    #[error("{0} exists and is not a socket; move it away")]
    NotASocket(PathBuf),
}

/// The listener for operators. The file is removed when it is dropped.
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    lines: Arc<Lines>,
}

/// What is said about connections, at a bounded rate.
struct Lines {
    clock: Arc<dyn Clock>,
    gate: LogGate,
}

impl Lines {
    fn warn(&self, what: std::fmt::Arguments<'_>) {
        if let Some(left_out) = self.gate.pass(self.clock.now()) {
            tracing::warn!(left_out, "{what}");
        }
    }
}

impl AdminSocket {
    /// Makes the socket at `path`, mode 0660 and owned by the group with id `group` where one is
    /// given. A socket that a killed daemon left behind is replaced. The clock is for the rate of log lines.
    ///
    /// # Errors
    /// [`AdminSocketError`].
    pub fn bind(path: &Path, group: Option<u32>, clock: Arc<dyn Clock>) -> Result<Self, AdminSocketError> {
        let file = |source| AdminSocketError::File { path: path.to_owned(), source };
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(AdminSocketError::NotASocket(path.to_owned())),
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(AdminSocketError::InUse(path.to_owned()));
            }
            // What a killed daemon left is replaced by the rename below.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(file(error)),
        }
        // Made where nobody else can reach it, and moved into place once owner and mode are right.
        let mut private = path.as_os_str().to_owned();
        private.push(".new");
        let private = PathBuf::from(private);
        let _ = std::fs::remove_dir_all(&private);
        std::fs::DirBuilder::new().mode(0o700).create(&private).map_err(file)?;
        let made = private.join("socket");
        let listener = UnixListener::bind(&made).map_err(file)?;
        if group.is_some() {
            std::os::unix::fs::chown(&made, None, group).map_err(file)?;
        }
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(MODE)).map_err(file)?;
        std::fs::rename(&made, path).map_err(file)?;
        std::fs::remove_dir(&private).map_err(file)?;
        let lines = Arc::new(Lines { clock, gate: LogGate::new(LINES) });
        Ok(Self { listener, path: path.to_owned(), lines })
    }

    /// Serves until `stop` changes, then lets open connections finish.
    pub async fn serve(self, router: Router, mut stop: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        // Counted apart from those of the network.
        let places = Places::new(CONNECTIONS, SHARE, Arc::default());
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.changed() => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    self.lines.warn(format_args!("no connection could be accepted on the admin socket: {error}"));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let uid = match stream.peer_cred() {
                Ok(credentials) => credentials.uid(),
                Err(error) => {
                    self.lines
                        .warn(format_args!("the admin socket's peer is unknown; the connection was closed: {error}"));
                    continue;
                }
            };
            let Some(place) = places.take_for_user(uid).map(Arc::new) else {
                self.lines
                    .warn(format_args!("all connections to the admin socket are at work; one of uid {uid} was closed"));
                continue;
            };
            let (router, watcher) = (router.clone(), graceful.watcher());
            tokio::spawn(serve(stream, uid, place, router, watcher, Arc::clone(&self.lines)));
        }
        let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    }
}

/// Serves a connection until it ends or its place is given to another.
async fn serve(stream: UnixStream, uid: u32, place: Arc<Place>, router: Router, watcher: Watcher, lines: Arc<Lines>) {
    let peer = Peer::Operator { uid };
    let serving = connection::serve(stream, peer, router, IDLE, watcher, || place.at_work());
    tokio::select! {
        served = serving => {
            if let Err(error) = served {
                tracing::debug!(%error, "a connection to the admin socket ended early");
            }
        }
        () = place.taken_away() => {
            lines.warn(format_args!("too many connections to the admin socket; one of uid {uid} was closed"));
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
