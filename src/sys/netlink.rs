//! Links, addresses and routes of a network namespace, by netlink (rtnetlink(7)), one request and
//! its answer at a time.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use thiserror::Error;

/// Longest name of an interface, bytes (IFNAMSIZ without its final zero).
pub const INTERFACE_NAME_MAX: usize = 15;
/// Room for one answer.
const ANSWER_LEN: usize = 32 * 1024;

/// What the kernel refused, and of which interface.
#[derive(Debug, Error)]
#[error("{operation} {interface}: {source}")]
pub struct NetlinkError {
    /// As `make the pair`, `add 10.1.0.4/16 to`.
    pub operation: String,
    pub interface: String,
    pub source: io::Error,
}

/// An end of a pair of interfaces that are joined by a wire, veth(4). It is down until taken up:
/// the kernel takes no end up that has no other yet.
#[derive(Clone, Copy, Debug)]
pub struct VethEnd<'a> {
    /// At most [`INTERFACE_NAME_MAX`] bytes, unique in the namespace.
    pub name: &'a str,
    /// A network namespace.
    pub namespace: BorrowedFd<'a>,
    /// One of the kernel's choice if none; of a pair the kernel hears the first end's. Where both
    /// have the same it takes them for no pair, and takes up to a second to see them connected.
    pub index: Option<u32>,
    /// One of the kernel's choice if none.
    pub mac: Option<[u8; 6]>,
    /// Largest IP packet, bytes.
    pub mtu: u16,
    /// Whether it asks for and answers to MACs (no IFF_NOARP).
    pub arp: bool,
}

/// An interface as the kernel knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    pub index: u32,
    pub name: String,
    pub mac: [u8; 6],
    pub mtu: u32,
    pub up: bool,
}

/// A socket of the network namespace it was opened in.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Netlink").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Netlink {
    /// For the network namespace this thread is in.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Makes a pair, each end in its namespace.
    pub fn make_veth(&mut self, ends: [VethEnd; 2]) -> Result<(), NetlinkError> {
        let peer = InfoData::Veth(InfoVeth::Peer(link_message(ends[1])));
        let mut message = link_message(ends[0]);
        let info = vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(peer)];
        message.attributes.push(LinkAttribute::LinkInfo(info));
        let request = RouteNetlinkMessage::NewLink(message);
        let names = format!("{}–{}", ends[0].name, ends[1].name);
        self.ask(request, NLM_F_CREATE | NLM_F_EXCL)
            .map_err(failed("make the interfaces", &names))?;
        Ok(())
    }

    /// The interface of that name.
    pub fn interface(&mut self, name: &str) -> Result<Interface, NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let answer = self
            .ask(RouteNetlinkMessage::GetLink(message), 0)
            .map_err(failed("look for interface", name))?;
        let Some(RouteNetlinkMessage::NewLink(link)) = answer else {
            let no_link = io::Error::from(io::ErrorKind::InvalidData);
            return Err(failed("look for interface", name)(no_link));
        };
        Ok(interface(name, &link))
    }

    /// Takes an interface up or down.
    pub fn set_up(&mut self, interface: &Interface, up: bool) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = interface.index;
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        let operation = if up { "take up" } else { "take down" };
        self.ask(RouteNetlinkMessage::SetLink(message), 0)
            .map_err(failed(operation, &interface.name))?;
        Ok(())
    }

    /// Deletes an interface, and with it the other end of a pair.
    pub fn delete(&mut self, interface: &Interface) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = interface.index;
        self.ask(RouteNetlinkMessage::DelLink(message), 0)
            .map_err(failed("delete", &interface.name))?;
        Ok(())
    }

    /// Gives an interface an address, usable at once. `on_link` with its length is what can be
    /// reached there: the block of the address, or the one peer. Whether the kernel sends to that
    /// straight is `connected`.
    pub fn add_address(
        &mut self,
        interface: &Interface,
        address: IpAddr,
        on_link: IpAddr,
        prefix_len: u8,
        connected: bool,
    ) -> Result<(), NetlinkError> {
        let mut flags = AddressFlags::empty();
        flags.set(AddressFlags::Noprefixroute, !connected);
        flags.set(AddressFlags::Nodad, address.is_ipv6());
        let is_host = prefix_len == if address.is_ipv4() { 32 } else { 128 };
        let peer = if is_host { on_link } else { address };
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = prefix_len;
        message.header.scope = AddressScope::Universe;
        message.header.index = interface.index;
        message.attributes = vec![
            AddressAttribute::Local(address),
            AddressAttribute::Address(peer),
            AddressAttribute::Flags(flags),
        ];
        let operation = format!("add {address}/{prefix_len} to");
        self.ask(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
            .map_err(failed(&operation, &interface.name))?;
        Ok(())
    }

    /// Sends what has no better route of the gateway's family to `gateway`, which is taken to be on
    /// the interface's link.
    pub fn add_default_route(
        &mut self,
        interface: &Interface,
        gateway: IpAddr,
    ) -> Result<(), NetlinkError> {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(gateway),
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Static,
            scope: RouteScope::Universe,
            kind: RouteType::Unicast,
            flags: RouteFlags::Onlink,
            ..RouteHeader::default()
        };
        message.attributes = vec![
            RouteAttribute::Gateway(RouteAddress::from(gateway)),
            RouteAttribute::Oif(interface.index),
        ];
        let operation = format!("add the route by {gateway} to");
        self.ask(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)
            .map_err(failed(&operation, &interface.name))?;
        Ok(())
    }

    /// Sends a request and waits for its answer; none where the kernel only says that it is done.
    fn ask(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Option<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        self.answer()
    }

    /// Reads until the kernel has acknowledged the last request.
    fn answer(&mut self) -> io::Result<Option<RouteNetlinkMessage>> {
        let malformed = |_| io::Error::from(io::ErrorKind::InvalidData);
        let mut found = None;
        loop {
            let mut bytes = Vec::with_capacity(ANSWER_LEN);
            self.socket.recv(&mut bytes, 0)?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let message =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(malformed)?;
                let length = (message.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                // An answer to a request that was given up.
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(found),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(inner) => found = Some(inner),
                    _ => {}
                }
            }
        }
    }
}

fn failed(operation: &str, interface: &str) -> impl Fn(io::Error) -> NetlinkError {
    move |source| NetlinkError {
        operation: operation.to_owned(),
        interface: interface.to_owned(),
        source,
    }
}

const fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn link_message(end: VethEnd) -> LinkMessage {
    let mut message = LinkMessage::default();
    let noarp = if end.arp { LinkFlags::empty() } else { LinkFlags::Noarp };
    message.header.index = end.index.unwrap_or(0);
    message.header.flags = noarp;
    message.header.change_mask = noarp;
    message.attributes = vec![
        LinkAttribute::IfName(end.name.to_owned()),
        LinkAttribute::NetNsFd(end.namespace.as_raw_fd()),
        LinkAttribute::Mtu(u32::from(end.mtu)),
    ];
    message.attributes.extend(end.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
    message
}

fn interface(name: &str, link: &LinkMessage) -> Interface {
    let mut interface = Interface {
        index: link.header.index,
        name: name.to_owned(),
        mac: [0; 6],
        mtu: 0,
        up: link.header.flags.contains(LinkFlags::Up),
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Address(mac) => {
                interface.mac = mac.as_slice().try_into().unwrap_or_default();
            }
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            _ => {}
        }
    }
    interface
}
