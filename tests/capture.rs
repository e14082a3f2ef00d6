//! Captures of a lab's links, read back: every frame once, as it was, and why it was lost. Where no
//! sandbox can be made, the tests of running labs say `SKIPPED` and why.

#[path = "support/detached.rs"]
mod detached;
#[path = "support/skip.rs"]
mod skip;
mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use detached::DetachedLab;
use etherparse::{NetSlice, SlicedPacket, TransportSlice, VlanSlice};
use msee::config::drill::Directions;
use msee::config::{NodeRef, Place, Segment};
use msee::fabric::{Direction, Fault, FaultScope, LinkIndex, Observer};
use msee::lab::Lab;
use msee::model::{Instant, LinkRole};
use msee::router::DropReason;
use msee::sys::clock;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgReader};

const NNI: &str = "ams/primary:nni";
/// Behind a router's name, where it is what the router drops.
const DROPS: &str = " drops";

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
            Block::InterfaceStatistics(_) => {}
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
    for packet in read(&file).into_iter().filter(|packet| !packet.interface.ends_with(DROPS)) {
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

/// Routers that have something to drop: what is for nobody, and what no route leads to.
#[test]
fn the_books_of_every_router_are_those_of_the_capture() {
    let file = scratch("routers").join("lab.pcapng");
    let (lab, _) = support::load_drill(Path::new("tests/on_wire/blackhole.yaml"));
    let mut lab = Lab::new(&lab, 7);
    let link = lab.nni("ams", LinkRole::Primary).unwrap();
    let mut entered = Entered { link, frames: [Vec::new(), Vec::new()] };
    lab.run_until(Instant::ZERO + Duration::from_secs(20), &mut entered);
    let before: BTreeMap<_, _> =
        lab.node_ledgers().map(|(name, books)| (name.to_owned(), books.dropped)).collect();
    lab.capture(File::create(&file).unwrap());
    let mut unknown = vec![2; 60];
    unknown[12..18].copy_from_slice(&[0x81, 0x00, 0x0f, 0xa0, 0x08, 0x00]);
    for times in [3, 5] {
        for _ in 0..times {
            let direction = if times == 3 { Direction::Forward } else { Direction::Backward };
            lab.send_from_outside(&nni(), direction, &unknown);
        }
    }
    lab.run_until(Instant::ZERO + Duration::from_secs(21), &mut entered);
    lab.crash(&NodeRef::resolve("ams/secondary", lab.file()).unwrap());
    lab.run_until(Instant::ZERO + Duration::from_secs(23), &mut entered);
    lab.end_capture().unwrap().unwrap();
    assert!(lab.totals().held);

    let mut captured: BTreeMap<(String, String), u64> = BTreeMap::new();
    for packet in read(&file) {
        if let Some(router) = packet.interface.strip_suffix(DROPS) {
            let [reason] = &packet.comments[..] else { panic!("{packet:?}") };
            let reason = reason.strip_prefix("dropped: ").unwrap().to_owned();
            *captured.entry((router.to_owned(), reason)).or_default() += 1;
        }
    }
    let mut booked: BTreeMap<(String, String), u64> = BTreeMap::new();
    for (name, books) in lab.node_ledgers().filter(|(name, _)| !name.contains('.')) {
        for &reason in DropReason::ALL {
            let packets = books.dropped[reason as usize] - before[name][reason as usize];
            if packets > 0 {
                booked.insert((name.to_owned(), reason.name().to_owned()), packets);
            }
        }
    }
    assert_eq!(captured, booked);
    let of = |name: &str| booked[&(name.to_owned(), "unknown-tags".to_owned())];
    assert_eq!((of("ams/primary"), of("Equinix Amsterdam")), (3, 5));
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
        let of_link = |packet: &&Packet| !packet.interface.ends_with(DROPS);
        let lost = packets.iter().filter(|packet| !packet.comments.is_empty()).filter(of_link);
        let lost: Vec<_> = lost.collect();
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

/// How a section of pcapng begins.
const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// The quick-start lab, and captures of it.
struct Running(DetachedLab);

impl Running {
    /// None where this host makes no sandbox.
    fn up(test: &str, workers: u8) -> Option<Self> {
        DetachedLab::up(test, workers).map(Self)
    }

    /// The file of a capture that ends by itself.
    fn capture(&self, words: &[&str]) -> PathBuf {
        let file = self.0.folder.join("captured.pcapng");
        let words = [&["capture", "-w", file.to_str().unwrap()], words].concat();
        let output = self.0.run(&words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        file
    }

    /// A capture that goes on, from when its file is there.
    fn begin(&self, place: &str) -> (Child, PathBuf) {
        let file = self.0.folder.join("going-on.pcapng");
        let words = ["capture", place, "-w", file.to_str().unwrap()];
        let capture = self.0.command(&words).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("the capture has begun", || {
            fs::metadata(&file).is_ok_and(|file| file.len() > 0)
        });
        (capture, file)
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.0.folder.join("msee/quickstart.sock")).unwrap()
    }

    /// Sends a packet from a host to where no route leads.
    fn send_to_nowhere(&self) {
        let output = self.0.run(&[
            "lab",
            "exec",
            "dc1.erp",
            "--",
            "bash",
            "-c",
            "echo lost >/dev/udp/203.0.113.9/9",
        ]);
        assert!(output.status.success(), "{output:?}");
    }
}

/// By a minute at the most.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = clock::monotonic();
    while !holds() {
        assert!(clock::monotonic() < begun + Duration::from_mins(1), "{what}");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_node_of_a_running_lab_is_captured_as_it_sees_its_links() {
    let Some(lab) = Running::up("node", 3) else { return };
    let packets = read(&lab.capture(&["quickstart/ams/primary", "--packets", "12"]));
    assert_eq!(packets.len(), 12);
    for packet in &packets {
        let parsed = SlicedPacket::from_ethernet(&packet.bytes).unwrap();
        assert!(matches!(parsed.vlan(), Some(VlanSlice::DoubleVlan(_))), "both tags: {packet:?}");
        let Some(NetSlice::Ipv4(ip)) = parsed.net else { continue };
        // Of the customer's subnet, Microsoft has the second address (F-14).
        let own = ip.header().source_addr().octets() == [172, 16, 0, 2];
        assert_eq!(packet.direction, if own { 2 } else { 1 }, "{packet:?}");
    }
    // The same link from its other end, and as drills call it: in and out are the node's.
    let ce1 = read(&lab.capture(&["ce1/eth1", "--packets", "4"]));
    assert!(ce1.iter().all(|packet| packet.interface == "ce1/eth1"));
    let nni = read(&lab.capture(&[NNI, "--seconds", "1"]));
    assert!(!nni.is_empty() && nni.iter().all(|packet| packet.interface == NNI));

    let refused = lab.0.run(&["capture", "ams/primry", "-w", "/dev/null"]);
    assert_eq!(refused.status.code(), Some(2));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("did you mean ams/primary?"), "{text}");
}

#[test]
fn what_a_router_drops_says_why_and_ctrl_c_keeps_it() {
    let Some(lab) = Running::up("drops", 3) else { return };
    let (capture, file) = lab.begin("ce1");
    lab.send_to_nowhere();
    let dropped = |packets: &[Packet]| -> Vec<Packet> {
        let of = packets.iter().filter(|packet| packet.interface == "ce1 drops");
        of.cloned().collect()
    };
    // Written while it goes on.
    wait_until("the drop is in the file", || file_holds(&file, b"dropped: no-route"));
    let pid = rustix::process::Pid::from_child(&capture);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = capture.wait_with_output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    let packets = read(&file);
    assert_eq!(said, format!("{} packets captured\n", packets.len()));
    let dropped = dropped(&packets);
    assert!(!dropped.is_empty());
    for packet in &dropped {
        assert_eq!(packet.comments, ["dropped: no-route"]);
        let came = packets.iter().find(|other| other.bytes == packet.bytes).unwrap();
        assert_eq!((&*came.interface, came.direction), ("ce1/lan:erp", 1));
    }
}

fn file_holds(file: &Path, text: &[u8]) -> bool {
    fs::read(file).unwrap().windows(text.len()).any(|part| part == text)
}

#[test]
fn clients_that_never_read_are_bounded_and_leave_with_their_connection() {
    let Some(lab) = Running::up("deaf", 1) else { return };
    let begin = || {
        let mut client = lab.connect();
        client.write_all(b"{\"capture\":{\"place\":\"ce1\"}}\n").unwrap();
        let mut first = [0; 4];
        client.read_exact(&mut first).unwrap();
        (client, first)
    };
    let mut deaf: Vec<_> = (0..4).map(|_| begin()).collect();
    assert!(deaf.iter().all(|(_, first)| *first == SECTION));
    assert_eq!(&begin().1, b"{\"er");
    // One says that this is enough, one is gone.
    let (mut ended, _) = deaf.pop().unwrap();
    ended.shutdown(Shutdown::Write).unwrap();
    ended.read_to_end(&mut Vec::new()).unwrap();
    drop(deaf.pop());
    wait_until("there is room again", || begin().1 == SECTION);
    let rows = lab.0.run(&["show", "bgp", "--json"]);
    assert!(rows.status.success());
}

/// As Wireshark reads it: the tags, the protocols, the direction and the comment.
#[test]
fn tshark_reads_it() {
    let Ok(version) = Command::new("tshark").arg("--version").output() else {
        return skip::skipped("capture: tshark is not installed");
    };
    assert!(version.status.success());
    let Some(lab) = Running::up("tshark", 1) else { return };
    let (mut capture, file) = lab.begin("ce1");
    lab.send_to_nowhere();
    wait_until("the drop is in the file", || file_holds(&file, b"dropped: no-route"));
    wait_until("BFD has gone both ways", || fs::metadata(&file).unwrap().len() > 4_000);
    let pid = rustix::process::Pid::from_child(&capture);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(capture.wait().unwrap().success());
    let count = |filter: &str| {
        let mut tshark = Command::new("tshark");
        let output = tshark.arg("-r").arg(&file).args(["-Y", filter]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().count()
    };
    for filter in [
        "bfd && frame.interface_name == \"ce1/eth1\" && frame.packet_flags_direction == 1",
        "bfd && frame.interface_name == \"ce1/eth1\" && frame.packet_flags_direction == 2",
        "udp && frame.comment == \"dropped: no-route\"",
    ] {
        assert!(count(filter) > 0, "{filter}");
    }
    assert_eq!(count("_ws.malformed"), 0);
}
