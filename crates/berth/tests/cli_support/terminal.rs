//! A terminal without a person: both ends of a pseudo-terminal.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use super::until;

/// A terminal and what was written to it so far.
pub(crate) struct Terminal {
    master: OwnedFd,
    slave: File,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    pub(crate) fn open(rows: u16, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let path = std::ffi::OsStr::from_bytes(name.as_bytes());
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OpenptFlags::NOCTTY.bits().cast_signed())
            .open(path)
            .unwrap();
        let terminal = Self {
            master,
            slave,
            seen: Arc::default(),
        };
        terminal.resize(rows, columns);
        let (mut reader, seen) = (
            File::from(terminal.master.try_clone().unwrap()),
            Arc::clone(&terminal.seen),
        );
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Ends with an error once every slave is closed.
            while let Ok(len) = reader.read(&mut buffer) {
                seen.lock().unwrap().extend_from_slice(&buffer[..len]);
            }
        });
        terminal
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(
            self.slave.as_fd(),
            Winsize {
                ws_row: rows,
                ws_col: columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            },
        )
        .unwrap();
    }

    /// The end that a program gets.
    pub(crate) fn end(&self) -> Stdio {
        self.slave.try_clone().unwrap().into()
    }

    pub(crate) fn types(&self, keys: &[u8]) {
        File::from(self.master.try_clone().unwrap())
            .write_all(keys)
            .unwrap();
    }

    pub(crate) fn modes(&self) -> Termios {
        tcgetattr(self.slave.as_fd()).unwrap()
    }

    pub(crate) fn is_raw(&self) -> bool {
        !self
            .modes()
            .local_modes
            .intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    pub(crate) fn wait_for(&self, text: &str) {
        until(&format!("{text:?} on the terminal"), || {
            let seen = self.seen.lock().unwrap();
            String::from_utf8_lossy(&seen).contains(text).then_some(())
        });
    }
}

/// Whether two modes are the same in every flag.
pub(crate) fn same(a: &Termios, b: &Termios) -> bool {
    (
        a.input_modes,
        a.output_modes,
        a.control_modes,
        a.local_modes,
    ) == (
        b.input_modes,
        b.output_modes,
        b.control_modes,
        b.local_modes,
    )
}
