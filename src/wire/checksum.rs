//! The Internet checksum (RFC 1071): a 16-bit ones' complement sum, and its incremental update
//! (RFC 1624). Sums are folded to 16 bits and not inverted; [`finish`] makes a checksum of one, and
//! a region that contains its own valid checksum sums to [`VALID`].

use std::net::IpAddr;

use crate::wire::udp;

/// What a region sums to when the checksum in it is right.
pub const VALID: u16 = 0xffff;

/// The sum of `bytes` as big-endian words; an odd last byte is the high half of a word.
///
/// Words of 32 bits are added to a 64-bit total: they are congruent to their halves modulo 0xffff,
/// and the total cannot overflow for any slice that fits in memory.
#[inline]
pub fn sum(bytes: &[u8]) -> u16 {
    let (words, tail) = bytes.as_chunks::<4>();
    let total: u64 = words.iter().map(|word| u32::from_be_bytes(*word) as u64).sum();
    let mut last = [0; 4];
    last[..tail.len()].copy_from_slice(tail);
    fold(total + u32::from_be_bytes(last) as u64)
}

/// The sum of regions that follow each other; all but the last are of even length.
#[inline]
pub fn combine(sums: &[u16]) -> u16 {
    fold(sums.iter().map(|sum| *sum as u64).sum())
}

/// The sum of the pseudo-header of an upper-layer packet of `len` bytes (RFC 9293 section 3.1,
/// RFC 8200 section 8.1): both forms hold the addresses, the protocol, the length and zeros.
#[inline]
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> u16 {
    fold(address(source) as u64 + address(destination) as u64 + protocol as u64 + len as u64)
}

/// The checksum field for a region with this sum.
#[inline]
pub const fn finish(sum: u16) -> u16 {
    !sum
}

/// The checksum `old` after one word of the region changed (RFC 1624 equation 3). Equal to a full
/// recomputation for every region that is not all zeros, which no header is.
#[inline]
pub const fn update(old: u16, from: u16, to: u16) -> u16 {
    !fold(!old as u64 + !from as u64 + to as u64)
}

/// Completes the checksum of `region`, `offset` bytes into it: its field holds the sum of the
/// pseudo-header. A UDP checksum that would be zero is all ones, since zero says that there is none
/// (RFC 768). A region that ends before the field is left as it is.
pub fn complete(region: &mut [u8], offset: usize) {
    let checksum = match finish(sum(region)) {
        0 if offset == udp::CHECKSUM_OFFSET => 0xffff,
        checksum => checksum,
    };
    if let Some(field) = region.get_mut(offset..offset + 2) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}

#[inline]
fn address(address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    }
}

/// Adds the carries back in (end-around) until the sum has 16 bits.
#[inline]
const fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CORNERS: [u16; 8] = [0, 1, 0x00ff, 0x7fff, 0x8000, 0xff00, 0xfffe, 0xffff];

    #[test]
    fn the_examples_of_the_rfcs() {
        // RFC 1071 section 3.
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
        // RFC 1624 section 4, where the equation of RFC 1141 gives 0xffff.
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn an_update_is_a_recomputation_in_every_corner() {
        for (from, to) in CORNERS.iter().flat_map(|from| CORNERS.map(|to| (*from, to))) {
            for other in CORNERS.into_iter().filter(|other| *other != 0) {
                let old = finish(combine(&[other, from]));
                assert_eq!(update(old, from, to), finish(combine(&[other, to])));
            }
        }
    }

    proptest! {
        #[test]
        fn a_sum_is_that_of_the_words(bytes: Vec<u8>) {
            prop_assert_eq!(sum(&bytes), slow_sum(&bytes));
        }

        #[test]
        fn regions_combine(bytes: Vec<u8>, at: prop::sample::Index) {
            let (front, back) = bytes.split_at(at.index(bytes.len() + 1) & !1);
            prop_assert_eq!(combine(&[sum(front), sum(back)]), sum(&bytes));
        }

        #[test]
        fn an_update_is_a_recomputation(
            mut words in prop::collection::vec(any::<u16>(), 2..12), to: u16,
        ) {
            words[1] |= 1;
            let old = finish(combine(&words));
            let from = core::mem::replace(&mut words[0], to);
            prop_assert_eq!(update(old, from, to), finish(combine(&words)));
        }

        #[test]
        fn a_pseudo_header_is_what_the_rfcs_draw(
            v4: [[u8; 4]; 2], v6: [[u8; 16]; 2], protocol: u8, len: u16,
        ) {
            let [high, low] = len.to_be_bytes();
            let drawn = [v4[0].as_slice(), &v4[1], &[0, protocol, high, low]].concat();
            let computed = pseudo_header(v4[0].into(), v4[1].into(), protocol, len as usize);
            prop_assert_eq!(computed, slow_sum(&drawn));
            let tail = [0, 0, high, low, 0, 0, 0, protocol];
            let drawn = [v6[0].as_slice(), &v6[1], &tail].concat();
            let computed = pseudo_header(v6[0].into(), v6[1].into(), protocol, len as usize);
            prop_assert_eq!(computed, slow_sum(&drawn));
        }
    }

    /// One word at a time with the carry added at once, as RFC 1071 section 4.1 has it.
    fn slow_sum(bytes: &[u8]) -> u16 {
        bytes.chunks(2).fold(0, |sum: u16, word| {
            let word = u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]);
            let (sum, carry) = sum.overflowing_add(word);
            sum + carry as u16
        })
    }
}
