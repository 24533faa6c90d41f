//! A way to the registry of the tests that can be held up in the middle of a layer.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// How much of what the registry says passes on each connection while the gate is shut: manifests do, the layer does not.
const PASSES: usize = 64 * 1024;

/// A relay on a loopback port, which engines take without TLS.
pub(crate) struct Relay {
    pub(crate) address: String,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    open: bool,
    /// How many connections wait before the gate.
    held: usize,
}

impl Relay {
    pub(crate) fn to(registry: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let gate = Arc::<Gate>::default();
        let shared = gate.clone();
        // Ends with the process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(&registry)
                    .expect("the registry of BERTH_TEST_REGISTRY answers");
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || copy(from, to, |_| {}));
                let gate = shared.clone();
                std::thread::spawn(move || copy(server, client, |passed| gate.pass(passed)));
            }
        });
        Self { address, gate }
    }

    /// Shuts the gate, or opens it for all who wait.
    pub(crate) fn set_open(&self, open: bool) {
        self.gate.state.lock().unwrap().open = open;
        self.gate.changed.notify_all();
    }

    /// Whether somebody waits before the gate.
    pub(crate) fn holds(&self) -> bool {
        self.gate.state.lock().unwrap().held > 0
    }
}

impl Gate {
    fn pass(&self, passed: usize) {
        if passed < PASSES {
            return;
        }
        let mut state = self.state.lock().unwrap();
        state.held += 1;
        while !state.open {
            state = self.changed.wait(state).unwrap();
        }
        state.held -= 1;
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, mut before_each: impl FnMut(usize)) {
    let mut buffer = [0; 16 * 1024];
    let mut passed = 0;
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        passed += len;
        before_each(passed);
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Read), to.shutdown(Shutdown::Write));
}
