//! What is in the payload, so that a receiver notices bytes of another conversation.
//!
//! Every byte of a stream is defined by the sending host's name, the flow and the offset. Of a model's
//! only the first and last eight bytes of each segment are written and looked at: the rest of a
//! frame is what its slot held before. A frame costs so little that a gigabit can be simulated, and
//! no segment of another stream passes, however a super-frame was split.

/// Bytes that are written and looked at, at each end of a segment.
const SAMPLE: usize = 8;
/// 2^64 divided by the golden ratio: spreads word numbers over all bits.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The bytes of one stream.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    key: u64,
}

impl Content {
    /// Of a flow from a host with this hash of its name. Neighbours' keys differ in half of their
    /// bits, so that any four bytes tell them apart (`SplitMix64`'s finaliser).
    pub fn new(owner: u64, flow: u32) -> Self {
        let key = owner ^ u64::from(flow).wrapping_mul(SPREAD).rotate_left(32);
        let key = (key ^ key >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let key = (key ^ key >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self { key: key ^ key >> 31 }
    }

    /// Writes the samples of a payload that begins at `offset` and is made of segments of
    /// `segment` bytes, the last one shorter.
    pub fn write(self, offset: u64, segment: usize, payload: &mut [u8]) {
        let mut offset = offset;
        for part in payload.chunks_mut(segment) {
            let end = offset + part.len() as u64;
            if let Some(first) = part.first_chunk_mut() {
                *first = self.at(offset);
            }
            match part.last_chunk_mut() {
                Some(last) => *last = self.at(end - SAMPLE as u64),
                None => part.copy_from_slice(&self.at(offset)[..part.len()]),
            }
            offset = end;
        }
    }

    /// Whether the samples are those of this stream at this place.
    pub fn matches(self, offset: u64, segment: usize, payload: &[u8]) -> bool {
        let mut offset = offset;
        payload.chunks(segment.max(1)).all(|part| {
            let (start, end) = (offset, offset + part.len() as u64);
            offset = end;
            match (part.first_chunk(), part.last_chunk()) {
                (Some(first), Some(last)) => {
                    *first == self.at(start) && *last == self.at(end - SAMPLE as u64)
                }
                _ => *part == self.at(start)[..part.len()],
            }
        })
    }

    /// Writes every byte from `offset` on.
    pub fn fill(self, offset: u64, bytes: &mut [u8]) {
        for (place, part) in (offset..).step_by(SAMPLE).zip(bytes.chunks_mut(SAMPLE)) {
            part.copy_from_slice(&self.at(place)[..part.len()]);
        }
    }

    /// Whether every byte from `offset` on is that of this stream.
    pub fn is_all(self, offset: u64, bytes: &[u8]) -> bool {
        let mut parts = (offset..).step_by(SAMPLE).zip(bytes.chunks(SAMPLE));
        parts.all(|(place, part)| *part == self.at(place)[..part.len()])
    }

    /// The eight bytes from `offset` on.
    fn at(self, offset: u64) -> [u8; SAMPLE] {
        let (word, bits) = (offset / 8, offset % 8 * 8);
        let pair = u128::from(self.word(word)) << 64 | u128::from(self.word(word.wrapping_add(1)));
        ((pair << bits >> 64) as u64).to_be_bytes()
    }

    fn word(self, number: u64) -> u64 {
        self.key.rotate_left((number % 64) as u32) ^ number.wrapping_mul(SPREAD)
    }
}
