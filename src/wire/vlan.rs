//! VLAN tags: reading up to two of them, pushing and popping the outer one in place.
//!
//! ExpressRoute's two tags both have TPID 0x8100; 0x88a8 is accepted on receipt and never sent
//! (L-27). Priority and drop-eligible bits are ignored, and sent as zero.

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::{Error, ethernet, ethertype, split};

/// Bytes a tag adds to a frame.
pub const TAG_LEN: usize = size_of::<Tag>();

/// Bytes of the two MAC addresses, which stand before the tags.
const ADDRESSES_LEN: usize = 12;
/// The VLAN id in a tag's control information (IEEE 802.1Q section 9.6).
const ID_MASK: u16 = 0x0fff;

/// A tag's control information and the EtherType behind it. The TPID is the EtherType in front.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Tag {
    control: U16,
    ethertype: U16,
}

/// The tags of a frame and what is behind them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tags {
    /// VLAN id of the first tag, 12 bits.
    pub outer: Option<u16>,
    /// VLAN id of the second tag, 12 bits.
    pub inner: Option<u16>,
    /// EtherType of the payload. It is a TPID when there is a third tag, which nothing here uses.
    pub ethertype: u16,
    /// Bytes of the frame in front of the payload: 14, 18 or 22.
    pub payload_offset: usize,
}

impl Tags {
    /// Reads the tags of a whole frame. `Truncated` when it ends in its header or in a tag.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Self, Error> {
        let (header, rest) = split::<ethernet::Header>(frame)?;
        let mut tags = Self {
            outer: None,
            inner: None,
            ethertype: header.ethertype.get(),
            payload_offset: ethernet::HEADER_LEN,
        };
        if is_tpid(tags.ethertype) {
            let (tag, rest) = split::<Tag>(rest)?;
            tags.outer = Some(tags.enter(tag));
            if is_tpid(tags.ethertype) {
                let (tag, _) = split::<Tag>(rest)?;
                tags.inner = Some(tags.enter(tag));
            }
        }
        Ok(tags)
    }

    /// Steps behind `tag` and returns its VLAN id.
    #[inline]
    const fn enter(&mut self, tag: &Tag) -> u16 {
        self.ethertype = tag.ethertype.get();
        self.payload_offset += TAG_LEN;
        tag.control.get() & ID_MASK
    }
}

/// Whether a tag follows this EtherType.
#[inline]
pub const fn is_tpid(value: u16) -> bool {
    value == ethertype::VLAN || value == ethertype::QINQ
}

/// Puts a tag in front of the others. `frame` has been extended at the front by [`TAG_LEN`] bytes,
/// whose contents do not matter. A frame without an Ethernet header is left as it is.
#[inline]
pub fn push(frame: &mut [u8], vlan: u16) {
    let Some(front) = frame.first_chunk_mut::<{ ADDRESSES_LEN + TAG_LEN }>() else { return };
    front.copy_within(TAG_LEN.., 0);
    let [.., tpid_high, tpid_low, id_high, id_low] = front;
    [*tpid_high, *tpid_low] = ethertype::VLAN.to_be_bytes();
    [*id_high, *id_low] = (vlan & ID_MASK).to_be_bytes();
}

/// Takes the outer tag off a frame that has one: moves the addresses over it, so that the caller
/// trims [`TAG_LEN`] bytes off the front. A frame too short for a tag is left as it is.
#[inline]
pub fn pop(frame: &mut [u8]) {
    let Some(front) = frame.first_chunk_mut::<{ ADDRESSES_LEN + TAG_LEN }>() else { return };
    front.copy_within(..ADDRESSES_LEN, TAG_LEN);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::tests::hostile;

    const UNTAGGED: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x08, 0x00, 0x45, 0x00];

    /// L-27: both TPIDs are read on either tag.
    #[test]
    fn either_tpid_is_accepted_and_priority_ignored() {
        for (first, second) in [(0x81, 0x81), (0x88, 0x81), (0x81, 0x88), (0x88, 0x88)] {
            let low = |tpid| if tpid == 0x88 { 0xa8 } else { 0x00 };
            let mut frame = UNTAGGED[..12].to_vec();
            frame.extend([first, low(first), 0xf0, 0x64, second, low(second), 0x3f, 0xff, 8, 6]);
            let tags =
                Tags { outer: Some(100), inner: Some(4095), ethertype: 0x0806, payload_offset: 22 };
            assert_eq!(Tags::parse(&frame), Ok(tags));
        }
    }

    /// L-27: 0x8100 is what goes out.
    #[test]
    fn a_pushed_tag_has_tpid_8100_and_no_priority() {
        let mut frame = [&[0; TAG_LEN], &UNTAGGED[..]].concat();
        push(&mut frame, 0xf123);
        assert_eq!(frame[..12], UNTAGGED[..12]);
        assert_eq!(frame[12..], [0x81, 0x00, 0x01, 0x23, 0x08, 0x00, 0x45, 0x00]);
    }

    #[test]
    fn a_third_tag_is_left_in_the_payload() {
        let mut frame = [&[0; 3 * TAG_LEN], &UNTAGGED[..]].concat();
        for (depth, vlan) in [(8, 3), (4, 2), (0, 1)] {
            push(&mut frame[depth..], vlan);
        }
        let tags = Tags { outer: Some(1), inner: Some(2), ethertype: 0x8100, payload_offset: 22 };
        assert_eq!(Tags::parse(&frame), Ok(tags));
    }

    #[test]
    fn a_frame_that_ends_in_a_tag_is_truncated() {
        let mut frame = [&[0; 2 * TAG_LEN], &UNTAGGED[..14]].concat();
        push(&mut frame[TAG_LEN..], 2);
        push(&mut frame, 1);
        assert!(Tags::parse(&frame).is_ok());
        for len in 0..frame.len() {
            assert_eq!(Tags::parse(&frame[..len]), Err(Error::Truncated));
        }
    }

    proptest! {
        #[test]
        fn push_and_pop_are_inverse(
            frame in prop::collection::vec(any::<u8>(), 14..80),
            outer in 0..4096_u16, inner in 0..4096_u16,
        ) {
            let mut tagged = [&[0xee; 2 * TAG_LEN], frame.as_slice()].concat();
            push(&mut tagged[TAG_LEN..], inner);
            push(&mut tagged, outer);
            let tags = Tags::parse(&tagged).unwrap();
            prop_assert_eq!((tags.outer, tags.inner), (Some(outer), Some(inner)));
            prop_assert_eq!(&tagged[20..], &frame[12..]);
            pop(&mut tagged);
            let tags = Tags::parse(&tagged[TAG_LEN..]).unwrap();
            prop_assert_eq!(tags.outer, Some(inner));
            pop(&mut tagged[TAG_LEN..]);
            prop_assert_eq!(&tagged[2 * TAG_LEN..], frame);
        }

        #[test]
        fn any_bytes_are_taken(mut frame in hostile(double_tagged())) {
            if let Ok(tags) = Tags::parse(&frame) {
                prop_assert!(tags.payload_offset <= frame.len());
                prop_assert!(tags.outer.is_some() || tags.inner.is_none());
            }
            pop(&mut frame);
            push(&mut frame, 7);
        }
    }

    fn double_tagged() -> Vec<u8> {
        [&UNTAGGED[..12], &[0x81, 0, 0, 1, 0x81, 0, 0, 2, 8, 0]].concat()
    }
}
