//! The bytes of a request.

use berth_docker::{
    ApiVersion, Body, ConnectOptions, Deadline, Docker, Method, Request, image_path, segment,
};
use serde_json::json;

use crate::support::call::{Call, Fault, OPERATION, fault};
use crate::support::fixture::ok;
use crate::support::process::{in_memory, on_sockets};
use crate::support::{Peer, Server, Transport};

const AGENT: &str = concat!("User-Agent: berth-docker/", env!("CARGO_PKG_VERSION"));

fn engine() -> Server {
    Server::memory(|mut peer: Peer| async move {
        while peer.request().await.is_some() {
            peer.send(ok("{}")).await;
        }
    })
}

#[test]
fn the_bytes_of_a_request_are_exactly_these() {
    in_memory(async {
        let server = engine();
        let docker = server.client();
        let cases: Vec<(Request, String, &[u8])> = vec![
            (
                Request::new(OPERATION, Method::Get, "/containers/json")
                    .query("all", true)
                    .query("filters", "{\"label\":[\"a=b&c\"]}"),
                format!(
                    "GET /v1.44/containers/json?all=true&filters=%7B%22label%22%3A%5B%22a%3Db%26c%22%5D%7D HTTP/1.1\r\nHost: localhost\r\n{AGENT}"
                ),
                b"",
            ),
            (
                Request::new(OPERATION, Method::Post, "/containers/web/start"),
                format!(
                    "POST /v1.44/containers/web/start HTTP/1.1\r\nHost: localhost\r\n{AGENT}\r\nContent-Length: 0"
                ),
                b"",
            ),
            (
                Request::new(OPERATION, Method::Put, "/probe"),
                format!(
                    "PUT /v1.44/probe HTTP/1.1\r\nHost: localhost\r\n{AGENT}\r\nContent-Length: 0"
                ),
                b"",
            ),
            (
                Request::new(
                    OPERATION,
                    Method::Delete,
                    format!("/containers/{}", segment("a/b c")),
                )
                .query("force", 1),
                format!(
                    "DELETE /v1.44/containers/a%2Fb%20c?force=1 HTTP/1.1\r\nHost: localhost\r\n{AGENT}"
                ),
                b"",
            ),
            (
                Request::new(OPERATION, Method::Post, "/containers/create")
                    .query("name", "web")
                    .json(&json!({"Image": "busybox"})),
                format!(
                    "POST /v1.44/containers/create?name=web HTTP/1.1\r\nHost: localhost\r\n{AGENT}\r\nContent-Type: application/json\r\nContent-Length: 19"
                ),
                b"{\"Image\":\"busybox\"}",
            ),
            (
                Request::new(
                    OPERATION,
                    Method::Post,
                    format!("/images/{}/push", image_path("reg:5000/a/b")),
                )
                .header("X-Registry-Auth", "e30="),
                format!(
                    "POST /v1.44/images/reg:5000/a/b/push HTTP/1.1\r\nHost: localhost\r\n{AGENT}\r\nX-Registry-Auth: e30=\r\nContent-Length: 0"
                ),
                b"",
            ),
            (
                Request::new(OPERATION, Method::Put, "/probe").body(Body::Stream(Box::pin(
                    futures_util::stream::iter([Ok("tar".into())]),
                ))),
                format!(
                    "PUT /v1.44/probe HTTP/1.1\r\nHost: localhost\r\n{AGENT}\r\nTransfer-Encoding: chunked"
                ),
                b"tar",
            ),
        ];
        for (request, head, body) in cases {
            docker.send(request).await.unwrap();
            let received = server.requests().pop().unwrap();
            assert_eq!(received.head, head);
            assert_eq!(received.body, body);
        }
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn custom_fields_are_sent_with_every_request() {
    in_memory(async {
        let server = engine();
        let options = server
            .options()
            .with_api_version(ApiVersion::new(1, 44))
            .unwrap();
        let options = options
            .with_header("X-Token", "secret")
            .unwrap()
            .with_header("X-Team", "berth")
            .unwrap();
        let docker = server.builder(options).build().unwrap();
        assert!(!format!("{docker:?}").contains("secret"));
        for call in [Call::Json, Call::Bytes, Call::Upgrade] {
            call.run(&docker, Deadline::Short).await;
            let received = server.requests().pop().unwrap();
            assert_eq!(
                (received.field("x-token"), received.field("x-team")),
                (vec!["secret"], vec!["berth"]),
                "{call:?}"
            );
        }
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn the_host_and_what_precedes_the_version_are_those_of_the_endpoint() {
    on_sockets(async {
        let server = Server::on(Transport::Tcp, |mut peer: Peer| async move {
            while peer.request().await.is_some() {
                peer.send(ok("{}")).await;
            }
        })
        .await;
        let options = ConnectOptions::new(
            format!("tcp://{}/engines/a%20b/", server.address())
                .parse()
                .unwrap(),
        );
        let docker = Docker::builder(options.with_api_version(ApiVersion::new(1, 44)).unwrap())
            .build()
            .unwrap();
        docker
            .send(Request::new(OPERATION, Method::Get, "/info"))
            .await
            .unwrap();
        let received = server.requests().pop().unwrap();
        assert_eq!(received.line(), "GET /engines/a%20b/v1.44/info");
        assert_eq!(received.field("host"), [server.address().to_string()]);
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn a_request_that_cannot_be_one_is_refused_before_anything_is_connected() {
    in_memory(async {
        let server = engine();
        let docker = server.negotiating_client();
        let faulty: [fn() -> Request; 5] = [
            || Request::new(OPERATION, Method::Get, "no-slash"),
            || Request::new(OPERATION, Method::Get, "/a b"),
            || Request::new(OPERATION, Method::Get, "/a\r\nHost: other"),
            || {
                Request::new(OPERATION, Method::Get, "/probe")
                    .header("X-Registry-Auth", "secret\r\nHost: other")
            },
            || {
                Request::new(OPERATION, Method::Get, "/probe")
                    .json(&std::collections::HashMap::from([(vec![1], 2)]))
            },
        ];
        for request in faulty {
            let errors = [
                docker.send(request()).await.unwrap_err(),
                docker.send_stream(request()).await.unwrap_err(),
                docker.send_upgrade(request()).await.unwrap_err(),
            ];
            for error in errors {
                assert_eq!(fault(&error), Fault::Invalid);
                assert!(!error.to_string().contains("secret"), "{error}");
            }
        }
        assert_eq!(server.accepted(), 0);
        drop(docker);
        server.finish().await;
    });
}
