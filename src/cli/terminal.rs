//! Standard output: what it can show, and writing to it.

use std::io::{IsTerminal, Write, stdout};

use anyhow::{Context, Result};

use super::page::Style;

/// Where nobody says how wide it is.
const WIDTH: usize = 80;

/// What standard output can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// How pages are laid out.
    pub style: Style,
    /// Whether it is a screen that can be cleared, and its lines.
    pub lines: Option<usize>,
}

impl Terminal {
    /// Look at standard output, and at COLUMNS, NO_COLOR and TERM.
    #[must_use]
    pub fn look() -> Self {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let screen = stdout().is_terminal() && set("TERM").is_none_or(|term| term != "dumb");
        let size = terminal_size::terminal_size().filter(|_| screen);
        let columns = set("COLUMNS").and_then(|text| text.parse().ok());
        let width = columns.or(size.map(|(width, _)| width.0.into())).unwrap_or(WIDTH);
        Self {
            style: Style { width, colour: screen && set("NO_COLOR").is_none() },
            lines: size.map(|(_, height)| height.0.into()),
        }
    }
}

/// Write to standard output.
///
/// # Errors
/// When it is closed.
pub fn show(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("can't write the output")
}

/// `text` as the whole screen: written over what was there, so that nothing flickers.
#[must_use]
pub fn frame(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    let room = lines.saturating_sub(1).max(1);
    let mut frame = String::from("\u{1b}[H");
    let shown = if all.len() > room { room - 1 } else { all.len() };
    for line in all.iter().take(shown) {
        frame += &format!("{line}\u{1b}[K\n");
    }
    if shown < all.len() {
        frame += &format!("\u{1b}[0m… {} more lines\u{1b}[K\n", all.len() - shown);
    }
    frame + "\u{1b}[J"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_the_screen() {
        assert_eq!(frame("a\nb\n", 3), "\u{1b}[Ha\u{1b}[K\nb\u{1b}[K\n\u{1b}[J");
        let cut = frame("a\nb\nc\nd\n", 4);
        assert!(cut.contains("… 2 more lines"), "{cut:?}");
        assert_eq!(cut.matches('\n').count(), 3);
    }
}
