//! Whether an interface can be a router's port: what it is, and which test frames it carries.

use std::fmt;
use std::process;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cli::doctor::Check;
use crate::io::packet::{Mode, PacketPort};
use crate::io::{Frames, Port};
use crate::model::Instant;
use crate::sys::clock;
use crate::sys::ethtool::Ethtool;
use crate::sys::namespace::NetworkNamespace;
use crate::sys::netlink::{self, Netlink};
use crate::sys::packet::Interface;

/// A full IP packet behind two tags: what a port has to pass.
pub(super) const FULL_MTU: usize = 1508;

/// IEEE 802: Local Experimental EtherType 1.
const EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];
const TAG_TPID: [u8; 2] = [0x81, 0x00];
const TAGS: [u16; 2] = [100, 10];
const ADDRESSES: usize = 12;
/// The shortest frame without its FCS (IEEE 802.3).
const SHORTEST: usize = 60;
const ETHERNET: usize = 14;
/// How long test frames may be on the way.
const PATIENCE: Duration = Duration::from_millis(500);
const BATCH: usize = 64;

/// The other end: an interface, and its network namespace if another one.
pub(super) type Peer<'a> = (&'a str, Option<&'a str>);

/// A test frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Kind {
    /// Of its check, as it leaves the port and as it comes in from the peer.
    names: [&'static str; 2],
    tags: usize,
    length: usize,
}

const KINDS: [Kind; 4] = [
    Kind { names: ["untagged", "untagged-in"], tags: 0, length: SHORTEST },
    Kind { names: ["tagged", "tagged-in"], tags: 1, length: SHORTEST },
    Kind { names: ["double-tagged", "double-tagged-in"], tags: 2, length: SHORTEST },
    Kind { names: ["1508-byte", "1508-byte-in"], tags: 2, length: ETHERNET + FULL_MTU },
];

/// What became of a test frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// Nobody looked at the other end.
    Sent,
    /// The interface did not take it.
    Refused,
    Lost,
    /// It arrived with so many bytes, or the same number of others.
    Changed(usize),
    Arrived,
}

impl Fate {
    pub(super) fn arrived(self) -> bool {
        self == Self::Arrived
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent => f.write_str("is sent; --peer tells whether it arrives"),
            Self::Refused => f.write_str("is not taken by the interface"),
            Self::Lost => f.write_str("is sent and does not arrive"),
            Self::Changed(bytes) => write!(f, "arrives changed, with {bytes} bytes"),
            Self::Arrived => f.write_str("arrives"),
        }
    }
}

/// Everything about a port, in a fixed order; only the first where there is no such interface.
pub(super) fn checks(name: &str, peer: Option<Peer<'_>>) -> Vec<Check> {
    let found = Netlink::open()
        .map_err(|error| error.to_string())
        .and_then(|mut netlink| netlink.interface(name).map_err(|error| error.to_string()));
    let interface = match found {
        Ok(interface) => interface,
        Err(why) => return vec![Check::failed("port", why, "`ip link` lists what there is")],
    };
    let mac = interface.mac.map(|byte| format!("{byte:02x}")).join(":");
    let mut checks = vec![Check::ok("port", format!("{name}, {mac}"))];
    checks.push(mtu(name, interface.mtu as usize));
    match Ethtool::open() {
        Ok(ethtool) => checks.extend([
            carrier(name, interface.up, ethtool.has_carrier(name).unwrap_or(false)),
            offloads(name, &ethtool),
        ]),
        Err(error) => {
            checks.push(Check::limited("port-carrier", error.to_string(), "look by `ip link`"));
        }
    }
    match trial(name, peer) {
        Ok(trial) => {
            let [out, back] = trial;
            checks.extend(out.into_iter().map(|(kind, fate)| verdict(&interface, kind, fate)));
            checks.extend(back.into_iter().map(|(kind, fate)| verdict_back(peer, kind, fate)));
        }
        Err(why) => {
            let (found, remedy) = why.split_once("; ").unwrap_or((&why, "see the text before"));
            checks.push(Check::failed("port-frames", found, remedy));
        }
    }
    checks
}

fn mtu(name: &str, mtu: usize) -> Check {
    if mtu >= FULL_MTU {
        return Check::ok("port-mtu", format!("{mtu}"));
    }
    let found = format!("{mtu}: a full packet behind two tags takes {FULL_MTU}");
    Check::failed("port-mtu", found, format!("`sudo ip link set {name} mtu {FULL_MTU}`"))
}

fn carrier(name: &str, up: bool, carrier: bool) -> Check {
    match (up, carrier) {
        (true, true) => Check::ok("port-carrier", "up"),
        (true, false) => {
            let remedy = "connect the cable and take up the other end";
            Check::failed("port-carrier", "nothing at the other end", remedy)
        }
        (false, _) => {
            let remedy = format!("`sudo ip link set {name} up`");
            Check::failed("port-carrier", "the interface is down", remedy)
        }
    }
}

fn offloads(name: &str, ethtool: &Ethtool) -> Check {
    let offloads = ethtool.offloads(name);
    let word = |on| if on { "on" } else { "off" };
    let found = format!(
        "txvlan {}, rxvlan {}, tso {}, gro {}",
        word(offloads.tx_vlan),
        word(offloads.rx_vlan),
        word(offloads.tso),
        word(offloads.gro)
    );
    if offloads.lro {
        let found = format!("{found}, lro on: what it joins cannot be forwarded");
        return Check::failed("port-offloads", found, format!("`sudo ethtool -K {name} lro off`"));
    }
    Check::ok("port-offloads", found)
}

/// Of a frame that the peer sent.
fn verdict_back(peer: Option<Peer<'_>>, kind: &'static str, fate: Fate) -> Check {
    let (name, namespace) = peer.expect("only a peer sends back");
    let inside = namespace.map(|namespace| format!("-n {namespace} ")).unwrap_or_default();
    match fate {
        Fate::Refused => {
            let found = format!("is not taken by {name}");
            let remedy = format!(
                "`sudo ip {inside}link set {name} up mtu {FULL_MTU}`, and the port the same"
            );
            Check::failed(kind, found, remedy)
        }
        Fate::Arrived | Fate::Sent => Check::ok(kind, fate.to_string()),
        Fate::Lost | Fate::Changed(_) => Check::failed(kind, fate.to_string(), between()),
    }
}

/// What to look at where a frame was lost or changed.
fn between() -> String {
    format!(
        "everything between the ends has to pass frames of {FULL_MTU} bytes with VLANs {} and {} as \
         they are: its MTU, its trunks",
        TAGS[0], TAGS[1]
    )
}

fn verdict(port: &netlink::Interface, kind: &'static str, fate: Fate) -> Check {
    let found = fate.to_string();
    match fate {
        Fate::Arrived | Fate::Sent => Check::ok(kind, found),
        Fate::Refused => {
            let remedy = if port.up && port.mtu as usize >= FULL_MTU {
                // A pair hands over at once: what one end cannot take, the other cannot send.
                format!("the other end has to be up and its MTU {FULL_MTU} too")
            } else {
                format!("`sudo ip link set {} up mtu {FULL_MTU}`", port.name)
            };
            Check::failed(kind, found, remedy)
        }
        Fate::Lost | Fate::Changed(_) => Check::failed(kind, found, between()),
    }
}

/// Names of checks, and what became of their frames.
pub(super) type Fates = Vec<(&'static str, Fate)>;

/// Sends each kind of test frame once, and back from the peer, and sees which arrive.
///
/// # Errors
/// A port could not be opened; the text says what to do.
pub(super) fn trial(name: &str, peer: Option<Peer<'_>>) -> Result<[Fates; 2], String> {
    let mut near = open(name)?;
    let Some(peer) = peer else { return Ok([send(&mut near, None, 0), Vec::new()]) };
    let mut far = open_peer(peer)?;
    let out = send(&mut near, Some(&mut far), 0);
    Ok([out, send(&mut far, Some(&mut near), 1)])
}

/// Sends each kind of test frame from one port, to another if there is one; `way` is the name's.
fn send(from: &mut PacketPort, mut to: Option<&mut PacketPort>, way: usize) -> Fates {
    let mut frames = Frames::new();
    let nonce = nonce();
    let sent = KINDS.map(|kind| kind.bytes(&nonce));
    let mut fates = [Fate::Sent; KINDS.len()];
    for (fate, bytes) in fates.iter_mut().zip(&sent) {
        let before = from.counters().transmit_dropped;
        let frame = frames.allocate_from(bytes).expect("a test frame fits a slot");
        from.transmit(frame, &mut frames);
        from.flush(&mut frames);
        *fate = match (from.counters().transmit_dropped > before, &to) {
            (true, _) => Fate::Refused,
            (false, None) => Fate::Sent,
            (false, Some(_)) => Fate::Lost,
        };
    }
    if let Some(to) = &mut to {
        watch(to, &sent, &nonce, &mut fates, &mut frames);
    }
    KINDS.iter().map(|kind| kind.names[way]).zip(fates).collect()
}

/// Until nothing is missing or [`PATIENCE`] is over.
fn watch(
    far: &mut PacketPort,
    sent: &[Vec<u8>],
    nonce: &[u8],
    fates: &mut [Fate],
    frames: &mut Frames,
) {
    let end = clock::monotonic() + PATIENCE;
    let mut arrived = Vec::new();
    while fates.contains(&Fate::Lost) {
        let left = end.saturating_sub(clock::monotonic());
        if left.is_zero() {
            return;
        }
        wait(far, left);
        far.receive(BATCH, &mut arrived, frames, Instant::ZERO + clock::monotonic());
        for frame in arrived.drain(..) {
            let bytes = frames.bytes(&frame);
            if let Some(kind) = kind_of(bytes, nonce).filter(|kind| *kind < fates.len()) {
                let whole = bytes == sent[kind];
                fates[kind] = if whole { Fate::Arrived } else { Fate::Changed(bytes.len()) };
            }
            frames.free(frame);
        }
    }
}

fn wait(port: &PacketPort, most: Duration) {
    let timeout = Timespec { tv_sec: 0, tv_nsec: most.subsec_nanos().into() };
    let descriptors = port.descriptors();
    let mut polled: Vec<_> =
        descriptors.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    // Whatever ends it, the port is looked at.
    let _ = poll(&mut polled, Some(&timeout));
}

fn open(name: &str) -> Result<PacketPort, String> {
    let interface = Interface::by_name(name).map_err(|error| error.to_string())?;
    PacketPort::open(interface, Mode::Attached).map_err(|error| error.to_string())
}

fn open_peer((name, namespace): Peer<'_>) -> Result<PacketPort, String> {
    let Some(namespace) = namespace else { return open(name) };
    let failed =
        |error| format!("network namespace {namespace}: {error}; `ip netns` lists what there is");
    let entered = NetworkNamespace::open(namespace).map_err(failed)?;
    entered.run(|| open(name)).map_err(failed)?
}

/// Tells the frames of this trial from others on the wire.
fn nonce() -> Vec<u8> {
    let mut nonce = b"msee doctor ".to_vec();
    nonce.extend(process::id().to_be_bytes());
    nonce.extend((clock::monotonic().as_nanos() as u64).to_be_bytes());
    nonce
}

/// The place in [`KINDS`] of a frame with the nonce; the byte behind that says it.
fn kind_of(bytes: &[u8], nonce: &[u8]) -> Option<usize> {
    let at = bytes.windows(nonce.len()).position(|window| window == nonce)?;
    bytes.get(at + nonce.len()).map(|kind| usize::from(*kind))
}

impl Kind {
    fn bytes(&self, nonce: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xff; ADDRESSES / 2];
        // Locally administered, of one station.
        bytes.extend([2, 0, 0, 0, 0, 1]);
        for vlan in &TAGS[..self.tags] {
            bytes.extend(TAG_TPID);
            bytes.extend(vlan.to_be_bytes());
        }
        bytes.extend(EXPERIMENTAL);
        bytes.extend(nonce);
        let place = KINDS.iter().position(|kind| kind == self).expect("it is one of them");
        bytes.push(place as u8);
        bytes.resize(self.length.max(bytes.len()), 0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_frame_is_known_by_its_nonce_whatever_became_of_its_tags() {
        let nonce = nonce();
        for (place, kind) in KINDS.iter().enumerate() {
            let bytes = kind.bytes(&nonce);
            assert_eq!(bytes.len(), kind.length);
            assert_eq!(kind_of(&bytes, &nonce), Some(place));
            let untagged = [&bytes[..ADDRESSES], &bytes[ADDRESSES + 4 * kind.tags..]].concat();
            assert_eq!(kind_of(&untagged, &nonce), Some(place));
            assert_eq!(kind_of(&bytes, b"another trial"), None);
        }
    }

    #[test]
    fn the_long_one_is_a_full_packet_behind_two_tags() {
        let bytes = KINDS[3].bytes(&nonce());
        assert_eq!(bytes.len() - ETHERNET, FULL_MTU);
        assert_eq!(bytes[12..22], [0x81, 0, 0, 100, 0x81, 0, 0, 10, 0x88, 0xb5]);
    }
}
