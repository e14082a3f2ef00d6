//! The socket of a lab that runs: whoever may open it asks in lines of JSON and is answered in lines
//! of JSON, in order.
//!
//! ```text
//!   folder 0700 / NAME.sock 0600 ── client ─► one request ─► answer ─┐ by the lab's own loop,
//!                                     ▲                              │ between its slices
//!                                     └──────── one answer ◄─────────┘
//! ```
//!
//! Nothing here blocks the lab: a slice answers each client at most once and stops when it has taken
//! [`SLICE`]. A client has at most one request and one answer here; it is not read from while its
//! answer is not taken, and dropped when it takes none of it for [`PATIENCE`]. Whoever answers may take
//! the connection instead ([`Reply::Taken`]): a capture is sent over it.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, chmodat, unlinkat};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::sys::clock;

/// Clients at a time; another one takes the place of the one that has been idle longest.
const CLIENTS_MAX: usize = 16;
/// Of a request, its end of line included.
const REQUEST_MAX: usize = 16 * 1024;
/// Of an answer: a table of some 200,000 routes.
pub const ANSWER_MAX: usize = 32 << 20;
/// Bytes of answers written to one client in a slice.
const WRITTEN_MAX: usize = 1 << 20;
/// After this long a slice begins no further answer.
const SLICE: Duration = Duration::from_millis(2);
/// How long a client may take none of its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a client waits for its answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// What a request is answered with.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    Ok(Value),
    /// For a person: what is wrong and what to do.
    Error(String),
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Reply {
    Answer(Answer),
    /// The connection serves another purpose from here on.
    Taken,
}

/// Who replies to requests, and is shown the connections they come by.
pub type Replies<'a> = dyn FnMut(&Value, &UnixStream) -> Reply + 'a;

/// The lab's end.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    /// Read and not yet answered.
    request: Vec<u8>,
    answer: Vec<u8>,
    /// Of the answer.
    written: usize,
    /// When it last sent or took something.
    active: Duration,
    /// It sends no more.
    ended: bool,
    /// To be dropped when it has its answer.
    refused: bool,
}

/// What a client is after its turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Keep,
    Drop,
}

impl Socket {
    /// In the folder of the user's labs, for nobody but the user.
    pub fn bind(folder: &OwnedFd, lab: &str) -> io::Result<Self> {
        // Of an earlier lab of that name; whoever holds the name's lock may.
        let _ = unlinkat(folder, file_name(lab), AtFlags::empty());
        let listener = UnixListener::bind(path(folder, lab))?;
        chmodat(folder, file_name(lab), Mode::RUSR | Mode::WUSR, AtFlags::empty())?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, clients: Vec::new() })
    }

    /// Answers what has come, each client at most once.
    pub fn serve(&mut self, reply: &mut Replies<'_>) {
        let begun = clock::monotonic();
        self.accept(begun);
        // Each slice begins with another client, so that none waits for ever behind busy ones.
        let first = self.clients.len().min(1);
        self.clients.rotate_left(first);
        self.clients.retain_mut(|client| {
            let now = clock::monotonic();
            let may_ask = now.saturating_sub(begun) < SLICE;
            client.turn(now, if may_ask { Some(&mut *reply) } else { None }) == Turn::Keep
        });
    }

    fn accept(&mut self, now: Duration) {
        for _ in 0..CLIENTS_MAX {
            // Too many descriptors, or nobody: the next slice looks again.
            let Ok((stream, _)) = self.listener.accept() else { return };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.clients.len() == CLIENTS_MAX {
                let idle = (0..CLIENTS_MAX).min_by_key(|&at| self.clients[at].active);
                self.clients.remove(idle.expect("there is one"));
            }
            self.clients.push(Client::new(stream, now));
        }
    }
}

impl Client {
    const fn new(stream: UnixStream, now: Duration) -> Self {
        Self {
            stream,
            request: Vec::new(),
            answer: Vec::new(),
            written: 0,
            active: now,
            ended: false,
            refused: false,
        }
    }

    /// Reads, is answered, and writes, as far as it goes without waiting.
    fn turn(&mut self, now: Duration, ask: Option<&mut Replies<'_>>) -> Turn {
        if self.has_answer() {
            return self.write(now);
        }
        if self.refused || self.read(now).is_err() {
            return Turn::Drop;
        }
        let line = self.request.iter().position(|&byte| byte == b'\n');
        match (line, ask) {
            (Some(end), Some(ask)) => {
                let line: Vec<u8> = self.request.drain(..=end).collect();
                match reply_to(&line, &self.stream, ask) {
                    Reply::Answer(answer) => self.answer(&answer),
                    Reply::Taken => return Turn::Drop,
                }
                self.write(now)
            }
            (None, _) if self.ended => Turn::Drop,
            (None, _) if self.request.len() >= REQUEST_MAX => {
                self.refused = true;
                self.request = Vec::new();
                let text = format!("a request is one line of at most {REQUEST_MAX} bytes");
                self.answer(&Answer::Error(text));
                self.write(now)
            }
            _ => Turn::Keep,
        }
    }

    const fn has_answer(&self) -> bool {
        self.written < self.answer.len()
    }

    fn answer(&mut self, answer: &Answer) {
        self.answer = serde_json::to_vec(answer).expect("an answer is plain data");
        if self.answer.len() >= ANSWER_MAX {
            let text = "the answer is too long; ask about one node".to_owned();
            self.answer = serde_json::to_vec(&Answer::Error(text)).expect("plain data");
        }
        self.answer.push(b'\n');
        self.written = 0;
    }

    /// Reads on until there is nothing, or as much as a request may be.
    fn read(&mut self, now: Duration) -> io::Result<()> {
        let mut part = [0; 4096];
        while !self.ended && self.request.len() < REQUEST_MAX {
            let room = part.len().min(REQUEST_MAX - self.request.len());
            match self.stream.read(&mut part[..room]) {
                Ok(0) => self.ended = true,
                Ok(length) => {
                    self.request.extend(&part[..length]);
                    self.active = now;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write(&mut self, now: Duration) -> Turn {
        let last = self.answer.len().min(self.written + WRITTEN_MAX);
        while self.written < last {
            match self.stream.write(&self.answer[self.written..last]) {
                Ok(length) => {
                    self.written += length;
                    self.active = now;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Turn::Drop,
            }
        }
        let stuck = self.has_answer() && now.saturating_sub(self.active) > PATIENCE;
        if stuck { Turn::Drop } else { Turn::Keep }
    }
}

fn reply_to(line: &[u8], stream: &UnixStream, ask: &mut Replies<'_>) -> Reply {
    match serde_json::from_slice(line) {
        Ok(request) => ask(&request, stream),
        Err(error) => Reply::Answer(Answer::Error(format!("no request in JSON: {error}"))),
    }
}

/// A client's end.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    lab: String,
    /// Read behind the last answer.
    rest: Vec<u8>,
}

#[derive(Debug, Error)]
pub enum AskError {
    #[error("lab {lab} does not answer: {source}")]
    Io { lab: String, source: io::Error },
    #[error("lab {lab} is not ready yet; try again")]
    Starting { lab: String },
    #[error("lab {lab} answers something else; it runs another version of msee: {source}")]
    Other { lab: String, source: serde_json::Error },
    /// What the lab says is wrong.
    #[error("{0}")]
    Refused(String),
}

impl Connection {
    /// To a lab whose files are in this folder.
    pub fn open(folder: &OwnedFd, lab: &str) -> Result<Self, AskError> {
        let failed = |source: io::Error| match source.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                AskError::Starting { lab: lab.to_owned() }
            }
            _ => AskError::Io { lab: lab.to_owned(), source },
        };
        let stream = UnixStream::connect(path(folder, lab)).map_err(failed)?;
        stream.set_read_timeout(Some(ANSWERED_WITHIN)).map_err(failed)?;
        stream.set_write_timeout(Some(ANSWERED_WITHIN)).map_err(failed)?;
        Ok(Self { stream, lab: lab.to_owned(), rest: Vec::new() })
    }

    /// Asks one thing and waits for the answer.
    pub fn ask<T: DeserializeOwned>(&mut self, request: &impl Serialize) -> Result<T, AskError> {
        let answer = self.send(request).and_then(|()| self.receive());
        let answer = answer.map_err(|source| AskError::Io { lab: self.lab.clone(), source })?;
        self.read_answer(&answer)
    }

    fn read_answer<T: DeserializeOwned>(&self, answer: &[u8]) -> Result<T, AskError> {
        let other = |source| AskError::Other { lab: self.lab.clone(), source };
        match serde_json::from_slice(answer).map_err(other)? {
            Answer::Ok(value) => serde_json::from_value(value).map_err(other),
            Answer::Error(text) => Err(AskError::Refused(text)),
        }
    }

    /// Asks for what is no answer in JSON. What it begins with is given with the rest of the
    /// connection.
    pub fn take_over(
        mut self,
        request: &impl Serialize,
    ) -> Result<(Vec<u8>, UnixStream), AskError> {
        let lab = self.lab.clone();
        let failed = |source| AskError::Io { lab: lab.clone(), source };
        let mut first = vec![0; 16 * 1024];
        let mut begin = || {
            self.send(request)?;
            self.stream.read(&mut first)
        };
        let length = begin().map_err(failed)?;
        first.truncate(length);
        match first.first() {
            None => Err(failed(ErrorKind::UnexpectedEof.into())),
            Some(b'{') => {
                self.rest = first;
                let answer = self.receive().map_err(failed)?;
                self.read_answer::<Value>(&answer)?;
                Err(failed(ErrorKind::InvalidData.into()))
            }
            Some(_) => Ok((first, self.stream)),
        }
    }

    fn send(&mut self, request: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut part = [0; 16 * 1024];
        let mut looked_at = 0;
        loop {
            let end = self.rest[looked_at..].iter().position(|&byte| byte == b'\n');
            if let Some(end) = end {
                return Ok(self.rest.drain(..=looked_at + end).collect());
            }
            looked_at = self.rest.len();
            if looked_at > ANSWER_MAX {
                return Err(io::Error::new(ErrorKind::InvalidData, "an answer without end"));
            }
            match self.stream.read(&mut part)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                length => self.rest.extend(&part[..length]),
            }
        }
    }
}

fn file_name(lab: &str) -> String {
    format!("{lab}.sock")
}

/// By the descriptor of the folder, since mounts may hide its path, and the path may be too long for
/// a socket's address.
fn path(folder: &OwnedFd, lab: &str) -> String {
    format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), file_name(lab))
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, mpsc};
    use std::thread::{self, JoinHandle, sleep};

    use rustix::fs::{OFlags, open};
    use serde_json::json;

    use super::*;

    /// A folder with the socket of a lab that answers what it is asked.
    struct Lab {
        folder: Arc<OwnedFd>,
        path: std::path::PathBuf,
        ended: Arc<AtomicBool>,
        slices: Option<JoinHandle<()>>,
    }

    impl Lab {
        fn start(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("msee-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            let folder = open(&path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
            let folder = Arc::new(folder);
            let ended = Arc::new(AtomicBool::new(false));
            let (bound, is_bound) = mpsc::channel();
            let (of_lab, end) = (Arc::clone(&folder), Arc::clone(&ended));
            let slices = thread::spawn(move || {
                let mut socket = Socket::bind(&of_lab, "lab").unwrap();
                bound.send(()).unwrap();
                while !end.load(Ordering::Relaxed) {
                    socket.serve(&mut |request, _| {
                        Reply::Answer(match request["big"].as_bool() {
                            Some(true) => Answer::Ok(json!("x".repeat(4 << 20))),
                            _ => Answer::Ok(request.clone()),
                        })
                    });
                    assert!(socket.clients.len() <= CLIENTS_MAX);
                    sleep(Duration::from_millis(1));
                }
            });
            is_bound.recv().unwrap();
            Self { folder, path, ended, slices: Some(slices) }
        }

        fn connect(&self) -> Connection {
            Connection::open(&self.folder, "lab").unwrap()
        }

        fn answers(&self) -> bool {
            let answer: Value = self.connect().ask(&json!({ "n": 1 })).unwrap();
            answer == json!({ "n": 1 })
        }
    }

    impl std::ops::Drop for Lab {
        fn drop(&mut self) {
            self.ended.store(true, Ordering::Relaxed);
            let ended = self.slices.take().map(JoinHandle::join);
            std::fs::remove_dir_all(&self.path).unwrap();
            if !thread::panicking() {
                ended.unwrap().unwrap();
            }
        }
    }

    #[test]
    fn requests_are_answered_in_order_and_only_the_user_may_ask() {
        let lab = Lab::start("order");
        let mode = std::fs::metadata(lab.path.join("lab.sock")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut connection = lab.connect();
        connection.stream.write_all(b"{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n").unwrap();
        connection.stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        connection.stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "{\"ok\":{\"n\":0}}\n{\"ok\":{\"n\":1}}\n{\"ok\":{\"n\":2}}\n");
    }

    #[test]
    fn garbage_is_answered_and_the_connection_goes_on() {
        let lab = Lab::start("garbage");
        let mut connection = lab.connect();
        connection.stream.write_all(b"\xff\0{{{\n\n").unwrap();
        let mut text = [0; 10];
        connection.stream.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"{\"error\":\"");
        assert!(lab.answers());
    }

    #[test]
    fn a_line_without_end_is_refused_and_its_client_dropped() {
        let lab = Lab::start("endless");
        let mut connection = lab.connect();
        // The other end closes before it has taken all of it.
        let _ = connection.stream.write_all(&vec![b'x'; 4 << 20]);
        let mut text = Vec::new();
        let _ = connection.stream.read_to_end(&mut text);
        assert!(connection.stream.write_all(b"{}\n{}\n").is_err());
        assert!(lab.answers());
    }

    #[test]
    fn who_does_not_read_holds_up_nobody() {
        let lab = Lab::start("deaf");
        let deaf: Vec<_> = (0..3)
            .map(|_| {
                let mut connection = lab.connect();
                connection.stream.set_nonblocking(true).unwrap();
                for _ in 0..100 {
                    let _ = connection.stream.write(b"{\"big\":true}\n");
                }
                connection
            })
            .collect();
        for _ in 0..20 {
            assert!(lab.answers());
        }
        drop(deaf);
    }

    #[test]
    fn who_takes_nothing_of_an_answer_is_dropped_in_time() {
        let (stream, _deaf) = UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut client = Client::new(stream, Duration::ZERO);
        client.answer(&Answer::Ok(json!("x".repeat(4 << 20))));
        let begun = Duration::from_secs(1);
        assert!(client.turn(begun, None) == Turn::Keep);
        assert!(client.turn(begun + PATIENCE, None) == Turn::Keep);
        assert!(client.turn(begun + PATIENCE * 2, None) == Turn::Drop);
    }

    #[test]
    fn the_idlest_client_makes_room() {
        let lab = Lab::start("many");
        let idle: Vec<_> = (0..CLIENTS_MAX * 3).map(|_| lab.connect()).collect();
        assert!(lab.answers());
        drop(idle);
        assert!(lab.answers());
    }
}
