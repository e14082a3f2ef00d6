//! Ports on UDP: a datagram is one Ethernet frame with nothing in front, as QEMU (`-netdev
//! socket,udp=`), VirtualBox and the GNS3 cloud speak it. Any system has it, and it takes no
//! privilege.
//!
//! What leaves are ordinary frames with complete checksums. A datagram from anyone but the peer is
//! not received. There is one queue: control does not overtake.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use crate::io::gso;
use crate::io::port::{Counters, Port};
use crate::io::{Frame, Frames};
use crate::model::Instant;

/// More than the largest datagram has.
const DATAGRAM_MAX: usize = 1 << 16;

/// Why a port on UDP could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "cannot listen for frames on UDP {listen}: {source}; choose an address of this host and a \
         port that nothing else uses"
    )]
    Listen { listen: SocketAddr, source: io::Error },
    #[error(
        "cannot send frames from UDP {listen} to {peer}: {source}; the peer's address has to be \
         of the same family and reachable from the one that is listened on"
    )]
    Peer { listen: SocketAddr, peer: SocketAddr, source: io::Error },
}

/// A port whose wire is UDP between two addresses.
#[derive(Debug)]
pub struct UdpPort {
    socket: UdpSocket,
    datagram: Box<[u8]>,
    /// What the next flush sends.
    waiting: Vec<Frame>,
    counters: Counters,
}

impl UdpPort {
    pub fn open(listen: SocketAddr, peer: SocketAddr) -> Result<Self, Error> {
        let socket = UdpSocket::bind(listen).map_err(|source| Error::Listen { listen, source })?;
        let joined = socket.connect(peer).and_then(|()| socket.set_nonblocking(true));
        joined.map_err(|source| Error::Peer { listen, peer, source })?;
        Ok(Self {
            socket,
            datagram: vec![0; DATAGRAM_MAX].into_boxed_slice(),
            waiting: Vec::new(),
            counters: Counters::default(),
        })
    }
}

impl Port for UdpPort {
    fn receive(&mut self, max: usize, into: &mut Vec<Frame>, frames: &mut Frames, _now: Instant) {
        for _ in 0..max {
            let length = match self.socket.recv(&mut self.datagram) {
                Ok(length) => length,
                // The peer was not there when something was sent; it may be there again.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(_) => return,
            };
            match frames.allocate_from(&self.datagram[..length]) {
                Some(frame) => {
                    self.counters.received += 1;
                    into.push(frame);
                }
                None => self.counters.receive_dropped += 1,
            }
        }
    }

    fn transmit(&mut self, frame: Frame, frames: &mut Frames) {
        self.counters.transmit_dropped += gso::ordinary(frame, &mut self.waiting, frames);
    }

    fn flush(&mut self, frames: &mut Frames) {
        for frame in self.waiting.drain(..) {
            match self.socket.send(frames.bytes(&frame)) {
                Ok(_) => self.counters.transmitted += 1,
                Err(_) => self.counters.transmit_dropped += 1,
            }
            frames.free(frame);
        }
    }

    /// The system does not say what it dropped of one socket.
    fn counters(&mut self) -> Counters {
        self.counters
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.socket.as_fd()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two ports, each the other's peer.
    fn pair() -> [UdpPort; 2] {
        let any = "127.0.0.1:0".parse().unwrap();
        let free = [any, any].map(|any: SocketAddr| UdpSocket::bind(any).unwrap());
        let [first, second] = free.each_ref().map(|socket| socket.local_addr().unwrap());
        drop(free);
        [UdpPort::open(first, second).unwrap(), UdpPort::open(second, first).unwrap()]
    }

    #[test]
    fn a_frame_is_a_datagram() {
        let mut frames = Frames::new();
        let [mut here, mut there] = pair();
        for length in [14, 60, 1522, 9000] {
            let sent: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let frame = frames.allocate_from(&sent).unwrap();
            here.transmit(frame, &mut frames);
            here.flush(&mut frames);
            let mut received = Vec::new();
            there.receive(64, &mut received, &mut frames, Instant::ZERO);
            let [frame] = received.try_into().unwrap();
            assert_eq!(frames.bytes(&frame), sent);
            frames.free(frame);
        }
        assert_eq!((here.counters().transmitted, there.counters().received), (4, 4));
        assert_eq!(frames.in_use(), 0);
    }

    #[test]
    fn a_stranger_is_not_heard_and_an_absent_peer_is_waited_for() {
        let mut frames = Frames::new();
        let [mut here, there] = pair();
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (address, peer) =
            (here.socket.local_addr().unwrap(), there.socket.local_addr().unwrap());
        drop(there);
        stranger.send_to(&[1; 60], address).unwrap();
        let frame = frames.allocate_from(&[2; 60]).unwrap();
        here.transmit(frame, &mut frames);
        here.flush(&mut frames);
        let there = UdpSocket::bind(peer).unwrap();
        there.send_to(&[3; 60], address).unwrap();
        let mut received = Vec::new();
        here.receive(64, &mut received, &mut frames, Instant::ZERO);
        let [frame] = received.try_into().unwrap();
        assert_eq!(frames.bytes(&frame), [3; 60]);
    }

    #[test]
    fn an_address_of_someone_else_is_refused_with_what_to_do() {
        let error =
            UdpPort::open("192.0.2.1:10000".parse().unwrap(), "127.0.0.1:10001".parse().unwrap());
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("192.0.2.1:10000") && error.contains("choose an address"),
            "{error}"
        );
    }
}
