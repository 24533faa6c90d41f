//! How things are printed: tables, colours.

use std::fmt::Write as _;
use std::io::Write as _;

use anstyle::{AnsiColor, Style};

use crate::exit::Failure;

/// The style of the word "error:".
pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
/// The style of the word "warning:".
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();

/// The colours of container prefixes, told apart on dark and light ground.
const PREFIXES: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Green,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::Yellow,
    AnsiColor::BrightCyan,
];

/// The style of the prefix of the `index`th container.
pub(crate) fn prefix_style(index: usize) -> Style {
    PREFIXES[index % PREFIXES.len()].on_default()
}

/// Rows with columns as wide as their widest cell, three spaces between, as kubectl prints them.
pub(crate) fn table(header: Option<&[&str]>, rows: &[Vec<String>]) -> String {
    let columns = rows
        .first()
        .map(Vec::len)
        .or(header.map(<[_]>::len))
        .unwrap_or_default();
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain(
                header
                    .and_then(|header| header.get(column))
                    .map(|cell| cell.chars().count()),
            )
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    let header: Option<Vec<String>> =
        header.map(|header| header.iter().map(|cell| (*cell).to_owned()).collect());
    for row in header.iter().chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:width$}   ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Writes to standard output. A reader that has gone away ends the command quietly, as a closed pipe ends others.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["web".to_owned(), "1/1".to_owned()],
            vec!["database".to_owned(), "0/1".to_owned()],
        ];
        assert_eq!(
            table(Some(&["NAME", "READY"]), &rows),
            "NAME       READY\nweb        1/1\ndatabase   0/1\n"
        );
        assert_eq!(table(None, &[]), "");
    }
}
