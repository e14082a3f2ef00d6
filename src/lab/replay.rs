//! Frames of a capture on their way into a port of the lab, as if what is at the far end of its link
//! had sent them.
//!
//! ```text
//!   client ── "ready" ◄── lab                      a frame: ns since the first one, u64
//!     frames, each with its time ──► waiting ─┐             its length,            u32
//!     shut for writing                        │             its bytes    (little endian)
//!     outcome, one line of JSON ◄─────────────┘ the fabric sends each at its time
//! ```
//!
//! The client is ahead of the lab by some time; the lab takes a bounded part of what is there between
//! its slices, and holds a bounded part that waits for its time.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fabric::{Direction, LinkIndex, NodeIndex, Sender, Workers};
use crate::io::frame::FRAME_MAX;
use crate::lab::capture::PortOf;
use crate::lab::{HostNode, Lab};
use crate::model::Instant;
use crate::router::{DropReason, Ledger};
use crate::wire::MacAddr;

/// Replays at a time.
const CLIENTS_MAX: usize = 4;
/// Bytes of frames that wait in the lab for their time.
const WAITING_MAX: usize = 4 << 20;
/// Taken from a client between two slices, and at once.
const READ_MAX: usize = 1 << 20;
const PART: usize = 16 << 10;
/// The first frame is sent so long after it has come, so that those behind it are there as well.
const LEAD: Duration = Duration::from_millis(50);
/// How long after the last frame's arrival it is known what became of it: control has taken it.
const AFTER: Duration = Duration::from_millis(100);
/// The lab says so when it takes frames.
pub const READY: &[u8] = b"ready\n";

/// What became of a replay.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The port, under its full name.
    pub port: String,
    /// Frames that were put on the link.
    pub sent: u64,
    /// From the time of the first to when the last was sent.
    pub took_us: u64,
    /// By how much the latest of them was late.
    pub latest_us: u64,
    /// What the link and the node dropped meanwhile, of other traffic too.
    pub dropped: Vec<Dropped>,
    /// False where the node is a program of somebody else's.
    pub is_known: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Dropped {
    /// The node or the link.
    pub at: String,
    pub reason: String,
    pub packets: u64,
    /// The reason in a sentence.
    pub meaning: String,
}

/// What of it a lab holds.
#[derive(Debug, Default)]
pub(super) struct Replays {
    running: Vec<Replay>,
    /// Who sends into a link; there for the next replay too, with its books.
    senders: BTreeMap<(LinkIndex, Direction), NodeIndex>,
}

/// A replay that goes on.
#[derive(Debug)]
struct Replay {
    client: UnixStream,
    /// Read, and not yet a whole frame.
    rest: Vec<u8>,
    into: Into,
    before: Books,
    /// When the first frame is due.
    zero: Option<Instant>,
    /// The client sends no more.
    ended: bool,
    /// When it is known what became of the last frame.
    over: Option<Instant>,
}

/// Where the frames go.
#[derive(Debug)]
struct Into {
    port: String,
    link: LinkIndex,
    /// Towards the port.
    direction: Direction,
    link_name: String,
    node_name: String,
    /// None where it is a program of somebody else's.
    node: Option<NodeIndex>,
    sender: NodeIndex,
    /// What frames for one station are addressed to, where that is not what they say.
    mac: Option<MacAddr>,
}

/// Of the sender, the link and the node.
#[derive(Debug)]
struct Books([Ledger; 3]);

/// A frame of a client's, and what is behind it.
struct Given<'a> {
    after: Duration,
    frame: &'a [u8],
    rest: &'a [u8],
}

/// A frame that is longer than any slot: the client is none of ours.
struct TooLong;

/// Appends a frame that is to be sent so long after the first.
pub fn encode(after: Duration, bytes: &[u8], to: &mut Vec<u8>) {
    let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
    to.extend(after.to_le_bytes());
    to.extend((bytes.len() as u32).to_le_bytes());
    to.extend(bytes);
}

/// The frame at the front, if all of it is there.
fn decode(bytes: &[u8]) -> Result<Option<Given<'_>>, TooLong> {
    let Some((after, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > FRAME_MAX {
        return Err(TooLong);
    }
    let after = Duration::from_nanos(u64::from_le_bytes(*after));
    Ok(rest.split_at_checked(length).map(|(frame, rest)| Given { after, frame, rest }))
}

impl Lab {
    /// Sends what a client gives into a port, with the times between. With `readdress`, frames for one
    /// station go to the port's own MAC address. It goes on as long as [`Lab::tend_replays`] is called.
    ///
    /// # Errors
    /// There is no such port, or another replay goes into it; for a person.
    pub fn replay_for(
        &mut self,
        mut client: UnixStream,
        place: &str,
        readdress: bool,
    ) -> Result<(), String> {
        let at = self.port_at(place)?;
        let name = at.name();
        let PortOf { node: node_name, port, link, outbound } = at;
        let direction = outbound.back();
        let running = &self.replays.running;
        if running.len() >= CLIENTS_MAX {
            return Err(format!("{CLIENTS_MAX} replays are running; end one of them"));
        }
        if running.iter().any(|other| other.into.link == link && other.into.direction == direction)
        {
            return Err(format!("another replay goes into {name}; end it first"));
        }
        let mac = match (readdress, self.desired.get(&node_name)) {
            (false, _) => None,
            (true, Some(config)) if self.routers.contains_key(&node_name) => {
                config.ports.iter().find(|other| other.name == port).map(|port| port.mac)
            }
            (true, _) => {
                return Err(format!(
                    "{name} is no router of the lab's own, whose MAC address is known; \
                     replay without --readdress"
                ));
            }
        };
        let (fabric, senders) = (&mut self.fabric, &mut self.replays.senders);
        let sender = senders.entry((link, direction));
        let sender = *sender.or_insert_with(|| fabric[link].add_sender(link, direction));
        fabric[sender].with_sender(sender, Sender::take_latest);
        let into = Into {
            link_name: self.fabric[link].link_name(link).to_owned(),
            node: self.routers.get(&node_name).or(self.hosts.get(&node_name)).copied(),
            port: name,
            link,
            direction,
            node_name,
            sender,
            mac,
        };
        client.write_all(READY).map_err(|error| error.to_string())?;
        let before = into.books(&self.fabric);
        let (rest, zero, ended, over) = (Vec::new(), None, false, None);
        self.replays.running.push(Replay { client, rest, into, before, zero, ended, over });
        Ok(())
    }

    /// Takes what the clients of replays have for it, and ends those that are over. To be called
    /// between slices of the lab's time.
    pub fn tend_replays(&mut self) {
        let fabric = &mut self.fabric;
        self.replays.running.retain_mut(|replay| replay.tend(fabric));
    }
}

impl Replay {
    /// False when it is over.
    fn tend(&mut self, fabric: &mut Workers<HostNode>) -> bool {
        if self.take(fabric).is_err() {
            return false;
        }
        let (now, sender) = (fabric.now(), self.into.sender);
        if !self.ended || !fabric[sender].with_sender(sender, |sender| sender.is_idle()) {
            return true;
        }
        let arrived =
            || fabric[self.into.link].last_arrival(self.into.link, self.into.direction).max(now);
        if now < *self.over.get_or_insert_with(|| arrived() + AFTER) {
            return true;
        }
        let mut answer =
            serde_json::to_vec(&self.outcome(fabric)).expect("an outcome is plain data");
        answer.push(b'\n');
        // Whoever has gone does not hear it; it is shorter than what a socket takes.
        let _ = self.client.write_all(&answer);
        false
    }

    /// Takes frames from the client, as far as there is room for them.
    fn take(&mut self, fabric: &mut Workers<HostNode>) -> io::Result<()> {
        let (now, sender) = (fabric.now(), self.into.sender);
        let mut waiting = fabric[sender].with_sender(sender, |sender| sender.waiting_bytes());
        let mut read = 0;
        let mut part = [0; PART];
        while !self.ended && read < READ_MAX && waiting < WAITING_MAX {
            match self.client.read(&mut part) {
                Ok(0) => self.ended = true,
                Ok(length) => {
                    read += length;
                    self.rest.extend(&part[..length]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            waiting = self.hand_over(fabric, now)?;
        }
        Ok(())
    }

    /// Gives the sender the whole frames that are there, and says how many bytes it has.
    fn hand_over(&mut self, fabric: &mut Workers<HostNode>, now: Instant) -> io::Result<usize> {
        let mut rest = &self.rest[..];
        let (zero, mac) = (&mut self.zero, self.into.mac);
        let waiting = fabric[self.into.sender].with_sender(self.into.sender, |sender| {
            while let Some(Given { after, frame, rest: behind }) = decode(rest)? {
                let zero = *zero.get_or_insert(now + LEAD);
                sender.send_at(zero + after, readdressed(frame, mac));
                rest = behind;
            }
            Ok(sender.waiting_bytes())
        });
        let left = rest.len();
        self.rest.drain(..self.rest.len() - left);
        waiting.map_err(|TooLong| ErrorKind::InvalidData.into())
    }

    fn outcome(&self, fabric: &mut Workers<HostNode>) -> Outcome {
        let Self { into, before: Books(before), .. } = self;
        let (latest, last_sent) = fabric[into.sender]
            .with_sender(into.sender, |sender| (sender.take_latest(), sender.last_sent()));
        let took = self.zero.map_or(Duration::ZERO, |zero| last_sent.since(zero));
        let Books(after) = into.books(fabric);
        let places = ["", &into.link_name, &into.node_name];
        let mut dropped = Vec::new();
        for ((before, after), at) in before.iter().zip(&after).zip(places) {
            for &reason in DropReason::ALL {
                let packets = after.dropped[reason as usize] - before.dropped[reason as usize];
                if packets > 0 {
                    dropped.push(Dropped {
                        at: if at.is_empty() { into.port.clone() } else { at.to_owned() },
                        reason: reason.name().to_owned(),
                        packets,
                        meaning: reason.meaning().trim().to_owned(),
                    });
                }
            }
        }
        Outcome {
            port: into.port.clone(),
            sent: after[0].transmitted - before[0].transmitted,
            took_us: took.as_micros() as u64,
            latest_us: latest.as_micros() as u64,
            dropped,
            is_known: into.node.is_some(),
        }
    }
}

impl Into {
    fn books(&self, fabric: &Workers<HostNode>) -> Books {
        Books([
            fabric[self.sender].ledger(self.sender),
            fabric[self.link].link_ledger(self.link, self.direction).clone(),
            self.node.map(|node| fabric[node].ledger(node)).unwrap_or_default(),
        ])
    }
}

/// The frame, to a station of that address if it is for one.
fn readdressed(frame: &[u8], mac: Option<MacAddr>) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    if let (Some(mac), Some(destination)) = (mac, bytes.first_chunk_mut())
        && !MacAddr(*destination).is_multicast()
    {
        *destination = mac.0;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::Shutdown;
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::fabric::Observer;

    /// The port of an MSEE that leads to the customer.
    const NNI: &str = "ams/primary/nni:Equinix";
    /// Between two calls of [`Lab::tend_replays`].
    const SLICE: Duration = Duration::from_millis(10);

    /// The frames that go from the provider to the MSEE, with when.
    struct Entered(LinkIndex, Vec<(Instant, Vec<u8>)>);

    impl Observer for Entered {
        fn frame(&mut self, link: LinkIndex, direction: Direction, bytes: &[u8], now: Instant) {
            if link == self.0 && direction == Direction::Forward {
                self.1.push((now, bytes.to_vec()));
            }
        }
    }

    fn lab() -> (Lab, Entered) {
        let path = Path::new("fixtures/labs/quickstart.yaml");
        let file = config::load_lab(path, &fs::read_to_string(path).unwrap()).unwrap();
        let mut lab = Lab::new(&file, file.seed);
        let link = lab.nni("ams", crate::model::LinkRole::Primary).unwrap();
        let mut entered = Entered(link, Vec::new());
        lab.run_until(Instant::from_secs(20), &mut entered);
        assert!(lab.is_converged());
        lab.watch(link);
        entered.1.clear();
        (lab, entered)
    }

    fn client() -> (UnixStream, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        (near, far)
    }

    /// With tags that no circuit has.
    fn unknown_tags() -> Vec<u8> {
        let mut frame = vec![2; 60];
        frame[12..20].copy_from_slice(&[0x81, 0x00, 0x0f, 0xa0, 0x81, 0x00, 0x00, 0x64]);
        frame
    }

    fn run(lab: &mut Lab, entered: &mut Entered, slices: usize) {
        for _ in 0..slices {
            lab.run_until(lab.now() + SLICE, entered);
            lab.tend_replays();
        }
    }

    /// The last frames of a client, until they have arrived.
    fn replay_last(client: &mut UnixStream, frames: &[u8], lab: &mut Lab, entered: &mut Entered) {
        client.write_all(frames).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        run(lab, entered, 30);
    }

    fn outcome(mut client: UnixStream) -> Outcome {
        let mut text = Vec::new();
        client.read_to_end(&mut text).unwrap();
        serde_json::from_slice(text.strip_prefix(READY).unwrap()).unwrap()
    }

    #[test]
    fn frames_keep_the_times_between_them_and_are_told_with_what_dropped_them() {
        let (mut lab, mut entered) = lab();
        let (near, mut client) = client();
        lab.replay_for(near, NNI, false).unwrap();
        let times = [0, 100, 100_250, 1_000_000].map(Duration::from_micros);
        let mut frames = Vec::new();
        for after in times {
            encode(after, &unknown_tags(), &mut frames);
        }
        // In parts that end anywhere.
        for part in frames.chunks(50) {
            client.write_all(part).unwrap();
            run(&mut lab, &mut entered, 1);
        }
        client.shutdown(Shutdown::Write).unwrap();
        run(&mut lab, &mut entered, 130);
        let replayed = entered.1.iter().filter(|(_, bytes)| *bytes == unknown_tags());
        let at: Vec<_> = replayed.map(|(at, _)| *at).collect();
        let after: Vec<_> = at.iter().map(|later| later.since(at[0])).collect();
        assert_eq!(after, times);
        let dropped = Dropped {
            at: "ams/primary".to_owned(),
            reason: "unknown-tags".to_owned(),
            packets: 4,
            meaning: "The tags (or the VNI) belong to no attachment of the port.".to_owned(),
        };
        let outcome = outcome(client);
        assert_eq!(outcome.port, NNI);
        assert_eq!((outcome.sent, outcome.is_known), (4, true));
        assert_eq!((outcome.took_us, outcome.latest_us), (1_000_000, 0));
        assert_eq!(outcome.dropped, [dropped]);
        assert!(lab.totals().held);
        assert!(lab.replays.running.is_empty());
    }

    /// It is on the link that they are lost.
    #[test]
    fn a_link_that_is_cut_drops_them_by_its_name() {
        let (mut lab, mut entered) = lab();
        let nni = config::Place {
            circuit: "ams".to_owned(),
            link: crate::model::LinkRole::Primary,
            segment: config::Segment::Nni,
        };
        lab.break_at(&nni, config::drill::Directions::Both, crate::fabric::Fault::Cut);
        run(&mut lab, &mut entered, 50);
        let (near, mut client) = client();
        lab.replay_for(near, NNI, false).unwrap();
        let mut frame = Vec::new();
        encode(Duration::ZERO, &unknown_tags(), &mut frame);
        replay_last(&mut client, &frame, &mut lab, &mut entered);
        let outcome = outcome(client);
        let mut lost = outcome.dropped.iter().filter(|row| row.reason == "link-down");
        let lost = lost.next().unwrap_or_else(|| panic!("{outcome:?}"));
        assert!(lost.at.contains("primary") && lost.packets >= 1, "{outcome:?}");
        assert!(lab.totals().held);
    }

    #[test]
    fn frames_for_one_station_are_readdressed_and_others_are_not() {
        let (mut lab, mut entered) = lab();
        let (near, mut client) = client();
        lab.replay_for(near, NNI, true).unwrap();
        let mut broadcast = unknown_tags();
        broadcast[..6].copy_from_slice(&[0xff; 6]);
        let mut frames = Vec::new();
        encode(Duration::ZERO, &unknown_tags(), &mut frames);
        encode(Duration::ZERO, &broadcast, &mut frames);
        encode(Duration::ZERO, &[2; 5], &mut frames);
        replay_last(&mut client, &frames, &mut lab, &mut entered);
        outcome(client);
        let ports = &lab.desired("ams/primary").unwrap().ports;
        let mac = ports.iter().find(|port| NNI.ends_with(&port.name)).unwrap().mac;
        let replayed: Vec<_> = entered.1.iter().map(|(_, bytes)| &bytes[..]).collect();
        let unicast = [&mac.0[..], &unknown_tags()[6..]].concat();
        for sent in [&unicast[..], &broadcast, &[2; 5]] {
            assert!(replayed.contains(&sent), "{sent:?}");
        }
    }

    /// The lab holds so much and no more, leaves the rest with the client, and goes on.
    #[test]
    fn a_flood_is_taken_in_bounded_parts() {
        let (mut lab, mut entered) = lab();
        let (near, client) = client();
        lab.replay_for(near, NNI, false).unwrap();
        let frames = 4 * WAITING_MAX / 1_000;
        let mut writer = client.try_clone().unwrap();
        let sent = std::thread::spawn(move || {
            let mut frame = Vec::new();
            let mut bytes = unknown_tags();
            bytes.resize(1_000, 0);
            encode(Duration::ZERO, &bytes, &mut frame);
            (0..frames).for_each(|_| writer.write_all(&frame).unwrap());
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let sender = lab.replays.running[0].into.sender;
        while !lab.replays.running.is_empty() {
            run(&mut lab, &mut entered, 1);
            let waiting = lab.fabric[sender].with_sender(sender, |sender| sender.waiting_bytes());
            assert!(waiting <= WAITING_MAX + (64 << 10), "{waiting} bytes wait");
            let rest = lab.replays.running.first().map_or(0, |replay| replay.rest.len());
            assert!(rest <= 64 << 10, "{rest} bytes are not handed over");
        }
        sent.join().unwrap();
        let outcome = outcome(client);
        assert_eq!(outcome.sent, frames as u64);
        assert!(lab.is_converged());
        assert!(lab.totals().held);
    }

    #[test]
    fn a_client_that_means_harm_or_goes_ends_its_own_replay() {
        let (mut lab, mut entered) = lab();
        let (near, mut harmful) = client();
        lab.replay_for(near, NNI, false).unwrap();
        harmful.write_all(&[0xff; 100]).unwrap();
        run(&mut lab, &mut entered, 1);
        assert!(lab.replays.running.is_empty());

        let (near, gone) = client();
        lab.replay_for(near, NNI, false).unwrap();
        let (near, _second) = client();
        let refused = lab.replay_for(near, NNI, false).unwrap_err();
        assert!(refused.contains("another replay goes into ams/primary/"), "{refused}");
        drop(gone);
        run(&mut lab, &mut entered, 30);
        assert!(lab.replays.running.is_empty());
    }

    #[test]
    fn a_place_is_one_port() {
        let (mut lab, _) = lab();
        let mut refused = |place| lab.replay_for(client().0, place, true).unwrap_err();
        let several = refused("ce1");
        assert!(several.contains("several ports; name one of ce1/"), "{several}");
        assert!(refused("ams/primry").contains("did you mean ams/primary"));
        assert!(refused("dc1.erp").contains("without --readdress"));
    }
}
