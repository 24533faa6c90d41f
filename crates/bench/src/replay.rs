//! A server that answers from memory: no engine is in the loop, and what a bench measures is the client.
//!
//! It runs on a thread of its own behind a real unix socket and does as little as it can: it looks at the first line of a
//! request, and writes bytes that were made before. It reads no bodies.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

/// What a route answers.
pub enum Answer {
    /// These bytes, on a connection that is kept.
    Reply(Vec<u8>),
    /// A stream: its head, then `block` as often as `times` says, then the last chunk; then the connection is closed.
    Stream {
        /// The head of the reply.
        head: Vec<u8>,
        /// Whole chunks.
        block: Vec<u8>,
        /// How often the block is sent.
        times: usize,
    },
    /// These bytes, and then nothing until the client closes.
    Held(Vec<u8>),
}

/// A running server. Dropping it ends it.
pub struct Replay {
    dir: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Which answer a request gets: that of the first route whose text is in the request's first line.
type Routes = Vec<(&'static str, Answer)>;

impl Replay {
    /// Starts a server with these routes.
    ///
    /// # Errors
    /// When there is no directory for the socket, or no thread.
    pub fn start(routes: Routes) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let listener = std::os::unix::net::UnixListener::bind(dir.path().join("engine.sock"))?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("replay".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    match UnixListener::from_std(listener) {
                        Ok(listener) => {
                            tokio::spawn(accept(listener, Arc::new(routes)));
                            // Ends when the sender is dropped.
                            let _ = stopped.await;
                        }
                        Err(error) => eprintln!("the replay server cannot listen: {error}"),
                    }
                });
            })?;
        Ok(Self {
            dir,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("engine.sock")
    }

    /// A client of it, for an engine of API 1.55.
    ///
    /// # Panics
    /// Never: the path of a temporary directory is a well-formed endpoint.
    pub fn docker(&self) -> berth_docker::Docker {
        docker(&self.path())
    }
}

/// A client of the engine that listens at `path`.
///
/// # Panics
/// When the path is too long for a socket.
pub fn docker(path: &Path) -> berth_docker::Docker {
    let endpoint = format!("unix://{}", path.display())
        .parse()
        .expect("a socket's path is an endpoint");
    berth_docker::Docker::builder(berth_docker::ConnectOptions::new(endpoint))
        .build()
        .expect("no TLS is asked for")
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the server has been printed by its thread.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: UnixListener, routes: Arc<Routes>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let routes = routes.clone();
                tokio::spawn(async move {
                    // A client that hangs up is no failure of the server.
                    let _ = serve(stream, &routes).await;
                });
            }
            Err(error) => {
                eprintln!("the replay server cannot accept: {error}");
                return;
            }
        }
    }
}

async fn serve(mut stream: UnixStream, routes: &Routes) -> io::Result<()> {
    let mut request = Vec::with_capacity(4096);
    loop {
        request.clear();
        while !request.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        let line = request
            .split(|&byte| byte == b'\r')
            .next()
            .unwrap_or_default();
        let line = std::str::from_utf8(line).unwrap_or_default();
        match routes.iter().find(|(route, _)| line.contains(route)) {
            Some((_, Answer::Reply(reply))) => stream.write_all(reply).await?,
            Some((_, Answer::Stream { head, block, times })) => {
                stream.write_all(head).await?;
                for _ in 0..*times {
                    stream.write_all(block).await?;
                }
                return stream.write_all(b"0\r\n\r\n").await;
            }
            Some((_, Answer::Held(start))) => {
                stream.write_all(start).await?;
                // Ends when the client closes.
                stream.read_buf(&mut request).await?;
                return Ok(());
            }
            None => {
                let reason = format!("no route for {line:?}");
                let reply = format!(
                    "HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{reason}",
                    reason.len()
                );
                stream.write_all(reply.as_bytes()).await?;
            }
        }
    }
}
