//! The programs on an interpreter of classic BPF, against what is written down for each frame.

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::wire::vlan;

/// What a program says of a frame; `None` where the kernel would have given up on it.
fn run(program: &[Instruction], frame: &[u8]) -> Option<u32> {
    let half = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]) as u32);
    let (mut a, mut x, mut at) = (0_u32, 0_u32, 0);
    loop {
        let Instruction { code, jump_true, jump_false, operand } = program[at];
        at += 1;
        let index = operand as usize;
        let holds = match code {
            op::LOAD_BYTE => {
                a = *frame.get(index)? as u32;
                continue;
            }
            op::LOAD_HALF => {
                a = half(index)?;
                continue;
            }
            op::LOAD_HALF_AT_X => {
                a = half(index + x as usize)?;
                continue;
            }
            op::LOAD_LENGTH => {
                a = frame.len() as u32;
                continue;
            }
            op::LOAD_X_HEADER_LEN => {
                x = (*frame.get(index)? as u32 & 0xf) * 4;
                continue;
            }
            op::SUBTRACT => {
                a = a.checked_sub(operand).expect("no wrap");
                continue;
            }
            op::RETURN => return Some(operand),
            op::IF_EQUAL => a == operand,
            op::IF_GREATER => a > operand,
            op::IF_AT_LEAST => a >= operand,
            op::IF_AT_LEAST_X => a >= x,
            op::IF_ANY_BIT => a & operand != 0,
            _ => panic!("an opcode that no program has"),
        };
        at += if holds { jump_true } else { jump_false } as usize;
    }
}

/// Whether a frame is taken as control; it is taken by exactly one program.
fn is_control(frame: &[u8]) -> bool {
    let taken = [control(), data()].map(|program| run(&program, frame));
    match taken {
        [Some(TAKE), Some(0)] => true,
        [Some(0), Some(TAKE)] => false,
        _ => panic!("{taken:?} of {frame:?}"),
    }
}

fn with_tags(mut frame: Vec<u8>, tpids: &[u16]) -> Vec<u8> {
    for tpid in tpids {
        frame.splice(0..0, [0; vlan::TAG_LEN]);
        vlan::push(&mut frame, 100);
        frame[12..14].copy_from_slice(&tpid.to_be_bytes());
    }
    frame
}

fn ipv4() -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 255)
}

fn ipv6() -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    PacketBuilder::ethernet2([1; 6], [2; 6]).ipv6([0xfe; 16], [0xfd; 16], 255)
}

/// Frames and whether they are control.
fn samples() -> Vec<(Vec<u8>, bool)> {
    let mut samples = Vec::new();
    let mut add = |is_control, write: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = Vec::new();
        write(&mut frame);
        samples.push((frame, is_control));
    };
    for (port, is_bfd) in [(3784, true), (3785, true), (3783, false), (3786, false), (179, false)] {
        add(is_bfd, &|frame| ipv4().udp(50_000, port).write(frame, &[0; 24]).unwrap());
        add(is_bfd, &|frame| ipv6().udp(50_000, port).write(frame, &[0; 24]).unwrap());
        // Who answers BFD does so to its port, and not from it.
        add(false, &|frame| ipv4().udp(port, 50_000).write(frame, &[0; 24]).unwrap());
    }
    for (ports, is_bgp) in
        [((179, 40_000), true), ((40_000, 179), true), ((178, 180), false), ((3784, 3784), false)]
    {
        let (source, destination) = ports;
        add(is_bgp, &|frame| ipv4().tcp(source, destination, 0, 1).write(frame, &[]).unwrap());
        add(is_bgp, &|frame| ipv6().tcp(source, destination, 0, 1).write(frame, &[]).unwrap());
        add(is_bgp, &|frame| {
            let mut header =
                etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber::TCP, [1; 4], [2; 4])
                    .unwrap();
            // The longest header there is.
            header.options = [1; 40].into();
            let ip = etherparse::IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default());
            let ethernet = PacketBuilder::ethernet2([1; 6], [2; 6]);
            ethernet.ip(ip).tcp(source, destination, 0, 1).write(frame, &[]).unwrap();
        });
        // A later fragment has payload where the ports would be.
        add(false, &|frame| {
            ipv4().tcp(source, destination, 0, 1).write(frame, &[]).unwrap();
            frame[21] = 1;
        });
    }
    for (kind, is_nd) in
        [(132, false), (133, true), (135, true), (137, true), (138, false), (128, false)]
    {
        add(is_nd, &|frame| ipv6().icmpv6_raw(kind, 0, [0; 4]).write(frame, &[0; 20]).unwrap());
        add(false, &|frame| ipv4().icmpv4_raw(kind, 0, [0; 4]).write(frame, &[0; 20]).unwrap());
    }
    add(true, &|frame| {
        frame.extend([0xff; 12]);
        frame.extend([0x08, 0x06]);
        frame.extend([0; 28]);
    });
    add(false, &|frame| {
        frame.extend([0xff; 12]);
        frame.extend([0x88, 0xb5]);
        frame.extend([0; 28]);
    });
    samples
}

#[test]
fn control_is_found_behind_up_to_two_inline_tags() {
    for (frame, expected) in samples() {
        for tpids in [&[][..], &[0x8100], &[0x88a8], &[0x8100, 0x8100], &[0x8100, 0x88a8]] {
            let frame = with_tags(frame.clone(), tpids);
            assert_eq!(is_control(&frame), expected, "{tpids:x?} {frame:x?}");
        }
        assert!(!is_control(&with_tags(frame, &[0x8100; 3])));
    }
}

proptest! {
    /// Whatever the bytes, one socket receives the frame and only one.
    #[test]
    fn every_frame_is_taken_once(
        sample: prop::sample::Index,
        tags in 0..4_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut: prop::sample::Index,
    ) {
        let samples = samples();
        let mut frame = with_tags(samples[sample.index(samples.len())].0.clone(), &[0x8100; 4][..tags]);
        for (at, value) in changes {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        // The kernel hands over no frame without an Ethernet header.
        is_control(&frame[..14 + cut.index(frame.len() - 13)]);
    }
}
