//! The BFD control packet (RFC 5880 section 4.1) without authentication, which ExpressRoute does
//! not use. Single hop over UDP (RFC 5881).

use zerocopy::network_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::{Error, put, split};

/// Bytes of a control packet.
pub const LEN: usize = size_of::<Packet>();
/// UDP destination port of single-hop sessions (RFC 5881 section 4).
pub const PORT: u16 = 3784;

const VERSION: u8 = 1;
const DIAGNOSTIC_MASK: u8 = 0x1f;
const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Packet {
    version_and_diagnostic: u8,
    state_and_flags: u8,
    detect_mult: u8,
    length: u8,
    my_discriminator: U32,
    your_discriminator: U32,
    desired_min_tx: U32,
    required_min_rx: U32,
    required_min_echo_rx: U32,
}

/// The state a packet announces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    AdminDown = 0,
    Down = 1,
    Init = 2,
    Up = 3,
}

impl State {
    const fn of(state_and_flags: u8) -> Self {
        match state_and_flags >> 6 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }
}

/// A control packet in place. Construction checks version and length.
#[derive(Clone, Copy, Debug)]
pub struct View<'a>(&'a Packet);

impl<'a> View<'a> {
    /// `bytes` is the payload of the UDP datagram.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let (packet, _) = split::<Packet>(bytes)?;
        let length = packet.length as usize;
        if packet.version_and_diagnostic >> 5 != VERSION || length < LEN {
            return Err(Error::Malformed);
        }
        if length > bytes.len() {
            return Err(Error::Truncated);
        }
        Ok(Self(packet))
    }
}

/// A control packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repr {
    /// Why the sender's session last left Up, 5 bits.
    pub diagnostic: u8,
    pub state: State,
    pub poll: bool,
    pub final_: bool,
    /// The sender's BFD goes on while its control plane does not (the C bit).
    pub control_plane_independent: bool,
    pub demand: bool,
    /// Not zero.
    pub detect_mult: u8,
    /// Not zero.
    pub my_discriminator: u32,
    /// Zero only in states Down and `AdminDown`.
    pub your_discriminator: u32,
    /// Microseconds.
    pub desired_min_tx_us: u32,
    /// Microseconds.
    pub required_min_rx_us: u32,
    /// Microseconds.
    pub required_min_echo_rx_us: u32,
}

#[cfg(test)]
impl Repr {
    /// Of a speaker that asks for 300 ms three times and for nothing else.
    pub const fn sample(state: State, my_discriminator: u32, your_discriminator: u32) -> Self {
        Self {
            diagnostic: 0,
            state,
            poll: false,
            final_: false,
            control_plane_independent: false,
            demand: false,
            detect_mult: 3,
            my_discriminator,
            your_discriminator,
            desired_min_tx_us: 300_000,
            required_min_rx_us: 300_000,
            required_min_echo_rx_us: 0,
        }
    }
}

impl Repr {
    /// Makes the checks of RFC 5880 section 6.8.6 that need no session; `Malformed` when one
    /// fails. A packet with authentication fails too, because no session uses it.
    pub fn parse(view: &View<'_>) -> Result<Self, Error> {
        let packet = view.0;
        let has = |flag| packet.state_and_flags & flag != 0;
        let state = State::of(packet.state_and_flags);
        let is_down = matches!(state, State::Down | State::AdminDown);
        if packet.detect_mult == 0
            || has(MULTIPOINT)
            || packet.my_discriminator == U32::ZERO
            || (packet.your_discriminator == U32::ZERO && !is_down)
            || has(AUTHENTICATION)
        {
            return Err(Error::Malformed);
        }
        Ok(Self {
            diagnostic: packet.version_and_diagnostic & DIAGNOSTIC_MASK,
            state,
            poll: has(POLL),
            final_: has(FINAL),
            control_plane_independent: has(CONTROL_PLANE_INDEPENDENT),
            demand: has(DEMAND),
            detect_mult: packet.detect_mult,
            my_discriminator: packet.my_discriminator.get(),
            your_discriminator: packet.your_discriminator.get(),
            desired_min_tx_us: packet.desired_min_tx.get(),
            required_min_rx_us: packet.required_min_rx.get(),
            required_min_echo_rx_us: packet.required_min_echo_rx.get(),
        })
    }

    pub const fn buffer_len(&self) -> usize {
        LEN
    }

    pub fn emit(&self, buffer: &mut [u8]) {
        let flags = if self.poll { POLL } else { 0 }
            | if self.final_ { FINAL } else { 0 }
            | if self.control_plane_independent { CONTROL_PLANE_INDEPENDENT } else { 0 }
            | if self.demand { DEMAND } else { 0 };
        let packet = Packet {
            version_and_diagnostic: VERSION << 5 | (self.diagnostic & DIAGNOSTIC_MASK),
            state_and_flags: (self.state as u8) << 6 | flags,
            detect_mult: self.detect_mult,
            length: LEN as u8,
            my_discriminator: self.my_discriminator.into(),
            your_discriminator: self.your_discriminator.into(),
            desired_min_tx: self.desired_min_tx_us.into(),
            required_min_rx: self.required_min_rx_us.into(),
            required_min_echo_rx: self.required_min_echo_rx_us.into(),
        };
        put(&packet, buffer);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::tests::hostile;

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(repr in repr()) {
            let packet = emitted(&repr);
            prop_assert_eq!(Repr::parse(&View::new(&packet).unwrap()), Ok(repr));
        }

        #[test]
        fn any_bytes_are_taken(packet in repr().prop_flat_map(|repr| hostile(emitted(&repr)))) {
            if let Ok(repr) = View::new(&packet).and_then(|view| Repr::parse(&view)) {
                prop_assert!(repr.detect_mult != 0 && repr.my_discriminator != 0);
            }
        }
    }

    /// The picture of RFC 5880 section 4.1.
    #[test]
    fn a_packet_lies_as_the_rfc_draws_it() {
        let packet = emitted(&sample());
        let expected = [
            0x23, 0xea, 3, 24, 0, 0, 0, 1, 0, 0, 0, 2, 0, 4, 0x93, 0xe0, 0, 4, 0x93, 0xe1, 0, 0, 0,
            5,
        ];
        assert_eq!(packet, expected);
    }

    /// RFC 5880 section 6.8.6, each rule on its own.
    #[test]
    fn packets_that_must_be_discarded_are_refused() {
        let cases: [(&str, usize, u8, Error); 11] = [
            ("version 0", 0, 0x03, Error::Malformed),
            ("version 2", 0, 0x43, Error::Malformed),
            ("length below 24", 3, 23, Error::Malformed),
            ("length beyond the payload", 3, 25, Error::Truncated),
            ("detect mult zero", 2, 0, Error::Malformed),
            ("multipoint", 1, 0xeb, Error::Malformed),
            ("my discriminator zero", 7, 0, Error::Malformed),
            ("authentication", 1, 0xee, Error::Malformed),
            ("your discriminator zero in Up", 11, 0, Error::Malformed),
            ("your discriminator zero in Init", 11, 0, Error::Malformed),
            ("length zero", 3, 0, Error::Malformed),
        ];
        for (rule, at, value, error) in cases {
            let mut packet = emitted(&sample());
            if rule.ends_with("Init") {
                packet[1] = 0x80;
            }
            packet[at] = value;
            let parsed = View::new(&packet).and_then(|view| Repr::parse(&view));
            assert_eq!(parsed, Err(error), "{rule}");
        }
        assert_eq!(View::new(&emitted(&sample())[..23]).err(), Some(Error::Truncated));
    }

    #[test]
    fn your_discriminator_may_be_zero_before_the_far_end_is_heard() {
        for state in [State::Down, State::AdminDown] {
            let repr = Repr { state, your_discriminator: 0, ..sample() };
            assert_eq!(Repr::parse(&View::new(&emitted(&repr)).unwrap()), Ok(repr));
        }
    }

    fn sample() -> Repr {
        Repr {
            diagnostic: 3,
            state: State::Up,
            poll: true,
            final_: false,
            control_plane_independent: true,
            demand: true,
            detect_mult: 3,
            my_discriminator: 1,
            your_discriminator: 2,
            desired_min_tx_us: 300_000,
            required_min_rx_us: 300_001,
            required_min_echo_rx_us: 5,
        }
    }

    fn repr() -> impl Strategy<Value = Repr> {
        let numbers = (0..32_u8, 0..4_u8, 1..=255_u8, 1..=u32::MAX, 1..=u32::MAX);
        (numbers, any::<[bool; 4]>(), any::<[u32; 3]>()).prop_map(|(numbers, flags, timers)| Repr {
            diagnostic: numbers.0,
            state: State::of(numbers.1 << 6),
            poll: flags[0],
            final_: flags[1],
            demand: flags[2],
            control_plane_independent: flags[3],
            detect_mult: numbers.2,
            my_discriminator: numbers.3,
            your_discriminator: numbers.4,
            desired_min_tx_us: timers[0],
            required_min_rx_us: timers[1],
            required_min_echo_rx_us: timers[2],
        })
    }

    fn emitted(repr: &Repr) -> Vec<u8> {
        let mut packet = vec![0xee; repr.buffer_len()];
        repr.emit(&mut packet);
        packet
    }
}
