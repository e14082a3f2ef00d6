//! Opening: interfaces, options, filters and kernel counters.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, sockopt};

/// What a receive queue is asked to hold, in bytes of kernel memory. With the default of 208 KiB
/// one TCP flow loses a fifth of its throughput and retransmits 100,000 times; with 4 MiB never.
const RECEIVE_BUFFER: usize = 8 << 20;
/// What an unprivileged process is asked to hold instead; the host's `net.core.rmem_max` caps it.
const RECEIVE_BUFFER_UNFORCED: usize = 4 << 20;

/// Why a packet socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "there is no interface `{interface}` in this network namespace; `ip link` lists those \
         that there are"
    )]
    NoInterface { interface: String },
    #[error(
        "opening a packet socket on `{interface}` is not permitted: {source}; run inside a lab's \
         namespace, as root, or with CAP_NET_RAW: `sudo setcap cap_net_raw=ep $(command -v msee)`"
    )]
    NotPermitted { interface: String, source: io::Error },
    #[error(
        "packet socket on `{interface}`: {call}: {source}; the interface has to be an Ethernet \
         device that stays there, and the kernel 4.20 or later"
    )]
    Call { interface: String, call: &'static str, source: io::Error },
}

/// An interface of a network namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    name: String,
    index: u32,
}

impl Interface {
    /// The interface of this name in the network namespace of the calling thread.
    pub fn by_name(name: &str) -> Result<Self, Error> {
        let inquiry = inquiry_socket(name)?;
        let index = netdevice::name_to_index(&inquiry, name)
            .map_err(|_| Error::NoInterface { interface: name.to_owned() })?;
        Ok(Self { name: name.to_owned(), index })
    }

    /// The interface of this index in the network namespace of the calling thread.
    pub fn by_index(index: u32) -> Result<Self, Error> {
        let shown = format!("number {index}");
        let inquiry = inquiry_socket(&shown)?;
        let name = netdevice::index_to_name(&inquiry, index)
            .map_err(|_| Error::NoInterface { interface: shown })?;
        Ok(Self { name, index })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub const fn index(&self) -> u32 {
        self.index
    }

    fn failed(&self, call: &'static str) -> impl FnOnce(io::Error) -> Error {
        failed(&self.name, call)
    }
}

/// What an interface is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    pub interface: Interface,
    /// It is up and sees another at its end.
    pub running: bool,
    /// Largest IP packet without tags, bytes.
    pub mtu: usize,
}

pub(super) fn failed(interface: &str, call: &'static str) -> impl FnOnce(io::Error) -> Error {
    let interface = interface.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::PermissionDenied => Error::NotPermitted { interface, source },
        _ => Error::Call { interface, call, source },
    }
}

/// Any socket will do to ask for names and indexes.
fn inquiry_socket(interface: &str) -> Result<OwnedFd, Error> {
    rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(|source| Error::Call {
            interface: interface.to_owned(),
            call: "socket",
            source: source.into(),
        })
}

/// One instruction of a classic BPF program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Instruction {
    pub code: u16,
    pub jump_true: u8,
    pub jump_false: u8,
    pub operand: u32,
}

const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());

/// How a frame gets from a socket to the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransmitPath {
    /// Straight to the driver: 1.6 times the packets. What the device cannot take as it is
    /// (a super-frame when `tso` is off) fails with ENOBUFS.
    Driver,
    /// Through the queueing discipline and what segments for the device.
    Queue,
}

/// A non-blocking packet socket of one interface.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// A socket that receives what `filter` accepts of all that arrives at the interface, tags and
    /// frames for others included, and not what this host sends there.
    pub fn receiving(interface: &Interface, filter: &[Instruction]) -> Result<Self, Error> {
        let socket = Self::receiver(&interface.name, filter)?;
        socket.receive_at(interface)?;
        Ok(socket)
    }

    /// A socket that receives nothing and transmits.
    pub fn transmitting(interface: &Interface, path: TransmitPath) -> Result<Self, Error> {
        let socket = Self::transmitter(&interface.name, path)?;
        socket.transmit_at(interface)?;
        Ok(socket)
    }

    /// What [`Socket::receiving`] gives, in the network namespace of the calling thread and not yet
    /// at an interface, which may not be there yet: `name` is for errors.
    pub fn receiver(name: &str, filter: &[Instruction]) -> Result<Self, Error> {
        // With protocol 0 nothing arrives before the filter is in its place.
        let socket = Self::open(name)?;
        let packet =
            |option, call| socket.set(libc::SOL_PACKET, option, &1_i32).map_err(failed(name, call));
        packet(libc::PACKET_VNET_HDR, "PACKET_VNET_HDR")?;
        packet(libc::PACKET_AUXDATA, "PACKET_AUXDATA")?;
        packet(libc::PACKET_IGNORE_OUTGOING, "PACKET_IGNORE_OUTGOING")?;
        socket.enlarge_receive_buffer().map_err(failed(name, "SO_RCVBUF"))?;
        socket.attach_filter(filter).map_err(failed(name, "SO_ATTACH_FILTER"))?;
        Ok(socket)
    }

    /// What [`Socket::transmitting`] gives, not yet at an interface.
    pub fn transmitter(name: &str, path: TransmitPath) -> Result<Self, Error> {
        let socket = Self::open(name)?;
        let packet =
            |option, call| socket.set(libc::SOL_PACKET, option, &1_i32).map_err(failed(name, call));
        packet(libc::PACKET_VNET_HDR, "PACKET_VNET_HDR")?;
        if path == TransmitPath::Driver {
            packet(libc::PACKET_QDISC_BYPASS, "PACKET_QDISC_BYPASS")?;
        }
        Ok(socket)
    }

    /// Puts a [`Socket::receiver`] at an interface of its namespace, again if the one it was at has
    /// gone. That takes no privilege.
    pub fn receive_at(&self, interface: &Interface) -> Result<(), Error> {
        self.bind(interface, libc::ETH_P_ALL as u16).map_err(interface.failed("bind"))?;
        self.be_promiscuous(interface).map_err(interface.failed("PACKET_ADD_MEMBERSHIP"))
    }

    /// Puts a [`Socket::transmitter`] at an interface, as [`Socket::receive_at`] does.
    pub fn transmit_at(&self, interface: &Interface) -> Result<(), Error> {
        self.bind(interface, 0).map_err(interface.failed("bind"))?;
        // That the earlier one has gone is no news to what is sent from now on.
        let _ = sockopt::socket_error(&self.0);
        Ok(())
    }

    /// What the interface of this name is now in the socket's namespace, whatever thread asks; none
    /// where there is none.
    pub fn state_of(&self, name: &str) -> Option<State> {
        let index = netdevice::name_to_index(&self.0, name).ok()?;
        let flags = self.ask(name, libc::SIOCGIFFLAGS as libc::Ioctl).ok()?;
        let mtu = self.ask(name, libc::SIOCGIFMTU as libc::Ioctl).ok()?;
        // SAFETY: the kernel has written the member that goes with each request.
        #[allow(unsafe_code)]
        let (flags, mtu) =
            unsafe { (flags.ifr_ifru.ifru_flags as i32, mtu.ifr_ifru.ifru_mtu as usize) };
        let up = libc::IFF_UP | libc::IFF_RUNNING;
        let interface = Interface { name: name.to_owned(), index };
        Some(State { interface, running: flags & up == up, mtu })
    }

    /// Whether the socket is at that interface; when an interface goes, nothing is at it any more,
    /// also if another comes with its index.
    pub fn is_at(&self, interface: &Interface) -> bool {
        // SAFETY: all zeroes is an address of no family.
        #[allow(unsafe_code)]
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: `address` is a live value of the socket's family of addresses, `length` its size.
        // JUSTIFICATION: rustix gives no address of a packet socket.
        #[allow(unsafe_code)]
        let outcome = unsafe {
            libc::getsockname(self.0.as_raw_fd(), (&raw mut address).cast(), &raw mut length)
        };
        outcome == 0 && address.sll_ifindex == interface.index as i32
    }

    /// Asks the socket's namespace about an interface, netdevice(7).
    fn ask(&self, name: &str, request: libc::Ioctl) -> io::Result<libc::ifreq> {
        if name.len() >= libc::IFNAMSIZ {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: all zeroes is a request with an empty name.
        #[allow(unsafe_code)]
        let mut asked: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in asked.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        // SAFETY: the name ends with a zero, since it is shorter than its field; these requests write
        // no more than the live value they are given.
        // JUSTIFICATION: rustix has indexes and names of interfaces and nothing else of them.
        #[allow(unsafe_code)]
        let outcome = unsafe { libc::ioctl(self.0.as_raw_fd(), request, &raw mut asked) };
        checked(outcome).map(|()| asked)
    }

    /// Takes what the kernel holds against the socket: that its interface went down. Until then the
    /// socket counts as readable.
    pub fn take_error(&self) {
        let _ = sockopt::socket_error(&self.0);
    }

    /// Frames that the kernel dropped because this socket's queue was full, since the last call.
    pub fn take_kernel_drops(&self) -> io::Result<u64> {
        let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: `statistics` is a live value of the type that the option has, `length` its size.
        #[allow(unsafe_code)]
        let outcome = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        };
        checked(outcome).map(|()| u64::from(statistics.tp_drops))
    }

    fn open(name: &str) -> Result<Self, Error> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)
            .map(Self)
            .map_err(|source| failed(name, "socket")(source.into()))
    }

    fn enlarge_receive_buffer(&self) -> io::Result<()> {
        // The kernel doubles what it is asked for.
        if sockopt::set_socket_recv_buffer_size_force(&self.0, RECEIVE_BUFFER / 2).is_err() {
            sockopt::set_socket_recv_buffer_size(&self.0, RECEIVE_BUFFER_UNFORCED)?;
        }
        Ok(())
    }

    fn attach_filter(&self, filter: &[Instruction]) -> io::Result<()> {
        // The kernel copies the program and does not write to it.
        let program = libc::sock_fprog {
            len: u16::try_from(filter.len()).expect("a filter has a few dozen instructions"),
            filter: filter.as_ptr().cast_mut().cast(),
        };
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }

    fn bind(&self, interface: &Interface, protocol: u16) -> io::Result<()> {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: protocol.to_be(),
            sll_ifindex: interface.index as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: `address` is a live address of the family of the socket, `length` its size.
        #[allow(unsafe_code)]
        let outcome =
            unsafe { libc::bind(self.0.as_raw_fd(), (&raw const address).cast(), length) };
        checked(outcome)
    }

    fn be_promiscuous(&self, interface: &Interface) -> io::Result<()> {
        let membership = libc::packet_mreq {
            mr_ifindex: interface.index as i32,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        self.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)
    }

    pub(super) fn set<T>(&self, level: i32, name: i32, value: &T) -> io::Result<()> {
        let length = size_of::<T>() as libc::socklen_t;
        // SAFETY: the kernel reads `length` bytes at most, which are those of a live value; a
        // pointer in it (the filter's) is to memory that the caller keeps alive for the call.
        // JUSTIFICATION: rustix has none of the options of packet sockets.
        #[allow(unsafe_code)]
        let outcome = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                level,
                name,
                std::ptr::from_ref(value).cast(),
                length,
            )
        };
        checked(outcome)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn checked(outcome: i32) -> io::Result<()> {
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
