//! What smoltcp takes for a network card: one packet in, a bounded queue of packets out.

use std::collections::VecDeque;

use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use crate::punt::tcp::md5;

/// Packets that wait to be taken by [`poll_transmit`](super::Stack::poll_transmit): five full
/// buffers.
const TRANSMIT_QUEUE: usize = 256;

/// Least MTU that leaves room for headers and options (RFC 791).
const IP_MTU_MIN: u16 = 576;

pub(super) struct Device {
    mtu: usize,
    pub(super) incoming: Option<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
    /// smoltcp had something to send and found the queue full.
    stalled: bool,
    refused: u64,
}

impl Device {
    /// The MTU given to smoltcp is smaller by a signature, which is added to its packets.
    pub(super) fn new(ip_mtu: u16) -> Self {
        Self {
            mtu: usize::from(ip_mtu.max(IP_MTU_MIN)) - md5::ROOM,
            incoming: None,
            outgoing: VecDeque::new(),
            stalled: false,
            refused: 0,
        }
    }

    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        self.outgoing.pop_front()
    }

    /// True once after smoltcp has found the queue full and there is room again.
    pub(super) fn drained_after_stall(&mut self) -> bool {
        self.outgoing.is_empty() && std::mem::take(&mut self.stalled)
    }

    /// Answers that found the queue full.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }
}

impl phy::Device for Device {
    type RxToken<'a> = RxToken;
    type TxToken<'a> = TxToken<'a>;

    fn receive(&mut self, _: Instant) -> Option<(RxToken, TxToken<'_>)> {
        let packet = self.incoming.take()?;
        Some((RxToken(packet), TxToken(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<TxToken<'_>> {
        if self.outgoing.len() >= TRANSMIT_QUEUE {
            self.stalled = true;
            return None;
        }
        Some(TxToken(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

pub(super) struct RxToken(Vec<u8>);

impl phy::RxToken for RxToken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub(super) struct TxToken<'a>(&'a mut Device);

impl phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        // An answer to a segment is due whether there is room or not; lost, it is asked for again.
        if self.0.outgoing.len() < TRANSMIT_QUEUE {
            self.0.outgoing.push_back(packet);
        } else {
            self.0.refused += 1;
        }
        result
    }
}
