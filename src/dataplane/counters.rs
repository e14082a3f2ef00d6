//! What is counted for each attachment, beside the router's ledger.

use crate::dataplane::verdict::DropReason;

/// Packets and their IP bytes (all bytes behind the Ethernet header when it is not IP).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Traffic {
    pub packets: u64,
    pub bytes: u64,
}

impl Traffic {
    pub fn count(&mut self, packets: u64, bytes: u64) {
        self.packets += packets;
        self.bytes += bytes;
    }
}

/// One attachment's counters. They survive every change of it but its removal.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AttachmentCounters {
    pub received: Traffic,
    pub transmitted: Traffic,
    /// By [`DropReason`]; counted where the packet entered.
    pub dropped: [u64; DropReason::COUNT],
}
