//! Frames of a capture file in a running lab, through the real program: `msee replay`. Where no sandbox
//! can be made, the tests of running labs say `SKIPPED` and why.

#[path = "support/detached.rs"]
mod detached;
#[path = "support/skip.rs"]
mod skip;

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use detached::DetachedLab;
use msee::sys::clock;
use pcap_file::pcap::{PcapHeader, PcapWriter, RawPcapPacket};
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{Endianness, TsResolution};
use serde_json::Value;

/// The port of an MSEE that leads to the customer.
const NNI: &str = "ams/primary/nni:Equinix";
/// Between two frames of the capture.
const APART: Duration = Duration::from_millis(700);

fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("replay-{name}-{}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    path
}

/// With tags that no circuit has, and a number.
fn unknown_tags(number: u8) -> Vec<u8> {
    let mut frame = vec![2; 60];
    frame[12..20].copy_from_slice(&[0x81, 0x00, 0x0f, 0xa0, 0x81, 0x00, 0x00, 0x64]);
    frame[59] = number;
    frame
}

/// A classic capture: frames [`APART`], the second cut short.
fn capture(frames: u8) -> Vec<u8> {
    let ts_resolution = TsResolution::NanoSecond;
    let header = PcapHeader { endianness: Endianness::Big, ts_resolution, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
    for number in 0..frames {
        let at = APART * number.into();
        let packet = RawPcapPacket {
            ts_sec: at.as_secs() as u32,
            ts_frac: at.subsec_nanos(),
            incl_len: 60,
            orig_len: if number == 1 { 1500 } else { 60 },
            data: Cow::Owned(unknown_tags(number)),
        };
        writer.write_raw_packet(&packet).unwrap();
    }
    writer.into_writer()
}

fn msee(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_msee"));
    command.args(words).env("XDG_RUNTIME_DIR", folder).stdin(Stdio::null());
    command
}

/// What is said of a command that is refused.
fn refused(output: Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Before a lab is looked for.
#[test]
fn what_is_wrong_with_the_file_is_said_first() {
    let folder = scratch("files");
    let file = folder.join("ce.pcap");
    let said = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        refused(msee(&folder, &["replay", file.to_str().unwrap(), "ams/primary"]).output().unwrap())
    };
    let name = file.to_str().unwrap();
    let whole = capture(3);
    assert!(said(&whole).contains("no lab"), "{}", said(&whole));
    let cut = said(&whole[..whole.len() - 1]);
    let at = 24 + 2 * 76;
    assert!(
        cut.starts_with(&format!("msee: {name}: offset {at}: the file ends after 75 bytes")),
        "{cut}"
    );
    let text = said(b"{ \"frames\": [] }");
    assert!(text.contains("offset 0: the file begins with 7b 20 22 66; expected pcapng"), "{text}");
    let none = said(&whole[..24]);
    assert!(none.contains("there is no frame to send"), "{none}");
    let no_file = msee(&folder, &["replay", "/dev/null", "ams/primary"]).output().unwrap();
    assert!(refused(no_file).contains("is no file"));
    fs::remove_dir_all(&folder).unwrap();
}

fn write(lab: &DetachedLab, name: &str, bytes: &[u8]) -> String {
    let path = lab.folder.join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What a replay says in JSON.
fn replay(lab: &DetachedLab, words: &[&str]) -> Value {
    let output = lab.run(&[&["replay", "--json"], words].concat());
    assert!(output.status.success(), "{words:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The reason `unknown-tags` of an outcome.
fn unknown(outcome: &Value) -> u64 {
    let rows = outcome["dropped"].as_array().unwrap();
    let found =
        rows.iter().find(|row| row["reason"] == "unknown-tags" && row["at"] == "ams/primary");
    found.map_or(0, |row| row["packets"].as_u64().unwrap())
}

#[test]
fn a_capture_is_replayed_with_its_times_and_told_with_its_drops() {
    let Some(lab) = DetachedLab::up("times", 1) else { return };
    let file = write(&lab, "ce.pcap", &capture(4));
    let seen = lab.folder.join("seen.pcapng");
    let mut watch = msee(&lab.folder, &["capture", "ams/primary", "-w", seen.to_str().unwrap()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = clock::monotonic();
    while !fs::metadata(&seen).is_ok_and(|file| file.len() > 0) {
        assert!(clock::monotonic() < begun + Duration::from_secs(30));
        sleep(Duration::from_millis(10));
    }
    let outcome = replay(&lab, &[&file, "quickstart/ams/primary/nni:Equinix", "--speed", "7"]);
    assert_eq!((&outcome["frames"], &outcome["sent"]), (&3.into(), &3.into()), "{outcome}");
    assert_eq!(outcome["skipped"], serde_json::json!({ "cut": 1, "tooLong": 0 }));
    assert_eq!(unknown(&outcome), 3, "{outcome}");
    let watched = rustix::process::Pid::from_child(&watch);
    rustix::process::kill_process(watched, rustix::process::Signal::INT).unwrap();
    assert!(watch.wait().unwrap().success());
    let at = [0, 2, 3].map(|number| arrival(&seen, &unknown_tags(number)));
    let late = Duration::from_micros(outcome["latestUs"].as_u64().unwrap() + 1);
    for (arrived, wanted) in at.iter().zip([0, 200, 300]) {
        let (after, wanted) = (arrived.saturating_sub(at[0]), Duration::from_millis(wanted));
        assert!(after.abs_diff(wanted) <= late, "{after:?} for {wanted:?}, {late:?} late");
    }
}

/// When a frame came in, of which there is one beside the one that the router dropped.
fn arrival(capture: &Path, frame: &[u8]) -> Duration {
    let mut reader = PcapNgReader::new(fs::File::open(capture).unwrap()).unwrap();
    let mut at = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.unwrap()
            && *packet.data == *frame
        {
            at.push(packet.timestamp);
        }
    }
    assert_eq!(at.len(), 2);
    at[0]
}

/// Every frame of it is named, and nobody's session minds.
#[test]
fn a_flood_is_replayed_and_every_session_stays() {
    const FRAMES: u64 = 20_000;
    let Some(lab) = DetachedLab::up("flood", 2) else { return };
    let one = capture(1);
    let (header, packet) = one.split_at(24);
    let file = write(&lab, "flood.pcap", &[header, &packet.repeat(FRAMES as usize)].concat());
    let outcome = replay(&lab, &[&file, NNI, "--as-fast-as-possible"]);
    assert_eq!((&outcome["sent"], unknown(&outcome)), (&FRAMES.into(), FRAMES), "{outcome}");
    let output = lab.run(&["show", "bgp", "--json"]);
    let sessions: Value = serde_json::from_slice(&output.stdout).unwrap();
    for session in sessions.as_array().unwrap() {
        assert!(session["statePfxRcd"].as_str().unwrap().parse::<u64>().is_ok(), "{session}");
    }
    let output = lab.run(&["show", "drops", "--json"]);
    let drops: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(drops["conservation"][0]["held"], true, "{drops}");

    // For a person.
    let page = lab.run(&["replay", &write(&lab, "one.pcap", &one), NNI]);
    let page = String::from_utf8(page.stdout).unwrap();
    let mut lines = page.lines();
    let first = lines.next().unwrap();
    assert!(first.starts_with("1 frame sent into ams/primary/nni:Equinix in "), "{page}");
    let dropped =
        "unknown-tags         1  The tags (or the VNI) belong to no attachment of the port.";
    assert!(page.contains("Dropped there meanwhile") && page.contains(dropped), "{page}");

    let several = refused(lab.run(&["replay", &file, "ce1"]));
    assert!(several.contains("several ports; name one of ce1/"), "{several}");
    let nowhere = refused(lab.run(&["replay", &file, "ams/primry"]));
    assert!(nowhere.contains("did you mean ams/primary"), "{nowhere}");
    let speed = lab.run(&["replay", &file, NNI, "--speed", "0"]);
    assert!(String::from_utf8(speed.stderr).unwrap().contains("a number from 0.001"));
}
