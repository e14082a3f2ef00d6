//! The applications of a drill's TCP flows on real frames: they write to and read from sockets of the
//! hosts' kernels, and write down what the model's ends do.
//!
//! ```text
//!  namespace hub.app                                         namespace dc1.erp
//!  Writer ─ socket ─ kernel ── eth0 ══ the lab ══ eth0 ── kernel ─ socket ─ Reader
//!     └─► TcpSent                                                TcpReceived ◄─┘
//! ```
//!
//! One thread has all sockets of a run, so that what a flow does costs the thread that forwards
//! nothing. What an application does, when and how much, is the model's
//! ([`Application`]); what leaves for it and when is the kernel's alone.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::lab::HOST_MTU;
use crate::model::Instant;
use crate::sys::clock;
use crate::sys::namespace::{NetworkNamespace, kernel_setting};
use crate::sys::tcp::{self, Info};
use crate::traffic::{Application, Content, REOPEN, TcpFlow, TcpReceived, TcpSent};

/// How often the kernel is asked what it knows of a connection, and how long a thread that has
/// nothing to do sleeps.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Bytes of a write or read.
const CHUNK: usize = 32 << 10;
/// Reads of a connection before another has its turn.
const READS_MAX: usize = 16;

/// What a host's kernel is told before it takes part, by paths below /proc/sys: nothing answers for
/// what is not TCP, since the model's host does; and a run knows nothing of the one before.
const SETTINGS: &[(&str, &str)] = &[
    ("net/ipv4/conf/all/arp_ignore", "8"),
    ("net/ipv4/icmp_echo_ignore_all", "1"),
    ("net/ipv6/icmp/echo_ignore_all", "1"),
    // Between two errors to one address, ms. None has been sent for a minute when the first is due,
    // which is less than this, so that none ever is.
    ("net/ipv4/icmp_ratelimit", "2147483647"),
    ("net/ipv6/icmp/ratelimit", "2147483647"),
    ("net/ipv4/tcp_no_metrics_save", "1"),
    // What Linux has where its owner has chosen nothing else: least, first, most bytes.
    ("net/ipv4/tcp_rmem", "4096 131072 6291456"),
    ("net/ipv4/tcp_wmem", "4096 16384 4194304"),
];

/// The applications of a run.
#[derive(Debug)]
pub struct KernelTcp {
    orders: Arc<Orders>,
    thread: Option<JoinHandle<Records>>,
    records: Records,
}

/// What both ends of the flows wrote down, by the flows' identifiers.
type Records = BTreeMap<u32, (TcpSent, TcpReceived)>;

/// What the thread is told; it looks every [`LOOK_EVERY`].
#[derive(Debug)]
struct Orders {
    /// No flow writes then or later: nanoseconds of the lab's time.
    stop: AtomicU64,
    end: AtomicBool,
}

/// Makes the kernel of the calling thread's namespace a host whose TCP alone takes part.
pub fn prepare() -> io::Result<()> {
    for (path, value) in SETTINGS {
        kernel_setting(path, value)?;
    }
    tcp::has_cubic()
}

impl KernelTcp {
    /// Begins the flows at their times, of which the present is `now`. To be called in a sandbox with
    /// a namespace for each host, in which its kernel has its addresses.
    pub fn start(flows: Vec<TcpFlow>, now: Instant) -> io::Result<Self> {
        let zero = clock::monotonic().saturating_sub(now.since(Instant::ZERO));
        let orders = Arc::new(Orders {
            stop: AtomicU64::new(Instant::NEVER.as_nanos()),
            end: AtomicBool::new(false),
        });
        let applications = Applications {
            listeners: listeners(&flows)?,
            connections: Vec::new(),
            writers: flows.iter().map(Writer::new).collect(),
            readers: flows.into_iter().map(Reader::new).collect(),
            zero,
            next_look: now,
            buffer: vec![0; CHUNK],
        };
        let told = Arc::clone(&orders);
        let thread = thread::Builder::new().name("tcp".to_owned());
        let thread = thread.spawn(move || applications.run(&told))?;
        Ok(Self { orders, thread: Some(thread), records: Records::new() })
    }

    /// No flow writes then or later; what the kernels have taken before still leaves.
    pub fn stop(&self, at: Instant) {
        self.orders.stop.fetch_min(at.as_nanos(), Ordering::Relaxed);
    }

    /// Closes all connections. The records are complete.
    pub fn end(&mut self) {
        self.orders.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            self.records = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }

    /// What both ends of a flow wrote down; none before the end.
    pub fn record(&self, flow: u32) -> Option<(&TcpSent, &TcpReceived)> {
        self.records.get(&flow).map(|(sent, received)| (sent, received))
    }
}

impl Drop for KernelTcp {
    fn drop(&mut self) {
        self.orders.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed.
            let _ = thread.join();
        }
    }
}

/// One for each address that flows end at.
fn listeners(flows: &[TcpFlow]) -> io::Result<Vec<TcpListener>> {
    let places: BTreeSet<(&str, SocketAddr)> = flows
        .iter()
        .map(|flow| (flow.to.host.as_str(), (flow.to.address, flow.destination_port).into()))
        .collect();
    let listen = |(host, at): (&str, SocketAddr)| inside(host, || tcp::listen(at));
    places.into_iter().map(listen).collect()
}

fn inside<T: Send>(host: &str, open: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    NetworkNamespace::open(host)?.run(open)?
}

/// What the thread has.
struct Applications {
    listeners: Vec<TcpListener>,
    /// Accepted, with the place of their flow.
    connections: Vec<Connection>,
    /// A writer and a reader for each flow, in the order of the flows.
    writers: Vec<Writer>,
    readers: Vec<Reader>,
    /// The moment at which the lab's time began.
    zero: Duration,
    next_look: Instant,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    flow: usize,
    /// Bytes read.
    offset: u64,
}

impl Applications {
    fn run(mut self, orders: &Orders) -> Records {
        while !orders.end.load(Ordering::Relaxed) {
            let stop = Instant::from_nanos(orders.stop.load(Ordering::Relaxed));
            let now = self.now();
            let look = now >= self.next_look;
            if look {
                self.next_look = now + LOOK_EVERY;
            }
            for writer in &mut self.writers {
                writer.application.stop(stop);
                writer.turn(look, &mut self.buffer, now);
            }
            self.wait();
        }
        let flows = self.writers.into_iter().zip(self.readers);
        flows.map(|(writer, reader)| (writer.flow.id, (writer.record, reader.record))).collect()
    }

    fn now(&self) -> Instant {
        Instant::ZERO + clock::monotonic().saturating_sub(self.zero)
    }

    /// Sleeps until something can be read, written or is due, and reads.
    fn wait(&mut self) {
        let due = self.writers.iter().map(Writer::due).fold(self.next_look, Instant::min);
        let left = due.since(self.now());
        let listeners = self.listeners.iter().map(|socket| PollFd::new(socket, PollFlags::IN));
        let connections = self.connections.iter();
        let connections = connections.map(|known| PollFd::new(&known.stream, PollFlags::IN));
        let writers = self.writers.iter().filter_map(|writer| {
            let stream = writer.awaited()?;
            Some(PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::OUT))
        });
        let mut polled: Vec<_> = listeners.chain(connections).chain(writers).collect();
        let timeout =
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        // Whatever ends it, what is not ready is looked at again.
        let _ = poll(&mut polled, Some(&timeout));
        let ready: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
        drop(polled);
        let (listeners, rest) = ready.split_at(self.listeners.len());
        let is_ready = rest[..self.connections.len()].to_vec();
        let now = self.now();
        let mut place = 0;
        let (readers, buffer) = (&mut self.readers, &mut self.buffer);
        self.connections.retain_mut(|connection| {
            place += 1;
            !is_ready[place - 1] || readers[connection.flow].read(connection, buffer, now)
        });
        for (listener, _) in self.listeners.iter().zip(listeners).filter(|(_, ready)| **ready) {
            while let Ok((stream, peer)) = listener.accept() {
                let of = |reader: &Reader| reader.is_of(peer, stream.local_addr().ok());
                let flow = self.readers.iter().position(of);
                if let Some(flow) = flow.filter(|_| stream.set_nonblocking(true).is_ok()) {
                    // An earlier connection of the flow has ended, whether that was heard or not.
                    self.connections.retain(|known| known.flow != flow);
                    self.connections.push(Connection { stream, flow, offset: 0 });
                }
            }
        }
    }
}

/// The end of a flow that opens connections and writes.
struct Writer {
    flow: TcpFlow,
    application: Application,
    content: Content,
    line: Line,
    /// Bytes that the connection's socket has taken.
    written: u64,
    /// Bytes that it could take are waiting.
    is_held_back: bool,
    /// As of the last look at the connection.
    seen: Info,
    record: TcpSent,
}

enum Line {
    /// Until then.
    Closed(Instant),
    Opening(TcpStream),
    Open(TcpStream),
}

impl Writer {
    fn new(flow: &TcpFlow) -> Self {
        Self {
            application: flow.application(HOST_MTU),
            content: flow.content(),
            line: Line::Closed(flow.start),
            written: 0,
            is_held_back: false,
            seen: Info::default(),
            record: TcpSent::new(),
            flow: flow.clone(),
        }
    }

    /// Does what is due. `look` says that what the kernel knows is to be written down.
    fn turn(&mut self, look: bool, buffer: &mut [u8], now: Instant) {
        let stopped = self.application.is_stopped(now);
        match &self.line {
            Line::Closed(until) if now < *until => {}
            Line::Closed(_) if stopped => self.line = Line::Closed(Instant::NEVER),
            Line::Closed(_) => self.open(now),
            Line::Opening(stream) => match stream.take_error() {
                Ok(None) if stream.peer_addr().is_ok() => self.establish(),
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => self.end(now),
            },
            Line::Open(_) => {}
        }
        let (Line::Opening(stream) | Line::Open(stream)) = &self.line else {
            let is_begun = now >= self.application.start();
            return self.record.set_busy(!stopped && is_begun, now);
        };
        let Ok(info) = tcp::info(stream) else { return self.end(now) };
        if look {
            self.note(&info, now);
        }
        let acknowledged = info.acknowledged.min(self.written);
        self.application.write(acknowledged, now);
        let limit = self.application.limit(acknowledged, self.written, now);
        if matches!(self.line, Line::Open(_)) {
            self.write(limit, buffer, now);
            self.record.set_busy(info.is_busy || limit > self.written, now);
        } else {
            self.record.set_busy(!stopped, now);
        }
    }

    fn open(&mut self, now: Instant) {
        let from = (self.flow.from.address, self.flow.source_port).into();
        let to = (self.flow.to.address, self.flow.destination_port).into();
        match inside(&self.flow.from.host, || tcp::connect(from, to)) {
            Ok(stream) => self.line = Line::Opening(stream),
            Err(_) => self.end(now),
        }
    }

    fn establish(&mut self) {
        let closed = Line::Closed(Instant::NEVER);
        if let Line::Opening(stream) = std::mem::replace(&mut self.line, closed) {
            self.line = Line::Open(stream);
        }
    }

    /// The connection is gone, or there is none; another one is opened later.
    fn end(&mut self, now: Instant) {
        self.record.ended(now);
        self.application.reconnect(self.seen.acknowledged.min(self.written));
        self.line = Line::Closed(now + REOPEN);
        self.written = 0;
        self.is_held_back = false;
        self.seen = Info::default();
    }

    /// Writes what there is up to `limit`, as far as the socket takes it.
    fn write(&mut self, limit: u64, buffer: &mut [u8], now: Instant) {
        let Line::Open(stream) = &mut self.line else { return };
        self.is_held_back = false;
        while self.written < limit {
            let len = (limit - self.written).min(buffer.len() as u64) as usize;
            self.content.fill(self.written, &mut buffer[..len]);
            match stream.write(&buffer[..len]) {
                Ok(taken) => self.written += taken as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.is_held_back = true;
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.end(now),
            }
        }
    }

    fn note(&mut self, info: &Info, now: Instant) {
        let seen = &self.seen;
        let more = |count: fn(&Info) -> u64| count(info).saturating_sub(count(seen));
        self.record.sent(more(|info| info.segments), now);
        self.record.resent(more(|info| info.retransmitted), now);
        for _ in 0..more(|info| info.timeouts) {
            self.record.timed_out(now);
        }
        if info.acknowledged > seen.acknowledged && !info.round_trip.is_zero() {
            self.record.round_trip(info.round_trip, now);
        }
        self.seen = *info;
    }

    /// When it has something to do by itself.
    fn due(&self) -> Instant {
        match self.line {
            Line::Closed(until) => until,
            Line::Opening(_) => Instant::NEVER,
            Line::Open(_) => self.application.next_write(),
        }
    }

    /// What has to become writable for it to go on.
    const fn awaited(&self) -> Option<&TcpStream> {
        match &self.line {
            Line::Opening(stream) => Some(stream),
            Line::Open(stream) if self.is_held_back => Some(stream),
            Line::Open(_) | Line::Closed(_) => None,
        }
    }
}

/// The end of a flow that reads.
struct Reader {
    ends: (SocketAddr, IpAddr),
    content: Content,
    record: TcpReceived,
}

impl Reader {
    fn new(flow: TcpFlow) -> Self {
        Self {
            ends: ((flow.from.address, flow.source_port).into(), flow.to.address),
            content: flow.content(),
            record: TcpReceived::new(flow.start),
        }
    }

    fn is_of(&self, peer: SocketAddr, local: Option<SocketAddr>) -> bool {
        peer == self.ends.0 && local.is_some_and(|local| local.ip() == self.ends.1)
    }

    /// Reads what there is. False when the connection has ended, or brought what is not its flow's.
    fn read(&mut self, connection: &mut Connection, buffer: &mut [u8], now: Instant) -> bool {
        for _ in 0..READS_MAX {
            match connection.stream.read(buffer) {
                Ok(0) => return false,
                Ok(len) if !self.content.is_all(connection.offset, &buffer[..len]) => return false,
                Ok(len) => {
                    connection.offset += len as u64;
                    self.record.deliver(len as u64, now);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }
}
