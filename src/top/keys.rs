//! Keys, as the terminal gives them.

use super::app::{Input, Key};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a look for a key waits, and so how long the thread outlives its reader.
const PATIENCE: Duration = Duration::from_millis(100);

/// Reads keys on a thread of its own until nobody listens or the terminal is gone.
pub(super) fn read(inputs: mpsc::Sender<Input>) {
    std::thread::spawn(move || {
        while !inputs.is_closed() {
            let input = match event::poll(PATIENCE) {
                Ok(false) => continue,
                Ok(true) => match event::read() {
                    Ok(Event::Key(key)) => match key_of(key) {
                        Some(key) => Input::Key(key),
                        None => continue,
                    },
                    // The screen is drawn anew with its new size.
                    Ok(Event::Resize(..)) => Input::Tick,
                    Ok(_) => continue,
                    Err(_) => return,
                },
                Err(_) => return,
            };
            if inputs.blocking_send(input).is_err() {
                return;
            }
        }
    });
}

fn key_of(event: KeyEvent) -> Option<Key> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    let control = event.modifiers.contains(KeyModifiers::CONTROL);
    Some(match event.code {
        KeyCode::Char('c' | 'd') if control => Key::Interrupt,
        KeyCode::Char(_) if control || event.modifiers.contains(KeyModifiers::ALT) => return None,
        KeyCode::Char(letter) => Key::Char(letter),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Tab | KeyCode::BackTab | KeyCode::Left | KeyCode::Right => Key::Tab,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_c_is_no_letter_and_releases_are_no_keys() {
        assert_eq!(key_of(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Some(Key::Interrupt));
        assert_eq!(key_of(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::NONE)), Some(Key::Char('c')));
        assert_eq!(key_of(KeyEvent::new(KeyCode::Char('x'), KeyModifiers::ALT)), None);
        let released = KeyEvent::new_with_kind(KeyCode::Enter, KeyModifiers::NONE, KeyEventKind::Release);
        assert_eq!(key_of(released), None);
    }
}
