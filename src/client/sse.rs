//! Server-sent events, as far as a watch needs them: ids and data. Lines end in LF or CR LF.

use bytes::{Buf, BytesMut};

/// Bytes of one event at most: a job's view with its row errors is far below.
pub(super) const EVENT_BYTES_MAX: usize = 8 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SseEvent {
    /// The last id that was given.
    pub(super) id: String,
    /// Its data lines, joined by line feeds.
    pub(super) data: String,
}

/// Bytes in, events out.
#[derive(Debug, Default)]
pub(super) struct SseParser {
    buffer: BytesMut,
    /// How much of the buffer is known to have no line end.
    scanned: usize,
    id: String,
    data: Option<String>,
}

/// An event larger than [`EVENT_BYTES_MAX`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {EVENT_BYTES_MAX} bytes")]
pub(super) struct EventTooLarge;

impl SseParser {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), EventTooLarge> {
        if self.buffer.len() + self.data.as_ref().map_or(0, String::len) + bytes.len() > EVENT_BYTES_MAX {
            return Err(EventTooLarge);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole event. An event without data is none, as the standard says.
    pub(super) fn next(&mut self) -> Option<SseEvent> {
        while let Some(line) = self.line() {
            if line.is_empty() {
                if let Some(data) = self.data.take() {
                    return Some(SseEvent { id: self.id.clone(), data });
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" if !value.contains('\0') => value.clone_into(&mut self.id),
                "data" => match &mut self.data {
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                    None => self.data = Some(value.to_owned()),
                },
                _ => {}
            }
        }
        None
    }

    fn line(&mut self) -> Option<String> {
        match self.buffer[self.scanned..].iter().position(|&b| b == b'\n') {
            None => {
                self.scanned = self.buffer.len();
                None
            }
            Some(offset) => {
                let line = self.buffer.split_to(self.scanned + offset);
                self.buffer.advance(1);
                self.scanned = 0;
                let line = line.strip_suffix(b"\r").unwrap_or(&line);
                Some(String::from_utf8_lossy(line).into_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{EVENT_BYTES_MAX, EventTooLarge, SseEvent, SseParser};

    fn parse(pieces: &[&[u8]]) -> Vec<SseEvent> {
        let mut parser = SseParser::default();
        let mut events = Vec::new();
        for piece in pieces {
            parser.push(piece).unwrap();
            while let Some(event) = parser.next() {
                events.push(event);
            }
        }
        events
    }

    fn event(id: &str, data: &str) -> SseEvent {
        SseEvent { id: id.into(), data: data.into() }
    }

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let text = b": hello\n\nid: 1\ndata: {\"a\":\n\nretry: 5\r\nid:2\r\ndata: x\r\ndata:  y\r\n\r\n:\n\ndata\n\nevent: z\n\ndata: half\n";
        let expected = [event("1", "{\"a\":"), event("2", "x\n y"), event("2", "")];
        assert_eq!(parse(&[text]), expected);
        for cut in 0..text.len() {
            let (one, two) = text.split_at(cut);
            assert_eq!(parse(&[one, two]), expected, "cut at {cut}");
        }
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(parse(&single), expected);
    }

    #[test]
    fn endless_events_are_refused() {
        let mut parser = SseParser::default();
        let line = vec![b'x'; EVENT_BYTES_MAX];
        parser.push(&line).unwrap();
        assert_eq!(parser.next(), None);
        assert_eq!(parser.push(b"x"), Err(EventTooLarge));
    }
}
