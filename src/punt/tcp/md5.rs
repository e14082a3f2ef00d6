//! The TCP MD5 signature option (RFC 2385), put on and taken off outside smoltcp, which knows
//! nothing of it.
//!
//! A signed segment has 20 bytes of options more: the signature's 18, first because smoltcp pads
//! its own options with end-of-list, and 2 of padding. SACK-permitted is taken out in both
//! directions: selective acknowledgements would not fit beside a signature. The MSS that the peer
//! announces is lowered by those 20 bytes, since smoltcp reckons without them.

use std::net::IpAddr;
use std::ops::Range;

use ::md5::{Digest, Md5};

use crate::punt::tcp::segment::{self, Segment};
use crate::wire::protocol;
use crate::wire::tcp::{MIN_HEADER_LEN, View, option};

/// Bytes that a signature adds to a segment.
pub(super) const ROOM: usize = 20;

const DIGEST_LEN: usize = 16;

/// Kind, length and digest.
const OPTION_LEN: usize = 2 + DIGEST_LEN;

/// SACK-permitted (RFC 2018, 2).
const SACK_PERMITTED: u8 = 4;

/// MSS of a peer that announces none (RFC 9293, 3.7.1).
const MSS_DEFAULT: u16 = 536;

/// Where a TCP header has its data offset, in words in the upper four bits.
const DATA_OFFSET: usize = 12;

/// What the signature of a segment amounts to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// The right one, or none where there is no key.
    Right,
    Missing,
    Unexpected,
    Wrong,
}

/// Whether the segment is signed as `key` asks.
pub(super) fn verify(packet: &[u8], segment: &Segment, key: Option<&str>) -> Verdict {
    match (key, find(packet, segment, option::MD5)) {
        (None, None) => Verdict::Right,
        (None, Some(_)) => Verdict::Unexpected,
        (Some(_), None) => Verdict::Missing,
        (Some(key), Some(given)) => {
            let right = packet[given][2..] == digest(packet, segment, key);
            if right { Verdict::Right } else { Verdict::Wrong }
        }
    }
}

/// Takes the signature out of a verified segment and makes its other options such that smoltcp
/// leaves room for ours.
pub(super) fn strip(packet: &mut [u8], segment: &Segment) {
    let Some(signature) = find(packet, segment, option::MD5) else { return };
    packet[signature.clone()].fill(option::NOP);
    if segment.is_syn() {
        blank(packet, segment, SACK_PERMITTED);
        let lower = |mss: u16| mss.saturating_sub(ROOM as u16).max(1);
        if !adjust_mss(packet, segment, lower) {
            let [high, low] = lower(MSS_DEFAULT).to_be_bytes();
            packet[signature][..4].copy_from_slice(&[option::MSS, 4, high, low]);
        }
    }
    segment.renew_checksum(packet);
}

/// Signs a segment of smoltcp's. What has no room for a signature is left as it is; smoltcp sends
/// at most 9 bytes of options once selective acknowledgements are off.
pub(super) fn sign(packet: &mut Vec<u8>, segment: &Segment, key: &str) {
    let header_len = segment.payload - segment.start + ROOM;
    if header_len / 4 > 15 {
        return;
    }
    blank(packet, segment, SACK_PERMITTED);
    let at = segment.start + MIN_HEADER_LEN;
    let mut added = [option::NOP; ROOM];
    added[..2].copy_from_slice(&[option::MD5, OPTION_LEN as u8]);
    packet.splice(at..at, added);
    packet[segment.start + DATA_OFFSET] = (header_len as u8 / 4) << 4;
    segment::lengthen(packet, ROOM as u16);

    let payload = segment.payload + ROOM;
    let segment = Segment { payload, end: segment.end + ROOM, ..*segment };
    let digest = digest(packet, &segment, key);
    packet[at + 2..at + OPTION_LEN].copy_from_slice(&digest);
    segment.renew_checksum(packet);
}

/// Changes the MSS option. False when there is none.
pub(super) fn adjust_mss(packet: &mut [u8], segment: &Segment, to: impl Fn(u16) -> u16) -> bool {
    let Some(found) = find(packet, segment, option::MSS).filter(|found| found.len() == 4) else {
        return false;
    };
    let mss = &mut packet[found][2..];
    let changed = to(u16::from_be_bytes([mss[0], mss[1]]));
    mss.copy_from_slice(&changed.to_be_bytes());
    true
}

/// RFC 2385, 2.0: the pseudo-header, the header without options and with a checksum of zero, the
/// payload, the key. The length in the pseudo-header counts the options.
fn digest(packet: &[u8], segment: &Segment, key: &str) -> [u8; DIGEST_LEN] {
    let octets = &packet[segment.start..segment.end];
    let mut md5 = Md5::new();
    match (segment.source, segment.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            md5.update(source.octets());
            md5.update(destination.octets());
            md5.update([0, protocol::TCP]);
            md5.update((octets.len() as u16).to_be_bytes());
        }
        (source, destination) => {
            // RFC 8200, 8.1.
            md5.update(v6_octets(source));
            md5.update(v6_octets(destination));
            md5.update((octets.len() as u32).to_be_bytes());
            md5.update([0, 0, 0, protocol::TCP]);
        }
    }
    let view = View::new(octets).expect("a segment is whole");
    md5.update(view.signed_header());
    md5.update(view.payload());
    md5.update(key.as_bytes());
    md5.finalize().into()
}

fn v6_octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Puts no-operations where the option of this kind is.
fn blank(packet: &mut [u8], segment: &Segment, kind: u8) {
    if let Some(found) = find(packet, segment, kind) {
        packet[found].fill(option::NOP);
    }
}

/// Where in the packet the first option of this kind is; a signature only if it is as long as one.
fn find(packet: &[u8], segment: &Segment, kind: u8) -> Option<Range<usize>> {
    let mut at = segment.start + MIN_HEADER_LEN;
    while at < segment.payload {
        let len = match packet[at] {
            option::END => return None,
            option::NOP => 1,
            _ if at + 1 < segment.payload => usize::from(packet[at + 1]),
            _ => return None,
        };
        let end = at + len;
        if len == 0 || end > segment.payload {
            return None;
        }
        if packet[at] == kind && len >= 2 && (kind != option::MD5 || len == OPTION_LEN) {
            return Some(at..end);
        }
        at = end;
    }
    None
}
