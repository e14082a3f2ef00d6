//! Ports on AF_PACKET sockets: an end of a veth pair, or an interface that was there before.
//!
//! ```text
//!              ┌─ BFD ───────────┐ read first
//!              ├─ BGP            │
//!  interface ──┤                 ├──► frames, outer tag back in its place
//!              ├─ ARP, ND        │
//!              └─ everything else┘ read last
//!            ◄─── transmit socket, past the queueing discipline ◄── frames
//!            ◄─── second transmit socket, for what that one refuses
//! ```
//!
//! Each of the four is a socket with a queue of its own: a storm of ARP fills its own and loses no BFD.
//! The last has a ring in front of its queue, so that to look at it costs no system call.
//!
//! The kernel takes the outer tag off and says it beside the frame; the port puts it back inline.
//! Super-frames and partial checksums arrive as the sender's kernel made them. Between our own
//! namespaces they leave so too, which is what makes TCP fast; an attached port sends what any
//! device understands.

mod attached;
mod filter;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;

use crate::io::frame::{HEADROOM, LARGE_SLOT, SMALL_SLOT};
use crate::io::gso::{self, Layout, Transport};
use crate::io::packet::filter::Class;
use crate::io::port::{Counters, Port};
use crate::io::{Frame, Frames, PartialChecksum};
use crate::model::Instant;
use crate::sys::packet::{
    Error, Interface, Receiver, Ring, Sender, Slot, Socket, Tag, TransmitPath, VnetHeader, vnet,
};
use crate::wire::tcp::{self, Flags};
use crate::wire::vlan;

pub use attached::AttachedPort;

/// Frames of a system call.
const BATCH: usize = 64;
/// Longest frames read at once: more of them fall out of the cache between
/// being received and being sent.
const LARGE_BATCH: usize = 16;
/// How often control is looked for: a look at a socket is a system call, and a frame of data that comes
/// meanwhile waits for it. What control decides, it decides in milliseconds.
const CONTROL_EVERY: Duration = Duration::from_micros(50);

/// What leaves a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Super-frames and partial checksums as they are: the other end is a kernel of ours.
    VnetHdr,
    /// Ordinary frames with complete checksums: the other end may be anything.
    Attached,
}

/// A port on an interface.
#[derive(Debug)]
pub struct PacketPort {
    interface: Option<Interface>,
    mode: Mode,
    /// BFD, BGP, ARP and ND, in the order of [`Class::CONTROL`].
    control: [Socket; Class::CONTROL.len()],
    data: Ring,
    driver: Socket,
    queue: Socket,
    receiver: Receiver,
    sender: Sender,
    /// When the sockets of control are read next.
    control_due: Instant,
    /// What the next flush sends; each has its header in front.
    waiting: Vec<Frame>,
    /// Room for the segments of a super-frame that an attached port sends.
    ordinary: Vec<Frame>,
    counters: Counters,
}

impl PacketPort {
    /// Opens the sockets of a port in the network namespace of the calling thread. The port may be
    /// used by any thread.
    pub fn open(interface: Interface, mode: Mode) -> Result<Self, Error> {
        let mut port = Self::unplugged(interface.name(), mode)?;
        port.plug_into(interface)?;
        Ok(port)
    }

    /// Opens the sockets of a port whose interface may come later.
    fn unplugged(name: &str, mode: Mode) -> Result<Self, Error> {
        let receiver = |class| Socket::receiver(name, &filter::program(class));
        let [bfd, bgp, neighbor] = Class::CONTROL.map(receiver);
        Ok(Self {
            control: [bfd?, bgp?, neighbor?],
            data: Ring::receiver(name, &filter::program(Class::Data))?,
            driver: Socket::transmitter(name, TransmitPath::Driver)?,
            queue: Socket::transmitter(name, TransmitPath::Queue)?,
            interface: None,
            mode,
            receiver: Receiver::new(LARGE_BATCH, HEADROOM, SMALL_SLOT, LARGE_SLOT),
            sender: Sender::new(BATCH),
            control_due: Instant::ZERO,
            waiting: Vec::with_capacity(BATCH),
            ordinary: Vec::new(),
            counters: Counters::default(),
        })
    }

    /// Puts the sockets at an interface, or at the one that came in the place of another.
    fn plug_into(&mut self, interface: Interface) -> Result<(), Error> {
        // The kernel gives a frame to the socket that came first last, and to the last without a copy.
        self.data.socket().receive_at(&interface)?;
        for control in &self.control {
            control.receive_at(&interface)?;
        }
        for transmitting in [&self.driver, &self.queue] {
            transmitting.transmit_at(&interface)?;
        }
        self.interface = Some(interface);
        Ok(())
    }

    /// Whether every socket is at that interface.
    fn is_at(&self, interface: &Interface) -> bool {
        let others = [self.data.socket(), &self.driver, &self.queue];
        let mut sockets = self.control.iter().chain(others);
        sockets.all(|socket| socket.is_at(interface))
    }

    /// None before there was one.
    pub const fn interface(&self) -> Option<&Interface> {
        self.interface.as_ref()
    }

    /// Receives control from one socket, at most `max` frames, and returns how many.
    fn receive_control(
        &mut self,
        at: usize,
        max: usize,
        into: &mut Vec<Frame>,
        frames: &mut Frames,
    ) -> usize {
        // An interface that is down or gone says so once, and receives nothing.
        let received = self.receiver.receive(&self.control[at], max).unwrap_or(0);
        for at in 0..received {
            let Some(frame) = self.take(at, frames) else {
                self.counters.receive_dropped += 1;
                continue;
            };
            self.counters.received += frame.meta.wire_packets();
            // It ends here or close by, in what checks checksums.
            let missing = gso::ordinary(frame, into, frames);
            self.counters.received -= missing;
            self.counters.receive_dropped += missing;
        }
        received
    }

    /// Receives what is not control, at most `max` frames.
    fn receive_data(&mut self, max: usize, into: &mut Vec<Frame>, frames: &mut Frames) {
        let (mut left, mut long_left) = (max, LARGE_BATCH);
        while left > 0 && long_left > 0 {
            let Some(slot) = self.data.front() else { return };
            match slot {
                Slot::Frame { header, tag, bytes } => {
                    let frame = frames.allocate_from(bytes);
                    let frame = frame.and_then(|frame| dress(frame, header, tag, frames));
                    self.receive_one(frame, into);
                    self.data.release();
                    left -= 1;
                }
                Slot::Queued => {
                    let queued = self.data.queued(left.min(long_left));
                    let Ok(received) = self.receiver.receive(self.data.socket(), queued) else {
                        return;
                    };
                    for at in 0..received {
                        let frame = self.take(at, frames);
                        self.receive_one(frame, into);
                        self.data.release();
                    }
                    if received == 0 {
                        self.counters.kernel_dropped += 1;
                        self.data.release();
                    }
                    left -= received;
                    long_left -= received;
                }
                Slot::Lost => {
                    self.counters.kernel_dropped += 1;
                    self.data.release();
                }
            }
        }
    }

    fn receive_one(&mut self, frame: Option<Frame>, into: &mut Vec<Frame>) {
        match frame {
            Some(frame) => {
                self.counters.received += frame.meta.wire_packets();
                into.push(frame);
            }
            None => self.counters.receive_dropped += 1,
        }
    }

    /// A frame of the receiver's last call, as it was on the wire.
    fn take(&mut self, at: usize, frames: &mut Frames) -> Option<Frame> {
        let arrival = self.receiver.arrival(at);
        if arrival.truncated {
            return None;
        }
        let buffer = if HEADROOM + arrival.len <= SMALL_SLOT {
            arrival.small
        } else {
            arrival.large[HEADROOM..SMALL_SLOT].copy_from_slice(&arrival.small[HEADROOM..]);
            arrival.large
        };
        let frame = frames.adopt(buffer, arrival.len)?;
        dress(frame, arrival.header, arrival.tag, frames)
    }

    /// Makes a frame what an attached device takes.
    fn transmit_complete(&mut self, frame: Frame, frames: &mut Frames) {
        let mut ordinary = std::mem::take(&mut self.ordinary);
        self.counters.transmit_dropped += gso::ordinary(frame, &mut ordinary, frames);
        for frame in ordinary.drain(..) {
            self.enqueue(VnetHeader::default(), frame, frames);
        }
        self.ordinary = ordinary;
    }

    /// Says in front of a frame what it is.
    fn transmit_as_it_is(&mut self, mut frame: Frame, frames: &mut Frames) {
        let header = if frame.meta.is_super_frame() {
            let Some(layout) = Layout::of(frames.bytes(&frame), frame.meta) else {
                self.counters.transmit_dropped += frame.meta.wire_packets();
                return frames.free(frame);
            };
            if frame.partial_checksum().is_none() {
                layout.make_partial(&mut frame, frames);
            }
            super_frame_header(&layout, frame.meta.gso_size, frames.bytes(&frame))
        } else {
            frame.partial_checksum().map_or_else(VnetHeader::default, partial_header)
        };
        self.enqueue(header, frame, frames);
    }

    fn enqueue(&mut self, header: VnetHeader, mut frame: Frame, frames: &mut Frames) {
        if !frame.extend_front(VnetHeader::LEN) {
            self.counters.transmit_dropped += frame.meta.wire_packets();
            return frames.free(frame);
        }
        frames.bytes_mut(&frame)[..VnetHeader::LEN].copy_from_slice(&header.to_bytes());
        self.waiting.push(frame);
        if self.waiting.len() == BATCH {
            self.flush(frames);
        }
    }

    /// How many of the frames that wait, from `first` on, are done with: sent or dropped.
    fn send(&mut self, first: usize, frames: &Frames) -> usize {
        let waiting = &self.waiting[first..];
        let packets = |count: usize| -> u64 {
            waiting[..count].iter().map(|frame| frame.meta.wire_packets()).sum()
        };
        let bytes = || waiting.iter().map(|frame| frames.bytes(frame));
        let sent = match self.sender.send(&self.driver, bytes()) {
            Err(error) if is_full(&error) => self.sender.send(&self.queue, bytes().take(1)),
            outcome => outcome,
        };
        match sent {
            Ok(sent) if sent > 0 => {
                self.counters.transmitted += packets(sent);
                sent
            }
            Err(error) if is_gone(&error) => {
                self.counters.transmit_dropped += packets(waiting.len());
                waiting.len()
            }
            _ => {
                self.counters.transmit_dropped += packets(1);
                1
            }
        }
    }
}

impl Port for PacketPort {
    fn receive(&mut self, max: usize, into: &mut Vec<Frame>, frames: &mut Frames, now: Instant) {
        let mut left = max;
        // Whose time began anew has the port after somebody else.
        if now >= self.control_due || now + CONTROL_EVERY < self.control_due {
            self.control_due = now + CONTROL_EVERY;
            self.data.socket().take_error();
            for at in 0..self.control.len() {
                // A flood of it leaves half of the batch to those behind it.
                left -= self.receive_control(at, left.div_ceil(2), into, frames);
            }
        }
        self.receive_data(left, into, frames);
    }

    fn transmit(&mut self, frame: Frame, frames: &mut Frames) {
        match self.mode {
            Mode::VnetHdr => self.transmit_as_it_is(frame, frames),
            Mode::Attached => self.transmit_complete(frame, frames),
        }
    }

    fn flush(&mut self, frames: &mut Frames) {
        let mut done = 0;
        while done < self.waiting.len() {
            done += self.send(done, frames);
        }
        for frame in self.waiting.drain(..) {
            frames.free(frame);
        }
    }

    fn counters(&mut self) -> Counters {
        for socket in self.control.iter().chain([self.data.socket()]) {
            self.counters.kernel_dropped += socket.take_kernel_drops().unwrap_or(0);
        }
        self.counters
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.control.iter().map(Socket::as_fd).chain([self.data.as_fd()]).collect()
    }
}

/// Makes a frame what it was on the wire, from what the kernel says of it. None when it is not what
/// that says.
#[inline]
fn dress(
    mut frame: Frame,
    header: VnetHeader,
    tag: Option<Tag>,
    frames: &mut Frames,
) -> Option<Frame> {
    if header.flags & vnet::NEEDS_CHECKSUM != 0 {
        frame.set_partial_checksum(Some(PartialChecksum {
            start: header.checksum_start as usize,
            offset: header.checksum_offset as usize,
        }));
    }
    if header.gso_type != vnet::GSO_NONE {
        let Some(layout) = Layout::measure(frames.bytes(&frame), header.gso_size) else {
            frames.free(frame);
            return None;
        };
        if layout.segments() > 1 {
            frame.meta.gso_size = header.gso_size;
            frame.meta.segments = layout.segments() as u16;
        }
    }
    if let Some(tag) = tag {
        put_back(tag, &mut frame, frames);
    }
    Some(frame)
}

/// Puts the tag that the kernel took off in front of the others, as it was.
fn put_back(tag: Tag, frame: &mut Frame, frames: &mut Frames) {
    let has_room = frame.extend_front(vlan::TAG_LEN);
    debug_assert!(has_room, "a frame that arrives has all its headroom");
    let bytes = frames.bytes_mut(frame);
    vlan::push(bytes, 0);
    let [tpid, control] = [tag.tpid.to_be_bytes(), tag.control.to_be_bytes()];
    bytes[12..16].copy_from_slice(&[tpid[0], tpid[1], control[0], control[1]]);
}

fn partial_header(PartialChecksum { start, offset }: PartialChecksum) -> VnetHeader {
    VnetHeader {
        flags: vnet::NEEDS_CHECKSUM,
        checksum_start: start as u16,
        checksum_offset: offset as u16,
        ..VnetHeader::default()
    }
}

fn super_frame_header(layout: &Layout, gso_size: u16, bytes: &[u8]) -> VnetHeader {
    let checksum = layout.checksum();
    let has_cwr = || {
        let segment = tcp::View::new(&bytes[checksum.start..]);
        segment.is_ok_and(|segment| segment.flags().contains(Flags::CWR))
    };
    let gso_type = match (layout.transport(), layout.is_ipv4()) {
        (Transport::Tcp, is_ipv4) => {
            let family = if is_ipv4 { vnet::GSO_TCP_V4 } else { vnet::GSO_TCP_V6 };
            family | if has_cwr() { vnet::GSO_ECN } else { 0 }
        }
        (Transport::Udp, _) => vnet::GSO_UDP,
    };
    let header_len = layout.headers_len() as u16;
    VnetHeader { gso_type, header_len, gso_size, ..partial_header(checksum) }
}

/// Whether another way to the device may take the frame.
fn is_full(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOBUFS | Errno::AGAIN))
}

/// Whether no frame can leave.
fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NETDOWN | Errno::NXIO | Errno::NODEV))
}
