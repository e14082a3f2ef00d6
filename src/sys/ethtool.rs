//! What a network device says of itself (ethtool(8)), in the network namespace of the calling thread.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::sys::netlink::INTERFACE_NAME_MAX;

/// The request; C libraries differ in its type.
const ASK: libc::Ioctl = libc::SIOCETHTOOL as libc::Ioctl;
/// Commands of linux/ethtool.h whose answer is one word.
const GET_LINK: u32 = 0x0a;
const GET_TSO: u32 = 0x1e;
const GET_FLAGS: u32 = 0x25;
const GET_GRO: u32 = 0x2b;
/// Bits of the answer to [`GET_FLAGS`].
const FLAG_TX_VLAN: u32 = 1 << 7;
const FLAG_RX_VLAN: u32 = 1 << 8;
const FLAG_LRO: u32 = 1 << 15;

/// What a device or its driver does to frames by itself.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Offloads {
    /// Puts the outer tag into frames that leave.
    pub tx_vlan: bool,
    /// Takes the outer tag out of frames that arrive; the kernel says it beside the frame.
    pub rx_vlan: bool,
    /// Cuts TCP super-frames that leave.
    pub tso: bool,
    /// Joins arriving segments so that they can be cut again (GRO).
    pub gro: bool,
    /// Joins them so that they cannot (LRO).
    pub lro: bool,
}

/// Asks one device after another.
#[derive(Debug)]
pub struct Ethtool(OwnedFd);

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

impl Ethtool {
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        Ok(Self(socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?))
    }

    /// Whether the device sees another at its end.
    pub fn has_carrier(&self, interface: &str) -> io::Result<bool> {
        Ok(self.ask(interface, GET_LINK)? != 0)
    }

    /// What the device does not know of, it does not do.
    pub fn offloads(&self, interface: &str) -> Offloads {
        let word = |command| self.ask(interface, command).unwrap_or(0);
        let flags = word(GET_FLAGS);
        Offloads {
            tx_vlan: flags & FLAG_TX_VLAN != 0,
            rx_vlan: flags & FLAG_RX_VLAN != 0,
            tso: word(GET_TSO) != 0,
            gro: word(GET_GRO) != 0,
            lro: flags & FLAG_LRO != 0,
        }
    }

    fn ask(&self, interface: &str, command: u32) -> io::Result<u32> {
        let mut name = [0; libc::IFNAMSIZ];
        if interface.len() > INTERFACE_NAME_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (to, from) in name.iter_mut().zip(interface.bytes()) {
            *to = from as libc::c_char;
        }
        let mut value = Value { command, data: 0 };
        let mut request = libc::ifreq {
            ifr_name: name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut value).cast() },
        };
        // SAFETY: the name ends with a zero, since it is shorter than its field, and the pointer is to
        // a live value of the type that these commands read and write.
        // JUSTIFICATION: rustix has no ethtool, and its netlink family would take another crate.
        #[allow(unsafe_code)]
        let outcome = unsafe { libc::ioctl(self.0.as_raw_fd(), ASK, &raw mut request) };
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_answers_and_what_is_not_there_does_not() {
        let ethtool = Ethtool::open().unwrap();
        assert!(ethtool.has_carrier("lo").is_ok());
        let error = ethtool.has_carrier("msee-none").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        assert!(ethtool.has_carrier("a-name-much-too-long").is_err());
    }
}
