//! The terminal while the live view has it: entered and left cleanly, keys read, screen drawn.

use std::io;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use super::draw::draw;
use super::screen::Screen;

/// The terminal in the hands of the live view; given back when dropped, also after a panic.
#[derive(Debug)]
pub struct Live {
    terminal: DefaultTerminal,
}

impl Live {
    /// Takes over the terminal.
    ///
    /// # Errors
    ///
    /// Returns what the system said when the terminal cannot be taken over.
    pub fn open() -> io::Result<Self> {
        Ok(Self { terminal: ratatui::try_init()? })
    }

    /// Shows `screen`.
    ///
    /// # Errors
    ///
    /// Returns what the system said when the terminal cannot be written to.
    pub fn show(&mut self, screen: &Screen) -> io::Result<()> {
        self.terminal.draw(|frame| draw(frame, screen)).map(drop)
    }

    /// Waits up to `patience` for a key and says whether it asks to stop.
    ///
    /// The terminal hands Ctrl-C over as a key, not as a signal, while the view has it.
    ///
    /// # Errors
    ///
    /// Returns what the system said when the terminal cannot be read.
    pub fn asked_to_stop(&mut self, patience: Duration) -> io::Result<bool> {
        if !event::poll(patience)? {
            return Ok(false);
        }
        Ok(
            matches!(event::read()?, Event::Key(key) if key.kind != KeyEventKind::Release && stops(key.code, key.modifiers)),
        )
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn stops(code: KeyCode, modifiers: KeyModifiers) -> bool {
    match code {
        KeyCode::Char('c' | 'd') => modifiers.contains(KeyModifiers::CONTROL),
        KeyCode::Char('q') | KeyCode::Esc => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_at_the_keys_that_stop_programs() {
        let (none, control) = (KeyModifiers::NONE, KeyModifiers::CONTROL);
        let c = KeyCode::Char('c');
        let cases = [
            (c, control, true),
            (c, none, false),
            (KeyCode::Char('q'), none, true),
            (KeyCode::Enter, none, false),
        ];
        for (code, modifiers, expected) in cases {
            assert_eq!(stops(code, modifiers), expected, "{code:?} {modifiers:?}");
        }
    }
}
