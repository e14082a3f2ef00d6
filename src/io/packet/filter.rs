//! Which frames are control: BFD, BGP, ARP and IPv6 neighbour discovery, behind up to two tags.
//!
//! A classic BPF program for each class, and each frame is of one class, so that of as many sockets
//! it is received by exactly one. The kernel has taken the outer tag off before a filter sees the
//! frame, so that there may be one more tag than is counted here.

use std::collections::BTreeMap;

use crate::sys::packet::Instruction;
use crate::wire::{ethertype, protocol};

/// RFC 4271, 8.2.1.
const BGP_PORT: u32 = 179;
/// RFC 5881, 4: control and echo.
const BFD_PORTS: [u32; 2] = [3784, 3785];
/// Router solicitation to redirect (RFC 4861, 4).
const ND_TYPES: [u32; 2] = [133, 137];

/// What a program returns for a frame that it takes: more bytes than any has.
const TAKE: u32 = u32::MAX;

/// Opcodes of classic BPF (linux/filter.h): class, size and mode, or class, operation and source.
mod op {
    pub(super) const LOAD_BYTE: u16 = 0x30;
    pub(super) const LOAD_HALF: u16 = 0x28;
    pub(super) const LOAD_HALF_AT_X: u16 = 0x48;
    pub(super) const LOAD_LENGTH: u16 = 0x80;
    /// X = 4 × the low half of a byte: the length of an IPv4 header.
    pub(super) const LOAD_X_HEADER_LEN: u16 = 0xb1;
    pub(super) const SUBTRACT: u16 = 0x14;
    pub(super) const IF_EQUAL: u16 = 0x15;
    pub(super) const IF_GREATER: u16 = 0x25;
    pub(super) const IF_AT_LEAST: u16 = 0x35;
    pub(super) const IF_AT_LEAST_X: u16 = 0x3d;
    pub(super) const IF_ANY_BIT: u16 = 0x45;
    pub(super) const RETURN: u16 = 0x06;
}

/// What has a socket, and with it a queue, of its own, so that a flood of one class does not take the
/// place of another; in the order in which they are read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Class {
    Bfd,
    Bgp,
    /// ARP and neighbour discovery.
    Neighbor,
    /// Everything else.
    Data,
}

impl Class {
    pub(super) const ALL: [Self; 4] = [Self::Bfd, Self::Bgp, Self::Neighbor, Self::Data];
    /// What ends in the router, or close by.
    pub(super) const CONTROL: [Self; 3] = [Self::Bfd, Self::Bgp, Self::Neighbor];
}

/// A place in the program. Those of [`Place::In`] exist behind each number of tags.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    In(usize, Block),
    /// Where the answer for a class is given.
    Is(Class),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Block {
    Tagged,
    Ipv4,
    Tcp4,
    Udp4,
    Ipv6,
    Icmp6,
    Tcp6,
    Udp6,
}

/// Takes the frames of a class.
pub(super) fn program(wanted: Class) -> Vec<Instruction> {
    let mut assembler = Assembler::default();
    assembler.load(op::LOAD_HALF, 12);
    for tags in 0..=MAX_TAGS {
        assembler.frame(tags);
    }
    for class in Class::ALL {
        assembler.label(Place::Is(class));
        assembler.load(op::RETURN, if class == wanted { TAKE } else { 0 });
    }
    assembler.finish()
}

/// Inline tags that are looked behind.
const MAX_TAGS: usize = 2;

/// Instructions whose jumps name places.
#[derive(Default)]
struct Assembler {
    code: Vec<(u16, u32, Option<Place>, Option<Place>)>,
    places: BTreeMap<Place, usize>,
}

impl Assembler {
    /// What is asked behind so many tags, with the EtherType loaded.
    fn frame(&mut self, tags: usize) {
        let ip = 14 + 4 * tags as u32;
        let at = |block| Place::In(tags, block);
        if tags < MAX_TAGS {
            self.jump_if(op::IF_EQUAL, ethertype::VLAN.into(), at(Block::Tagged));
            self.jump_if(op::IF_EQUAL, ethertype::QINQ.into(), at(Block::Tagged));
        }
        self.jump_if(op::IF_EQUAL, ethertype::ARP.into(), Place::Is(Class::Neighbor));
        self.jump_if(op::IF_EQUAL, ethertype::IPV6.into(), at(Block::Ipv6));
        self.jump_unless(op::IF_EQUAL, ethertype::IPV4.into(), Place::Is(Class::Data));
        self.ipv4(ip, at);
        self.ipv6(ip, at);
        if tags < MAX_TAGS {
            self.label(at(Block::Tagged));
            self.needs(ip + 4);
            self.load(op::LOAD_HALF, ip + 2);
        }
    }

    fn ipv4(&mut self, ip: u32, at: impl Fn(Block) -> Place) {
        self.label(at(Block::Ipv4));
        self.needs(ip + 24);
        self.load(op::LOAD_HALF, ip + 6);
        // A later fragment has no ports.
        self.jump_if(op::IF_ANY_BIT, 0x1fff, Place::Is(Class::Data));
        self.load(op::LOAD_BYTE, ip + 9);
        self.jump_if(op::IF_EQUAL, protocol::UDP.into(), at(Block::Udp4));
        self.jump_unless(op::IF_EQUAL, protocol::TCP.into(), Place::Is(Class::Data));

        self.label(at(Block::Tcp4));
        self.needs_ports(ip);
        for port in [ip, ip + 2] {
            self.load(op::LOAD_HALF_AT_X, port);
            self.jump_if(op::IF_EQUAL, BGP_PORT, Place::Is(Class::Bgp));
        }
        self.jump(Place::Is(Class::Data));

        self.label(at(Block::Udp4));
        self.needs_ports(ip);
        self.load(op::LOAD_HALF_AT_X, ip + 2);
        self.is_bfd();
    }

    fn ipv6(&mut self, ip: u32, at: impl Fn(Block) -> Place) {
        let payload = ip + 40;
        self.label(at(Block::Ipv6));
        self.needs(payload + 4);
        self.load(op::LOAD_BYTE, ip + 6);
        self.jump_if(op::IF_EQUAL, protocol::ICMPV6.into(), at(Block::Icmp6));
        self.jump_if(op::IF_EQUAL, protocol::UDP.into(), at(Block::Udp6));
        self.jump_unless(op::IF_EQUAL, protocol::TCP.into(), Place::Is(Class::Data));

        self.label(at(Block::Tcp6));
        for port in [payload, payload + 2] {
            self.load(op::LOAD_HALF, port);
            self.jump_if(op::IF_EQUAL, BGP_PORT, Place::Is(Class::Bgp));
        }
        self.jump(Place::Is(Class::Data));

        self.label(at(Block::Udp6));
        self.load(op::LOAD_HALF, payload + 2);
        self.is_bfd();

        self.label(at(Block::Icmp6));
        self.load(op::LOAD_BYTE, payload);
        self.jump_unless(op::IF_AT_LEAST, ND_TYPES[0], Place::Is(Class::Data));
        self.jump_if(op::IF_GREATER, ND_TYPES[1], Place::Is(Class::Data));
        self.jump(Place::Is(Class::Neighbor));
    }

    fn is_bfd(&mut self) {
        for port in BFD_PORTS {
            self.jump_if(op::IF_EQUAL, port, Place::Is(Class::Bfd));
        }
        self.jump(Place::Is(Class::Data));
    }

    /// A load behind the end would drop the frame in all programs: a short frame is data.
    fn needs(&mut self, len: u32) {
        self.load(op::LOAD_LENGTH, 0);
        self.jump_unless(op::IF_AT_LEAST, len, Place::Is(Class::Data));
    }

    /// X is made the length of the IPv4 header, and the frame has the ports behind it.
    fn needs_ports(&mut self, ip: u32) {
        self.load(op::LOAD_X_HEADER_LEN, ip);
        self.load(op::LOAD_LENGTH, 0);
        self.load(op::SUBTRACT, ip + 4);
        self.jump_unless(op::IF_AT_LEAST_X, 0, Place::Is(Class::Data));
    }

    fn load(&mut self, code: u16, operand: u32) {
        self.code.push((code, operand, None, None));
    }

    fn jump_if(&mut self, code: u16, operand: u32, to: Place) {
        self.code.push((code, operand, Some(to), None));
    }

    fn jump_unless(&mut self, code: u16, operand: u32, to: Place) {
        self.code.push((code, operand, None, Some(to)));
    }

    fn jump(&mut self, to: Place) {
        self.code.push((op::IF_EQUAL, 0, Some(to), Some(to)));
    }

    fn label(&mut self, place: Place) {
        self.places.insert(place, self.code.len());
    }

    fn finish(self) -> Vec<Instruction> {
        let Self { code, places } = self;
        let distance = |from: usize, to: Option<Place>| match to {
            Some(place) => u8::try_from(places[&place] - from - 1)
                .expect("the program is short enough for its jumps"),
            None => 0,
        };
        code.iter()
            .enumerate()
            .map(|(at, &(code, operand, jump_true, jump_false))| Instruction {
                code,
                jump_true: distance(at, jump_true),
                jump_false: distance(at, jump_false),
                operand,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
