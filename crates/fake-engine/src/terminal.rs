//! Owns the size of a terminal. Knows nothing of what is written on it.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::http::{ApiError, Call};

/// A terminal, shared between its process and the requests that change it.
#[derive(Debug, Default)]
pub(crate) struct Terminal(AtomicU32);

impl Terminal {
    /// A terminal of this size, as rows and columns.
    pub(crate) fn new(size: Size) -> Self {
        let terminal = Self::default();
        terminal.resize(size);
        terminal
    }

    pub(crate) fn resize(&self, size: Size) {
        let both = u32::from(size.rows) << 16 | u32::from(size.columns);
        self.0.store(both, Ordering::Relaxed);
    }

    pub(crate) fn size(&self) -> Size {
        let [a, b, c, d] = self.0.load(Ordering::Relaxed).to_be_bytes();
        Size {
            rows: u16::from_be_bytes([a, b]),
            columns: u16::from_be_bytes([c, d]),
        }
    }
}

/// Rows and columns; 0 by 0 is a size that nobody told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

impl Size {
    /// From what a `ConsoleSize` holds: height and width.
    pub(crate) fn of_console(size: &[u32]) -> Self {
        let number = |at: usize| size.get(at).map_or(0, |number| cut(*number));
        Self {
            rows: number(0),
            columns: number(1),
        }
    }

    /// From `h` and `w` of a resize request.
    pub(crate) fn of_call(call: &Call) -> Result<Self, ApiError> {
        let number = |name: &str, long: &str| {
            let text = call.query.get(name).unwrap_or_default();
            text.parse::<u32>().map(cut).map_err(|_| {
                ApiError::bad(format!(
                    "invalid resize {long} {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
                ))
            })
        };
        Ok(Self {
            rows: number("h", "height")?,
            columns: number("w", "width")?,
        })
    }
}

/// The kernel has 16 bits for each.
fn cut(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
