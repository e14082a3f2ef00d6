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

/// The class of a frame; it is taken by exactly one program.
fn class_of(frame: &[u8]) -> Class {
    let takes = |class: &Class| match run(&program(*class), frame) {
        Some(TAKE) => true,
        Some(0) => false,
        other => panic!("{other:?} of {frame:?}"),
    };
    let taking: Vec<_> = Class::ALL.into_iter().filter(takes).collect();
    let [class] = taking[..] else { panic!("{taking:?} of {frame:?}") };
    class
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

/// Frames and the class of each.
fn samples() -> Vec<(Vec<u8>, Class)> {
    let mut samples = Vec::new();
    let mut add = |class, write: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = Vec::new();
        write(&mut frame);
        samples.push((frame, class));
    };
    for (port, class) in [
        (3784, Class::Bfd),
        (3785, Class::Bfd),
        (3783, Class::Data),
        (3786, Class::Data),
        (179, Class::Data),
    ] {
        add(class, &|frame| ipv4().udp(50_000, port).write(frame, &[0; 24]).unwrap());
        add(class, &|frame| ipv6().udp(50_000, port).write(frame, &[0; 24]).unwrap());
        // Who answers BFD does so to its port, and not from it.
        add(Class::Data, &|frame| ipv4().udp(port, 50_000).write(frame, &[0; 24]).unwrap());
    }
    for (ports, class) in [
        ((179, 40_000), Class::Bgp),
        ((40_000, 179), Class::Bgp),
        ((178, 180), Class::Data),
        ((3784, 3784), Class::Data),
    ] {
        let (source, destination) = ports;
        add(class, &|frame| ipv4().tcp(source, destination, 0, 1).write(frame, &[]).unwrap());
        add(class, &|frame| ipv6().tcp(source, destination, 0, 1).write(frame, &[]).unwrap());
        add(class, &|frame| {
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
        add(Class::Data, &|frame| {
            ipv4().tcp(source, destination, 0, 1).write(frame, &[]).unwrap();
            frame[21] = 1;
        });
    }
    for (kind, class) in [
        (132, Class::Data),
        (133, Class::Neighbor),
        (135, Class::Neighbor),
        (137, Class::Neighbor),
        (138, Class::Data),
        (128, Class::Data),
    ] {
        add(class, &|frame| ipv6().icmpv6_raw(kind, 0, [0; 4]).write(frame, &[0; 20]).unwrap());
        add(Class::Data, &|frame| {
            ipv4().icmpv4_raw(kind, 0, [0; 4]).write(frame, &[0; 20]).unwrap();
        });
    }
    add(Class::Neighbor, &|frame| {
        frame.extend([0xff; 12]);
        frame.extend([0x08, 0x06]);
        frame.extend([0; 28]);
    });
    add(Class::Data, &|frame| {
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
            assert_eq!(class_of(&frame), expected, "{tpids:x?} {frame:x?}");
        }
        assert_eq!(class_of(&with_tags(frame, &[0x8100; 3])), Class::Data);
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
        class_of(&frame[..14 + cut.index(frame.len() - 13)]);
    }
}
