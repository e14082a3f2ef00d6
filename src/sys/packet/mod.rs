//! Packet sockets (packet(7)): whole Ethernet frames of one interface, in the network namespace of
//! the thread that opens them. Every frame has a `virtio_net_hdr` in front ([`VnetHeader`]), which
//! says of a super-frame how it is cut and of a checksum that it is not complete.
//!
//! Nothing here blocks, and nothing allocates once a socket and its batches are made.

mod batch;
mod ring;
mod socket;

pub use batch::{Arrival, Receiver, Sender, Tag, VnetHeader};
pub use ring::{Ring, Slot};
pub use socket::{Error, Instruction, Interface, Socket, State, TransmitPath};

/// Values of [`VnetHeader`]'s fields (linux/virtio_net.h).
pub mod vnet {
    /// `flags`: the checksum field holds the sum of the pseudo-header only.
    pub const NEEDS_CHECKSUM: u8 = 1;

    /// `gso_type`: an ordinary frame.
    pub const GSO_NONE: u8 = 0;
    pub const GSO_TCP_V4: u8 = 1;
    pub const GSO_TCP_V6: u8 = 4;
    pub const GSO_UDP: u8 = 5;
    /// `gso_type`, beside one of TCP: only the first segment has CWR.
    pub const GSO_ECN: u8 = 0x80;
}
