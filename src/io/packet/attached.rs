//! A port on an interface that is not ours: it may come late, go, and come again.
//!
//! The sockets are opened once, which takes CAP_NET_RAW, and are put at the interface as often as one
//! of that name appears, which takes nothing. While there is none the port has no carrier.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::io::packet::{Mode, PacketPort};
use crate::io::port::{Counters, Port};
use crate::io::{Frame, Frames};
use crate::model::Instant;
use crate::sys::packet::{Error, State};

/// How often the interface is looked at: two system calls of under a microsecond that take no lock.
const LOOK: Duration = Duration::from_millis(20);

/// A port on the interface of a name.
#[derive(Debug)]
pub struct AttachedPort {
    name: String,
    port: PacketPort,
    state: Option<State>,
    next_look: Instant,
}

impl AttachedPort {
    /// Opens the sockets in the network namespace of the calling thread. The interface need not be
    /// there.
    pub fn open(name: &str) -> Result<Self, Error> {
        let port = PacketPort::unplugged(name, Mode::Attached)?;
        let mut port = Self { name: name.to_owned(), port, state: None, next_look: Instant::ZERO };
        port.look();
        Ok(port)
    }

    /// What the interface is now; none where there is none.
    pub fn state(&mut self) -> Option<&State> {
        self.look();
        self.state.as_ref()
    }

    /// Sees whether the interface is there, and takes it if it is a new one.
    fn look(&mut self) {
        self.state = self.port.driver.state_of(&self.name);
        let Some(State { interface, .. }) = &self.state else { return };
        let is_new = !self.port.is_at(interface);
        // What is no Ethernet device, or has just gone again, is as good as none.
        if is_new && self.port.plug_into(interface.clone()).is_err() {
            self.state = None;
        }
    }
}

impl Port for AttachedPort {
    fn receive(&mut self, max: usize, into: &mut Vec<Frame>, frames: &mut Frames, now: Instant) {
        // Whose time began anew has the port after somebody else.
        if now >= self.next_look || now + LOOK < self.next_look {
            self.next_look = now + LOOK;
            self.look();
        }
        if self.state.is_some() {
            self.port.receive(max, into, frames, now);
        }
    }

    fn transmit(&mut self, frame: Frame, frames: &mut Frames) {
        self.port.transmit(frame, frames);
    }

    fn flush(&mut self, frames: &mut Frames) {
        self.port.flush(frames);
    }

    fn has_carrier(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.running)
    }

    fn counters(&mut self) -> Counters {
        self.port.counters()
    }

    /// None while there is no interface: its sockets would say so on and on.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        if self.state.is_some() { self.port.descriptors() } else { Vec::new() }
    }
}
