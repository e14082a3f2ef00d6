//! A segment as sender and receiver see it: header and options as values, payload as a length.

use crate::wire::tcp::{Flags, MAX_OPTIONS_LEN, Repr, View, option};

/// Bytes of the timestamps that each segment carries, with their padding (RFC 7323, appendix A).
pub(super) const TIMESTAMPS_LEN: u16 = 12;
/// Blocks that fit beside timestamps (RFC 2018, 3).
pub(super) const SACKS_MAX: usize = 3;
/// Largest shift (RFC 7323, 2.3).
const SCALE_MAX: u8 = 14;

/// A segment of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Segment {
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: Flags,
    /// As in the header, not yet scaled.
    pub window: u16,
    pub mss: Option<u16>,
    pub window_scale: Option<u8>,
    pub sack_permitted: bool,
    pub timestamps: Option<Timestamps>,
    pub sacks: Sacks,
    /// Bytes of payload.
    pub len: u32,
}

/// The value of the sender's clock, ms, and the one it echoes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Timestamps {
    pub value: u32,
    pub echo: u32,
}

/// Blocks of a SACK option: first and first not received.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Sacks {
    blocks: [(u32, u32); SACKS_MAX],
    count: u8,
}

impl Segment {
    /// Reads header and options; what is wrong or unknown in the options is passed over.
    pub fn parse(view: &View<'_>) -> Self {
        let mut segment = Self {
            sequence: view.sequence(),
            acknowledgement: view.acknowledgement(),
            flags: view.flags(),
            window: view.window(),
            len: view.payload().len() as u32,
            ..Self::default()
        };
        for option in view.options() {
            segment.take_option(option.kind, option.data);
        }
        segment
    }

    fn take_option(&mut self, kind: u8, data: &[u8]) {
        match (kind, data) {
            (option::MSS, &[high, low]) => self.mss = Some(u16::from_be_bytes([high, low])),
            (option::WINDOW_SCALE, &[scale]) => self.window_scale = Some(scale.min(SCALE_MAX)),
            (option::SACK_PERMITTED, []) => self.sack_permitted = true,
            (option::TIMESTAMPS, data) => {
                if let ([value, echo], []) = data.as_chunks::<4>() {
                    let [value, echo] = [value, echo].map(|word| u32::from_be_bytes(*word));
                    self.timestamps = Some(Timestamps { value, echo });
                }
            }
            (option::SACK, data) => {
                for edges in data.as_chunks::<8>().0 {
                    let (left, right) = edges.split_at(4);
                    let edge = |bytes: &[u8]| {
                        u32::from_be_bytes(bytes.try_into().expect("an edge has four bytes"))
                    };
                    self.sacks.push((edge(left), edge(right)));
                }
            }
            _ => {}
        }
    }

    /// Calls `emit` with the header as `wire` writes it; options are laid out as Linux does.
    pub fn with_repr<T>(&self, ports: (u16, u16), emit: impl FnOnce(&Repr<'_>) -> T) -> T {
        let mut buffer = [option::NOP; MAX_OPTIONS_LEN];
        let mut len = 0;
        let mut put = |bytes: &[u8]| {
            buffer[len..len + bytes.len()].copy_from_slice(bytes);
            len += bytes.len();
        };
        if let Some(mss) = self.mss {
            put(&[option::MSS, 4]);
            put(&mss.to_be_bytes());
        }
        if self.sack_permitted {
            put(&[option::NOP, option::NOP, option::SACK_PERMITTED, 2]);
        }
        if let Some(timestamps) = self.timestamps {
            put(&[option::NOP, option::NOP, option::TIMESTAMPS, 10]);
            put(&timestamps.value.to_be_bytes());
            put(&timestamps.echo.to_be_bytes());
        }
        if let Some(scale) = self.window_scale {
            put(&[option::NOP, option::WINDOW_SCALE, 3, scale]);
        }
        if self.sacks.count > 0 {
            put(&[option::NOP, option::NOP, option::SACK, 2 + 8 * self.sacks.count]);
            for (left, right) in self.sacks.iter() {
                put(&left.to_be_bytes());
                put(&right.to_be_bytes());
            }
        }
        emit(&Repr {
            source_port: ports.0,
            destination_port: ports.1,
            sequence: self.sequence,
            acknowledgement: self.acknowledgement,
            flags: self.flags,
            window: self.window,
            urgent: 0,
            options: &buffer[..len],
            payload_len: 0,
        })
    }

    /// What refuses a segment that no connection takes (RFC 9293, 3.10.7.1); `None` for a reset.
    pub fn refusal(&self) -> Option<Self> {
        if self.flags.contains(Flags::RST) {
            return None;
        }
        if self.flags.contains(Flags::ACK) {
            return Some(Self::reset(self.acknowledgement));
        }
        let length = self.len + u32::from(self.flags.contains(Flags::SYN));
        Some(Self {
            acknowledgement: self.sequence.wrapping_add(length),
            flags: Flags::RST | Flags::ACK,
            ..Self::default()
        })
    }

    /// A reset with this sequence number.
    pub fn reset(sequence: u32) -> Self {
        Self { sequence, flags: Flags::RST, ..Self::default() }
    }
}

impl Sacks {
    /// One more block; those that do not fit are left out.
    pub fn push(&mut self, block: (u32, u32)) {
        if let Some(free) = self.blocks.get_mut(self.count as usize) {
            *free = block;
            self.count += 1;
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.blocks[..self.count as usize].iter().copied()
    }

    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// How far `to` is behind `from` in sequence space; negative when it is before.
pub(super) const fn distance(from: u32, to: u32) -> i64 {
    to.wrapping_sub(from) as i32 as i64
}
