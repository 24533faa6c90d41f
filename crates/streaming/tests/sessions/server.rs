//! The server's own port: tokens, paths, TLS, shutdown.

use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_streaming::{Outcome, RegisterError, Server, ServerOptions, Session, Streams, Wanted};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::support::handlers::{ALL, Dropped, OUTPUT, both, cat, pattern};
use super::support::http;
use super::support::on_sockets;
use super::support::spdy::{Client, V4, data_frame, data_frames};
use super::support::websocket;

/// The address and the path of a URL.
fn split(url: &str) -> (&str, String) {
    let (_, rest) = url.split_once("://").unwrap();
    let (address, path) = rest.split_once('/').unwrap();
    (address, format!("/{path}"))
}

async fn dial(url: &str) -> TcpStream {
    TcpStream::connect(split(url).0).await.unwrap()
}

async fn upgraded(url: &str) -> Client<TcpStream> {
    Client::connect(dial(url).await, &split(url).1, V4)
        .await
        .expect("an upgrade")
        .0
}

async fn status(url: &str, path: &str, method: &str) -> u16 {
    let fields = [
        ("Connection", "Upgrade"),
        ("Upgrade", "SPDY/3.1"),
        ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
    ];
    http::ask(&mut dial(url).await, method, path, &fields)
        .await
        .status
}

#[test]
fn a_url_is_good_for_one_session_of_its_kind() {
    on_sockets(async {
        let server = Server::bind(ServerOptions::default()).await.unwrap();
        let exec = || Session::exec(OUTPUT, |streams| both(streams, 4));
        let url = server.register(exec()).unwrap();
        let prefix = format!("http://127.0.0.1:{}/exec/", server.address().port());
        assert_eq!(url.strip_prefix(&prefix).map(str::len), Some(22), "{url}");

        let mut client = upgraded(&url).await;
        let ids = client.open_exec(&["error", "stdout", "stderr"]).await;
        assert!(client.finish(ids).await.contains("\"message\":\"4\""));
        let path = split(&url).1;
        assert_eq!(status(&url, &path, "POST").await, 404, "used");

        for (path, method, expected) in [
            ("/exec/unknown", "POST", 404),
            ("/exec/", "GET", 404),
            ("/", "GET", 404),
            ("/healthz", "GET", 404),
            ("/exec/unknown", "PUT", 405),
            ("/exec/unknown", "DELETE", 405),
        ] {
            assert_eq!(
                status(&url, path, method).await,
                expected,
                "{method} {path}"
            );
        }

        // The token is spent also if the path is of another kind, or the request is refused.
        let url = server.register(exec()).unwrap();
        let path = split(&url).1;
        let wrong = path.replace("/exec/", "/attach/");
        assert_eq!(status(&url, &wrong, "POST").await, 404);
        assert_eq!(status(&url, &path, "POST").await, 404);
        let url = server.register(exec()).unwrap();
        let path = split(&url).1;
        let plain = http::ask(&mut dial(&url).await, "GET", &path, &[]).await;
        assert_eq!(
            (plain.status, plain.body.as_str()),
            (400, "Upgrade request required")
        );
        assert_eq!(status(&url, &path, "POST").await, 404);

        let attach = server.register(Session::attach(ALL, cat)).unwrap();
        assert!(attach.contains("/attach/"));
        let forward = Session::port_forward(vec![], async |_| {
            Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
        });
        assert!(server.register(forward).unwrap().contains("/portforward/"));
        assert!(matches!(
            server.register(Session::exec(Wanted::default(), cat)),
            Err(RegisterError::NoStreams)
        ));
    });
}

#[test]
fn large_input_and_output_cross_a_socket_unchanged() {
    on_sockets(async {
        let server = Server::bind(ServerOptions::default()).await.unwrap();
        let url = server.register(Session::exec(ALL, cat)).unwrap();
        let mut client = upgraded(&url).await;
        let ids = client
            .open_exec(&["error", "stdin", "stdout", "stderr"])
            .await;
        let (mut client, mut write) = client.split();
        let bytes = pattern(16 * 1024 * 1024);
        let writing = async {
            let mut frames = data_frames(ids.stdin, &bytes);
            frames.extend(data_frame(ids.stdin, b"", true));
            write.write_all(&frames).await.unwrap();
        };
        let ((), status) = tokio::join!(writing, client.finish(ids));
        assert!(status.contains("Success"));
        assert!(client.streams[&ids.stdout].data == bytes);
    });
}

#[test]
fn two_hundred_short_commands_are_each_told_their_exit_code_at_once() {
    on_sockets(async {
        let server = Server::bind(ServerOptions::default()).await.unwrap();
        let began = Instant::now();
        for n in 0..200u8 {
            let session = Session::exec(OUTPUT, async move |_: Streams| Outcome::Exited(n));
            let url = server.register(session).unwrap();
            let status = if n % 2 == 0 {
                let mut client = upgraded(&url).await;
                let ids = client.open_exec(&["error", "stdout", "stderr"]).await;
                client.finish(ids).await
            } else {
                let ws = url.replace("http://", "ws://");
                let mut client =
                    websocket::Client::connect(dial(&url).await, &ws, &["v5.channel.k8s.io"])
                        .await
                        .expect("an upgrade");
                client.until_closed().await.text(3).to_owned()
            };
            let expected = if n == 0 {
                "Success".to_owned()
            } else {
                format!("\"message\":\"{n}\"")
            };
            assert!(status.contains(&expected), "{status}");
        }
        // One that waited for something would take a second or more.
        assert!(began.elapsed() < Duration::from_secs(40));
    });
}

#[test]
fn a_shutdown_tells_clients_and_leaves_nothing() {
    on_sockets(async {
        let server = Server::bind(ServerOptions::default()).await.unwrap();
        let dropped = Dropped::default();
        let guard = dropped.guard();
        let session = Session::exec(OUTPUT, async move |streams: Streams| {
            let (_streams, _guard) = (streams, guard);
            std::future::pending().await
        });
        let url = server.register(session).unwrap();
        let unused = Dropped::default();
        let guard = unused.guard();
        let waiting = Session::exec(OUTPUT, async move |_: Streams| {
            let _guard = guard;
            Outcome::Success
        });
        server.register(waiting).unwrap();
        let idle = dial(&url).await;
        let mut client = upgraded(&url).await;
        let ids = client.open_exec(&["error", "stdout", "stderr"]).await;
        let finishing = async {
            let status = client.finish(ids).await;
            drop(client);
            status
        };
        let (status, ()) = tokio::join!(finishing, server.shutdown());
        assert!(status.contains("the server is shutting down"), "{status}");
        assert!(dropped.is_set() && unused.is_set());
        assert!(TcpStream::connect(server.address()).await.is_err());
        drop(idle);
        server.shutdown().await;
    });
}

#[test]
fn dropping_the_server_drops_its_sessions() {
    on_sockets(async {
        let server = Server::bind(ServerOptions::default()).await.unwrap();
        let (send, gone) = tokio::sync::oneshot::channel::<()>();
        let session = Session::exec(OUTPUT, async move |streams: Streams| {
            let (_streams, _send) = (streams, send);
            std::future::pending().await
        });
        let url = server.register(session).unwrap();
        let mut client = upgraded(&url).await;
        client.open_exec(&["error", "stdout", "stderr"]).await;
        drop(server);
        assert!(gone.await.is_err());
        client.until_closed().await;
    });
}

/// A server's configuration, and a client's that trusts it.
fn tls() -> (Arc<ServerConfig>, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), client)
}

#[test]
fn tls_carries_the_same_and_offers_no_http_2() {
    on_sockets(async {
        let (config, mut client_config) = tls();
        let server = Server::bind(ServerOptions {
            tls: Some(config),
            ..ServerOptions::default()
        })
        .await
        .unwrap();
        let url = server.register(Session::exec(ALL, cat)).unwrap();
        assert!(url.starts_with("https://127.0.0.1:"));
        client_config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let connect = async |config: &ClientConfig| {
            let name = ServerName::try_from("localhost").unwrap();
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config.clone()));
            connector.connect(name, dial(&url).await).await
        };
        let stream = connect(&client_config).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let (mut client, _) = Client::connect(stream, &split(&url).1, V4)
            .await
            .expect("an upgrade");
        let ids = client
            .open_exec(&["error", "stdin", "stdout", "stderr"])
            .await;
        let (mut client, mut write) = client.split();
        let bytes = pattern(1024 * 1024);
        let writing = async {
            let mut frames = data_frames(ids.stdin, &bytes);
            frames.extend(data_frame(ids.stdin, b"", true));
            write.write_all(&frames).await.unwrap();
            write.flush().await.unwrap();
        };
        let ((), status) = tokio::join!(writing, client.finish(ids));
        assert!(status.contains("Success"));
        assert!(client.streams[&ids.stdout].data == bytes);

        client_config.alpn_protocols = vec![b"h2".to_vec()];
        assert!(connect(&client_config).await.is_err());
        // Somebody who does not speak TLS is no trouble.
        let mut plain = dial(&url).await;
        plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = plain.read_to_end(&mut rest).await;
    });
}
