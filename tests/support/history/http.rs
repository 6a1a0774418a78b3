//! The smallest client of the API that tells a whole answer from a part of one. The product's own client is not used:
//! what it does about broken connections is its business, and here every try is to be seen.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// For a connection on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than a master is stopped, so that its late answers are seen as well.
const READ_TIMEOUT: Duration = Duration::from_secs(8);
/// A larger body is none of this harness.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// The media type of its body.
    #[allow(dead_code, reason = "for tests that look at one answer")]
    pub media_type: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The code of a problem.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether to try again later.
    pub fn is_busy(&self) -> bool {
        matches!(self.status, 429 | 503)
    }
}

/// A connection that is opened again when it breaks.
pub struct Client {
    address: SocketAddr,
    token: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    /// A client without a connection.
    pub fn new(address: SocketAddr, token: &str) -> Self {
        Self { address, token: token.to_owned(), stream: None }
    }

    /// Asks once. After an error nobody knows whether the master has heard.
    pub fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&self.address, CONNECT_TIMEOUT)?;
                stream.set_read_timeout(Some(READ_TIMEOUT))?;
                stream.set_write_timeout(Some(READ_TIMEOUT))?;
                stream.set_nodelay(true)?;
                BufReader::new(stream)
            }
        };
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n",
            self.address,
            self.token,
            body.len()
        );
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += "\r\n";
        let mut request = request.into_bytes();
        request.extend_from_slice(body);
        stream.get_mut().write_all(&request)?;
        let (answer, keep) = read_answer(&mut stream)?;
        if keep {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    /// Asks for something that is only read.
    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.ask("GET", path, &[], b"")
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// An answer, and whether its connection can be used again.
fn read_answer(stream: &mut impl BufRead) -> io::Result<(Answer, bool)> {
    let status_line = read_line(stream)?;
    let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| malformed(&status_line))?;
    let (mut length, mut chunked, mut keep) = (None, false, true);
    let mut media_type = String::new();
    loop {
        let line = read_line(stream)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed(&line))?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.parse::<u64>().map_err(|_| malformed(&line))?),
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "content-type" => media_type = value.to_owned(),
            "connection" => keep = !value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            let line = read_line(stream)?;
            let size =
                u64::from_str_radix(line.split(';').next().unwrap_or_default(), 16).map_err(|_| malformed(&line))?;
            read_exactly(stream, size, &mut body)?;
            if !read_line(stream)?.is_empty() {
                return Err(malformed("a chunk is longer than it says"));
            }
            if size == 0 {
                break;
            }
        }
    } else {
        read_exactly(stream, length.unwrap_or(0), &mut body)?;
    }
    Ok((Answer { status, media_type, body }, keep))
}

fn read_exactly(stream: &mut impl BufRead, count: u64, body: &mut Vec<u8>) -> io::Result<()> {
    if body.len() as u64 + count > BODY_BYTES_MAX {
        return Err(malformed("the answer is too long"));
    }
    if stream.take(count).read_to_end(body)? as u64 == count {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
