//! The admin socket: whoever can open it is an operator, and the kernel says who that is.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::UnixListener;
use tokio::sync::watch;

use super::{DRAIN, connection};
use crate::ca::identity::Peer;

/// Owner and group may connect, nobody else.
const MODE: u32 = 0o660;
/// Operators type; they may take their time between two requests.
const IDLE: Duration = Duration::from_secs(60);

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
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    /// Makes the socket at `path`, mode 0660 and owned by the group with id `group` where one is
    /// given. A socket that a killed daemon left behind is replaced.
    ///
    /// # Errors
    /// [`AdminSocketError`].
    pub fn bind(path: &Path, group: Option<u32>) -> Result<Self, AdminSocketError> {
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
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves until `stop` changes, then lets open connections finish.
    pub async fn serve(self, router: Router, mut stop: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.changed() => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted on the admin socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let uid = match stream.peer_cred() {
                Ok(credentials) => credentials.uid(),
                Err(error) => {
                    tracing::warn!(%error, "the admin socket's peer is unknown; the connection was closed");
                    continue;
                }
            };
            let peer = Peer::Operator { uid };
            let serving = connection::serve(stream, peer, router.clone(), IDLE, graceful.watcher(), || ());
            tokio::spawn(async move {
                if let Err(error) = serving.await {
                    tracing::debug!(%error, "a connection to the admin socket ended early");
                }
            });
        }
        let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
