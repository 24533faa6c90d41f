//! A WebSocket client: tungstenite's, which shares no code with the server.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message, http};

pub(crate) struct Client<S> {
    pub(crate) socket: WebSocketStream<S>,
    pub(crate) response: http::Response<Option<Vec<u8>>>,
}

/// What came for each channel, joined, and how the server closed.
#[derive(Debug, Default)]
pub(crate) struct Got {
    pub(crate) channels: [Vec<u8>; 8],
    pub(crate) messages: Vec<Message>,
    pub(crate) close: Option<u16>,
}

impl Got {
    pub(crate) fn text(&self, channel: usize) -> &str {
        std::str::from_utf8(&self.channels[channel]).unwrap()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) async fn connect(
        io: S,
        url: &str,
        protocols: &[&str],
    ) -> Result<Client<S>, http::Response<Option<Vec<u8>>>> {
        let mut request = url.into_client_request().unwrap();
        if !protocols.is_empty() {
            let value = protocols.join(", ").parse().unwrap();
            request
                .headers_mut()
                .insert("sec-websocket-protocol", value);
        }
        match tokio_tungstenite::client_async(request, io).await {
            Ok((socket, response)) => Ok(Client { socket, response }),
            Err(Error::Http(response)) => Err(*response),
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn exec(io: S, protocol: &str) -> Client<S> {
        let protocols = if protocol.is_empty() {
            vec![]
        } else {
            vec![protocol]
        };
        Client::connect(io, "ws://test/exec", &protocols)
            .await
            .expect("an upgrade")
    }

    pub(crate) async fn send(&mut self, channel: u8, bytes: &[u8]) {
        let message = [&[channel], bytes].concat();
        self.socket.send(Message::binary(message)).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Option<Message> {
        match self.socket.next().await? {
            Ok(message) => Some(message),
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads until the server closes; channels of binary messages.
    pub(crate) async fn until_closed(&mut self) -> Got {
        let mut got = Got::default();
        while let Some(message) = self.next().await {
            match &message {
                Message::Binary(bytes) => {
                    let (channel, bytes) = bytes.split_first().expect("a channel");
                    assert!(bytes.len() <= 32 * 1024);
                    got.channels[usize::from(*channel)].extend_from_slice(bytes);
                }
                Message::Close(frame) => {
                    got.close = frame.as_ref().map(|CloseFrame { code, .. }| (*code).into());
                }
                _ => {}
            }
            got.messages.push(message);
        }
        got
    }
}
