//! Connections that end too soon, at every byte of what real engines said.

use berth_docker::{Deadline, Phase};

use crate::support::call::{ALL, Call, Fault, Sent, fault};
use crate::support::fixture::{LAST_CHUNK, UPGRADED, chunk, frame, recorded};
use crate::support::process::{in_memory, on_sockets};
use crate::support::{Peer, SOCKETS, Server, Transport, at_rest};

/// How the engine goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Fin,
    Reset,
}

/// A reply to `call` as an engine sends it, in chunks of odd sizes, and the length of its head.
fn reply(call: Call) -> (Vec<u8>, usize) {
    let body = call.body();
    let head = match call {
        Call::Upgrade => return ([UPGRADED.as_bytes(), &body].concat(), UPGRADED.len()),
        Call::Json | Call::Reply => format!(
            "HTTP/1.1 200 OK\r\nApi-Version: 1.44\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ),
        _ => String::from_utf8(recorded("logs-mux.head")).unwrap(),
    };
    let body = match call {
        Call::Json | Call::Reply => body,
        _ => [
            body.chunks(11).flat_map(chunk).collect(),
            LAST_CHUNK.as_bytes().to_vec(),
        ]
        .concat(),
    };
    ([head.as_bytes(), &body].concat(), head.len())
}

/// Lets the engine go away after each prefix of the reply, and checks what the call makes of it.
async fn cut_everywhere(transport: Transport, call: Call, end: End) {
    let (wire, head) = reply(call);
    let cuts = wire.len();
    let server = Server::on(transport, move |mut peer: Peer| {
        let wire = reply(call).0;
        async move {
            match end {
                End::Fin => drop(peer.request().await),
                // Bytes left unread make the end of a unix socket a reset.
                End::Reset => peer.request_but_one_byte().await,
            }
            peer.send(&wire[..peer.index]).await;
            match end {
                End::Fin => drop(peer),
                End::Reset => peer.reset(),
            }
        }
    })
    .await;
    let docker = server.client();
    for cut in 0..cuts {
        let case = format!("{call:?} over {transport:?}, {end:?} after {cut} of {cuts} bytes");
        let outcome = call.run(&docker, Deadline::Short).await;
        at_rest(&docker, 0);
        if cut < head {
            assert_eq!(
                fault(outcome.error()),
                Fault::NoAnswer(Phase::Headers, Sent::Yes),
                "{case}"
            );
        } else if call != Call::Upgrade {
            assert_eq!(
                fault(outcome.error()),
                Fault::NoAnswer(Phase::Body, Sent::Yes),
                "{case}"
            );
        } else if transport == Transport::Memory {
            // Behind an upgrade only the frames tell a cut from an end.
            let whole = [0, 12, 24].contains(&(cut - head));
            assert_eq!(
                outcome.errors.iter().map(fault).collect::<Vec<_>>(),
                if whole {
                    vec![]
                } else {
                    vec![Fault::Malformed]
                },
                "{case}"
            );
        }
    }
    assert_eq!(
        server.accepted(),
        cuts,
        "nothing is asked twice on a fresh connection"
    );
    drop(docker);
    server.finish().await;
}

#[test]
fn a_reply_cut_at_any_byte_is_never_a_clean_end() {
    in_memory(async {
        for call in ALL {
            cut_everywhere(Transport::Memory, call, End::Fin).await;
        }
    });
}

#[test]
fn a_reply_cut_at_any_byte_of_a_socket_is_never_a_clean_end() {
    on_sockets(async {
        for transport in SOCKETS {
            cut_everywhere(*transport, Call::Json, End::Fin).await;
        }
    });
}

#[test]
fn a_reset_at_any_byte_of_a_socket_is_never_a_clean_end() {
    on_sockets(async {
        for transport in [Transport::Unix, Transport::Tcp] {
            for call in [Call::Json, Call::Frames] {
                cut_everywhere(transport, call, End::Reset).await;
            }
        }
    });
}

#[test]
fn a_refusal_cut_at_any_byte_of_its_reason_still_is_a_refusal() {
    in_memory(async {
        let wire = recorded("errors/404-no-such-container.http");
        let head = wire
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .unwrap()
            + 4;
        for call in ALL {
            let server = Server::memory(|mut peer: Peer| async move {
                peer.request().await;
                let wire = recorded("errors/404-no-such-container.http");
                peer.send(&wire[..peer.index]).await;
            });
            let docker = server.client();
            for cut in 0..wire.len() {
                let outcome = call.run(&docker, Deadline::Short).await;
                let expected = if cut < head {
                    Fault::NoAnswer(Phase::Headers, Sent::Yes)
                } else {
                    Fault::Refused(404)
                };
                assert_eq!(
                    fault(outcome.error()),
                    expected,
                    "{call:?} after {cut} bytes"
                );
                if cut > head {
                    // What came of the reason is kept: as it came, or its words once they are all there.
                    let came = String::from_utf8_lossy(&wire[head..cut]).into_owned();
                    let words = if came.ends_with('}') {
                        "No such container: absent"
                    } else {
                        &came
                    };
                    assert!(
                        outcome.error().message().contains(words),
                        "{call:?} after {cut} bytes: {}",
                        outcome.error()
                    );
                }
                at_rest(&docker, 0);
            }
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn a_multiplexed_stream_that_ends_within_a_frame_is_cut_however_cleanly_its_body_ends() {
    in_memory(async {
        let wire = [frame(1, "out\n"), frame(2, "err\n")].concat();
        for call in [Call::Frames, Call::Lines] {
            for cut in 0..=wire.len() {
                let body = chunk(&wire[..cut]);
                let reply = if cut == 0 {
                    LAST_CHUNK.as_bytes().to_vec()
                } else {
                    [body.as_slice(), LAST_CHUNK.as_bytes()].concat()
                };
                let server = Server::memory(move |mut peer: Peer| {
                    let reply = reply.clone();
                    async move {
                        peer.request().await;
                        peer.send(recorded("logs-mux.head")).await;
                        peer.send(reply).await;
                        peer.gone().await;
                    }
                });
                let docker = server.client();
                let outcome = call.run(&docker, Deadline::Short).await;
                let faults: Vec<_> = outcome.errors.iter().map(fault).collect();
                assert_eq!(
                    faults,
                    if [0, 12, 24].contains(&cut) {
                        vec![]
                    } else {
                        vec![Fault::Malformed]
                    },
                    "{call:?} cut after {cut}"
                );
                at_rest(&docker, 0);
                drop(docker);
                server.finish().await;
            }
        }
    });
}
