//! Exec, attach and port-forward as a client has them, over WebSocket.

use berth_cri::v1;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tonic::Code;

use crate::calls::{
    container_config, container_status, create, exec_sync, run, run_sandbox, start, stop_sandbox,
};
use crate::server::Server;

struct Client(WebSocketStream<TcpStream>);

impl Client {
    async fn connect(url: &str, protocol: &str) -> Self {
        let address = url.strip_prefix("http://").unwrap();
        let stream = TcpStream::connect(address.split('/').next().unwrap())
            .await
            .unwrap();
        let mut request = format!("ws://{address}").into_client_request().unwrap();
        let header = protocol.parse().unwrap();
        request
            .headers_mut()
            .insert("sec-websocket-protocol", header);
        let (socket, response) = tokio_tungstenite::client_async(request, stream)
            .await
            .unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
        Self(socket)
    }

    /// Begins a command.
    async fn exec(server: &mut Server, request: v1::ExecRequest) -> Self {
        let reply = server.runtime.exec(request).await.unwrap();
        Self::connect(&reply.into_inner().url, "v5.channel.k8s.io").await
    }

    async fn send(&mut self, channel: u8, bytes: &[u8]) {
        let message = [&[channel], bytes].concat();
        self.0.send(Message::binary(message)).await.unwrap();
    }

    /// What came on each channel until `done` says that it is enough, or the server closes.
    async fn until(&mut self, done: impl Fn(&[Vec<u8>]) -> bool) -> Vec<Vec<u8>> {
        let mut channels = vec![Vec::new(); 4];
        while !done(&channels) {
            match self.0.next().await {
                Some(Ok(Message::Binary(bytes))) => {
                    channels[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
                }
                Some(Ok(Message::Close(_))) | None => break,
                other => drop(other.unwrap().unwrap()),
            }
        }
        channels
    }

    async fn all(&mut self) -> Vec<Vec<u8>> {
        self.until(|_| false).await
    }
}

pub(crate) async fn streaming_addresses_are_for_one_use(server: &mut Server) {
    let sandbox = run_sandbox(server, "stream").await;
    let id = run(server, &sandbox, "app", "sleep 600").await;
    let request = v1::ExecRequest {
        container_id: id.clone(),
        cmd: vec!["true".to_owned()],
        stdout: true,
        ..Default::default()
    };
    let mut urls = Vec::new();
    for _ in 0..2 {
        let reply = server.runtime.exec(request.clone()).await.unwrap();
        urls.push(reply.into_inner().url);
    }
    assert!(urls[0].starts_with("http://127.0.0.1:"), "{urls:?}");
    assert_ne!(urls[0], urls[1]);
    let terminal = v1::ExecRequest {
        tty: true,
        stderr: true,
        ..request.clone()
    };
    let error = server.runtime.exec(terminal).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let none = v1::ExecRequest {
        stdout: false,
        ..request
    };
    let error = server.runtime.exec(none).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
}

pub(crate) async fn a_command_reads_its_input_and_gives_output_and_code(server: &mut Server) {
    let sandbox = run_sandbox(server, "session").await;
    let id = run(server, &sandbox, "app", "sleep 600").await;
    let request = v1::ExecRequest {
        container_id: id,
        cmd: ["sh", "-c", "cat; echo err >&2; exit 3"]
            .map(str::to_owned)
            .into(),
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let mut client = Client::exec(server, request).await;
    client.send(0, b"one\n").await;
    client.send(0, b"two\n").await;
    // Version 5 can say that the input has ended.
    client.send(255, &[0]).await;
    let channels = client.all().await;
    assert_eq!(
        (&channels[1][..], &channels[2][..]),
        (&b"one\ntwo\n"[..], &b"err\n"[..])
    );
    let status: serde_json::Value = serde_json::from_slice(&channels[3]).unwrap();
    assert_eq!(status["details"]["causes"][0]["message"], "3", "{status}");
}

pub(crate) async fn a_terminal_has_a_size_and_one_output(server: &mut Server) {
    let sandbox = run_sandbox(server, "terminal").await;
    let id = run(server, &sandbox, "app", "sleep 600").await;
    let request = v1::ExecRequest {
        container_id: id,
        cmd: [
            "sh",
            "-c",
            "until [ \"$(stty size 2>/dev/null)\" = '17 91' ]; do sleep 0.05; done; echo sized; echo err >&2",
        ]
        .map(str::to_owned)
        .into(),
        stdin: true,
        stdout: true,
        stderr: false,
        tty: true,
    };
    let mut client = Client::exec(server, request).await;
    client.send(4, br#"{"Width": 91, "Height": 17}"#).await;
    let channels = client.all().await;
    assert_eq!(String::from_utf8_lossy(&channels[1]), "sized\r\nerr\r\n");
    assert!(channels[2].is_empty());
}

/// `kubectl exec -it` and `kubectl attach -i` of a script that has nothing to say. Docker ends the output with such an input.
pub(crate) async fn output_goes_on_after_the_end_of_a_clients_input(server: &mut Server) {
    let sandbox = run_sandbox(server, "no-input").await;
    let mut config = container_config("app", "while :; do echo tick; sleep 0.1; done");
    config.stdin = true;
    let id = create(server, &sandbox, config).await;
    start(server, &id).await;
    let request = v1::AttachRequest {
        container_id: id.clone(),
        stdin: true,
        stdout: true,
        ..Default::default()
    };
    let reply = server.runtime.attach(request).await.unwrap();
    let mut client = Client::connect(&reply.into_inner().url, "v5.channel.k8s.io").await;
    client.send(255, &[0]).await;
    let ticks = client
        .until(|channels| channels[1].iter().filter(|byte| **byte == b'\n').count() > 10)
        .await;
    assert!(ticks[1].ends_with(b"tick\ntick\n"), "{ticks:?}");
    let request = v1::ExecRequest {
        container_id: id,
        cmd: ["sh", "-c", "sleep 1; echo end"].map(str::to_owned).into(),
        stdin: true,
        stdout: true,
        stderr: false,
        tty: true,
    };
    let mut client = Client::exec(server, request).await;
    client.send(255, &[0]).await;
    let channels = client.all().await;
    assert_eq!(String::from_utf8_lossy(&channels[1]), "end\r\n");
}

pub(crate) async fn an_attached_client_sees_what_is_written(server: &mut Server) {
    let sandbox = run_sandbox(server, "attached").await;
    let script = "while :; do echo tick; sleep 0.1; done";
    let id = run(server, &sandbox, "app", script).await;
    let request = v1::AttachRequest {
        container_id: id.clone(),
        stdin: false,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let url = server.runtime.attach(request).await.unwrap();
    let mut client = Client::connect(&url.into_inner().url, "v4.channel.k8s.io").await;
    let channels = client
        .until(|channels| channels[1].ends_with(b"tick\ntick\n"))
        .await;
    assert!(channels[1].ends_with(b"tick\ntick\n"));
    drop(client);
    let status = container_status(server, &id).await.unwrap();
    assert_eq!(status.state(), v1::ContainerState::ContainerRunning);
}

pub(crate) async fn a_port_of_a_pod_is_reached(server: &mut Server) {
    let sandbox = run_sandbox(server, "ports").await;
    let id = run(server, &sandbox, "app", "exec nc -ll -p 8093 -e cat").await;
    let listens = "until netstat -ltn | grep -q :8093; do sleep 0.05; done";
    exec_sync(server, &id, listens, 20).await.unwrap();
    let request = v1::PortForwardRequest {
        pod_sandbox_id: sandbox.clone(),
        port: vec![8093, 8094],
    };
    let url = server.runtime.port_forward(request).await.unwrap();
    let mut client = Client::connect(&url.into_inner().url, "v4.channel.k8s.io").await;
    client.send(0, b"ping").await;
    client.send(2, b"ping").await;
    let channels = client
        .until(|channels| channels[0].len() >= 6 && channels[3].len() > 2)
        .await;
    // Each channel begins with its port.
    assert_eq!(channels[0], [&8093u16.to_le_bytes()[..], b"ping"].concat());
    let (port, refused) = channels[3].split_at(2);
    assert_eq!(port, 8094u16.to_le_bytes());
    let refused = String::from_utf8_lossy(refused);
    assert!(refused.contains("8094"), "{refused}");
    // It ends with the pod, and the session with its last connection.
    stop_sandbox(server, &sandbox).await.unwrap();
    client.all().await;
}
