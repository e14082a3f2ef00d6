//! Captures of a lab's links, read back: every frame once, as it was, and why it was lost.

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use etherparse::{NetSlice, SlicedPacket, TransportSlice, VlanSlice};
use msee::config::drill::Directions;
use msee::config::{Place, Segment};
use msee::fabric::{Direction, Fault, FaultScope, LinkIndex, Observer};
use msee::lab::Lab;
use msee::model::{Instant, LinkRole};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgReader};

const NNI: &str = "ams/primary:nni";

/// A packet of a capture.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Packet {
    interface: String,
    /// As in `epb_flags`: 1 is in, 2 is out.
    direction: u32,
    at: Duration,
    bytes: Vec<u8>,
    comments: Vec<String>,
}

fn read(path: &Path) -> Vec<Packet> {
    let mut reader = PcapNgReader::new(File::open(path).unwrap()).unwrap();
    let (mut interfaces, mut packets) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::InterfaceDescription(block) => {
                let name = |option: &InterfaceDescriptionOption<'_>| match option {
                    InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                    _ => None,
                };
                let resolution = InterfaceDescriptionOption::IfTsResol(9);
                assert!(block.options.contains(&resolution), "{:?}", block.options);
                interfaces.push(block.options.iter().find_map(name).unwrap());
            }
            Block::EnhancedPacket(block) => {
                let flags = |option: &EnhancedPacketOption<'_>| match option {
                    EnhancedPacketOption::Flags(flags) => Some(*flags),
                    _ => None,
                };
                let comment = |option: &EnhancedPacketOption<'_>| match option {
                    EnhancedPacketOption::Comment(text) => Some(text.to_string()),
                    _ => None,
                };
                packets.push(Packet {
                    interface: interfaces[block.interface_id as usize].clone(),
                    direction: block.options.iter().find_map(flags).unwrap(),
                    at: block.timestamp,
                    comments: block.options.iter().filter_map(comment).collect(),
                    bytes: block.data.into_owned(),
                });
            }
            other => panic!("{other:?}"),
        }
    }
    packets
}

/// What goes into one link, each direction in order.
struct Entered {
    link: LinkIndex,
    frames: [Vec<Vec<u8>>; 2],
}

impl Observer for Entered {
    fn frame(&mut self, link: LinkIndex, direction: Direction, bytes: &[u8], _now: Instant) {
        if link == self.link {
            self.frames[direction as usize].push(bytes.to_vec());
        }
    }
}

fn nni() -> Place {
    Place { circuit: "ams".to_owned(), link: LinkRole::Primary, segment: Segment::Nni }
}

fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

/// A lab that comes up and then loses what is between the provider and an MSEE.
fn blackholed(file: &Path) -> (Lab, Entered) {
    let (lab, _) = support::load_drill(Path::new("tests/on_wire/blackhole.yaml"));
    let mut lab = Lab::new(&lab, 7);
    let link = lab.nni("ams", LinkRole::Primary).unwrap();
    lab.watch(link);
    lab.capture(File::create(file).unwrap());
    let mut entered = Entered { link, frames: [Vec::new(), Vec::new()] };
    lab.run_until(Instant::ZERO + Duration::from_secs(20), &mut entered);
    lab.break_at(&nni(), Directions::Both, Fault::Blackhole(FaultScope::All));
    lab.run_until(Instant::ZERO + Duration::from_secs(23), &mut entered);
    lab.end_capture().unwrap().unwrap();
    (lab, entered)
}

#[test]
fn every_frame_of_a_link_is_there_once_in_order_and_as_it_was() {
    let file = scratch("once").join("lab.pcapng");
    let (_, entered) = blackholed(&file);
    let packets = read(&file);
    assert!(packets.is_sorted_by_key(|packet| packet.at));
    assert!(packets.last().unwrap().at <= Duration::from_secs(23), "time begins at the epoch");
    for (direction, flag) in [(Direction::Forward, 2), (Direction::Backward, 1)] {
        let of = |packet: &&Packet| packet.interface == NNI && packet.direction == flag;
        let captured: Vec<_> = packets.iter().filter(of).map(|packet| &packet.bytes).collect();
        let entered: Vec<_> = entered.frames[direction as usize].iter().collect();
        assert!(entered.len() > 50, "{} frames", entered.len());
        assert_eq!(captured, entered);
    }
}

#[test]
fn the_books_of_every_link_are_those_of_the_capture() {
    let file = scratch("books").join("lab.pcapng");
    let (lab, _) = blackholed(&file);
    let mut captured: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for packet in read(&file) {
        let (arrived, lost) = captured.entry(packet.interface).or_default();
        *(if packet.comments.is_empty() { arrived } else { lost }) += 1;
    }
    let mut booked: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (name, ledger) in lab.link_ledgers().filter(|(_, ledger)| ledger.received > 0) {
        // A drill calls what belongs to a provider by the circuit on it.
        let name = name.replace("Equinix Amsterdam/", "ams/");
        let (arrived, lost) = booked.entry(name).or_default();
        *arrived += ledger.transmitted;
        *lost += ledger.received - ledger.transmitted - ledger.queued;
    }
    assert_eq!(captured, booked);
    assert!(booked[NNI].1 > 0);
}

#[test]
fn both_tags_and_the_control_protocols_are_there() {
    let file = scratch("tags").join("lab.pcapng");
    blackholed(&file);
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for packet in read(&file).iter().filter(|packet| packet.interface == NNI) {
        let parsed = SlicedPacket::from_ethernet(&packet.bytes).unwrap();
        let tags = parsed.vlan().map(|vlan| match vlan {
            VlanSlice::DoubleVlan(both) => both,
            VlanSlice::SingleVlan(_) => panic!("one tag only"),
        });
        assert!(tags.is_some(), "{packet:?}");
        let kind = match (parsed.net, parsed.transport) {
            (Some(NetSlice::Arp(_)), _) => "arp",
            (_, Some(TransportSlice::Tcp(tcp)))
                if [tcp.source_port(), tcp.destination_port()].contains(&179) =>
            {
                "bgp"
            }
            (_, Some(TransportSlice::Udp(udp))) if udp.destination_port() == 3784 => "bfd",
            _ => "other",
        };
        *seen.entry(kind).or_default() += 1;
    }
    for kind in ["arp", "bgp", "bfd"] {
        assert!(seen.contains_key(kind), "{kind} in {seen:?}");
    }
}

/// As a user runs it: a file for the run, in which each lost packet says why.
#[test]
fn a_drill_writes_a_file_a_run_with_the_reasons_of_its_losses() {
    let folder = scratch("drill");
    let drill = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/on_wire/blackhole.yaml");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_msee"));
        command.arg("drill").arg(&drill).args(["--run", "1", "--json"]).args(arguments);
        let output = command.output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let report = run(&["--capture", folder.to_str().unwrap()]);
    assert!(report == run(&[]), "to capture a run changes nothing of it");
    let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    for name in &names {
        let packets = read(&folder.join(name));
        let lost: Vec<_> = packets.iter().filter(|packet| !packet.comments.is_empty()).collect();
        assert!(lost.len() > 100, "{} lost packets in {name}", lost.len());
        for packet in lost {
            assert_eq!(packet.comments, ["dropped: link-down"], "on {}", packet.interface);
            assert_eq!(packet.interface, NNI);
        }
    }
    assert!(names.contains(&"run-1-ideal.pcapng".to_owned()), "{names:?}");
}

#[test]
fn a_folder_that_cannot_be_made_is_said_before_the_drill() {
    let drill = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/on_wire/blackhole.yaml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_msee"));
    let output =
        command.arg("drill").arg(drill).args(["--capture", "/proc/none"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("/proc/none: "));
}
