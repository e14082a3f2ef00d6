//! Frame pools and the handles to what is in them.
//!
//! A [`Frame`] is a handle: where the bytes are and what is known about them. It is neither `Copy`
//! nor `Clone`, so a frame has one owner, and it is given back with [`Frames::free`]. The bytes are
//! reached through [`Frames`], which every stage is lent. Slots come in two classes; each has
//! [`HEADROOM`] bytes in front for tags and tunnel headers.

use std::ops::Range;

/// Bytes in front of a new frame.
pub const HEADROOM: usize = 128;
/// Room for one full frame with two tags.
pub(super) const SMALL_SLOT: usize = 2048;
/// Room for a super-frame (64 KiB of IP and its headers).
pub(super) const LARGE_SLOT: usize = HEADROOM + 65_536 + 64;
/// The longest frame that a slot takes.
pub const FRAME_MAX: usize = LARGE_SLOT - HEADROOM;
/// Most slots of a class: a leak or a runaway queue is a named drop and not the host's memory.
const SMALL_SLOTS_MAX: usize = 1 << 20;
const LARGE_SLOTS_MAX: usize = 1 << 12;

/// A handle to one frame: 48 bytes, aligned so that they move as three words of a vector register.
#[derive(Debug)]
#[repr(align(16))]
pub struct Frame {
    class: Class,
    slot: u32,
    offset: u32,
    length: u32,
    /// Counted from the front of the slot, so that tags come and go in front without a correction.
    partial_checksum: Option<SlotChecksum>,
    pub meta: Meta,
}

/// A transport checksum that is left to be completed: its field holds the sum of the pseudo-header,
/// and the checksum is that of everything from `start` to the end of the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartialChecksum {
    /// Bytes of the frame in front of the transport header.
    pub start: usize,
    /// Bytes of the transport header in front of its checksum.
    pub offset: usize,
}

const _: () = assert!(size_of::<Frame>() == 48);

/// The same, counted in the slot.
#[derive(Clone, Copy, Debug)]
struct SlotChecksum {
    start: u32,
    offset: u16,
}

/// What is known of a frame beside its bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Meta {
    /// Payload bytes of each segment of a super-frame; 0 for an ordinary frame.
    pub gso_size: u16,
    /// Segments on the wire; 0 and 1 mean one.
    pub segments: u16,
    /// The backbone attachment a frame travels on, as the VNI of the tunnel it would be in.
    pub vni: Option<u32>,
}

impl Meta {
    /// Whether the frame is several packets on the wire.
    pub const fn is_super_frame(&self) -> bool {
        self.segments > 1
    }

    /// Packets this frame is on the wire: the unit of the conservation equation.
    pub const fn wire_packets(&self) -> u64 {
        if self.segments > 1 { self.segments as u64 } else { 1 }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    Small,
    Large,
}

/// A frame on its way from the pools of one worker to those of another.
#[derive(Debug)]
pub(super) struct Parcel {
    frame: Frame,
    /// The slot.
    memory: Box<[u8]>,
}

/// The pools of one worker.
#[derive(Debug, Default)]
pub struct Frames {
    small: Pool<SMALL_SLOT, SMALL_SLOTS_MAX>,
    large: Pool<LARGE_SLOT, LARGE_SLOTS_MAX>,
}

impl Frames {
    pub fn new() -> Self {
        Self::default()
    }

    /// A frame of `length` bytes, contents undefined. `None` when it is larger than any slot or
    /// the pool's limit is reached.
    pub fn allocate(&mut self, length: usize) -> Option<Frame> {
        let class = if HEADROOM + length <= SMALL_SLOT { Class::Small } else { Class::Large };
        let slot = match class {
            Class::Small => self.small.take()?,
            Class::Large if HEADROOM + length <= LARGE_SLOT => self.large.take()?,
            Class::Large => return None,
        };
        Some(Frame::new(class, slot, length))
    }

    /// A frame of `length` bytes that stand behind [`HEADROOM`] in `buffer`, without a copy: its slot
    /// becomes the buffer, and what the slot was becomes the caller's. `None`, with the buffer as it
    /// was, when the pool's limit is reached. The buffer is as long as a slot of either class.
    pub(super) fn adopt(&mut self, buffer: &mut Box<[u8]>, length: usize) -> Option<Frame> {
        debug_assert!(HEADROOM + length <= buffer.len(), "the frame lies in the buffer");
        let (class, slot) = match buffer.len() {
            SMALL_SLOT => (Class::Small, self.small.take()?),
            _ => (Class::Large, self.large.take()?),
        };
        let frame = Frame::new(class, slot, length);
        let slot = self.slot_of(&frame);
        assert_eq!(slot.len(), buffer.len(), "a buffer is as long as the slots of its class");
        std::mem::swap(slot, buffer);
        Some(frame)
    }

    /// A frame that holds a copy of `bytes`.
    pub fn allocate_from(&mut self, bytes: &[u8]) -> Option<Frame> {
        let frame = self.allocate(bytes.len())?;
        self.bytes_mut(&frame).copy_from_slice(bytes);
        Some(frame)
    }

    /// A second frame with the same bytes and meta.
    pub fn duplicate(&mut self, frame: &Frame) -> Option<Frame> {
        let mut copy = self.allocate(frame.len())?;
        self.copy(frame, 0..frame.len(), &copy, 0);
        copy.meta = frame.meta;
        copy.set_partial_checksum(frame.partial_checksum());
        Some(copy)
    }

    /// Copies bytes of one frame over those of another from `at` on. Both have as many.
    pub fn copy(&mut self, from: &Frame, range: Range<usize>, to: &Frame, at: usize) {
        // Out of its pool while it is read, so that the other can be written.
        let source = std::mem::take(self.slot_of(from));
        let begin = from.offset as usize;
        let bytes = &source[begin..begin + from.len()][range];
        self.bytes_mut(to)[at..at + bytes.len()].copy_from_slice(bytes);
        *self.slot_of(from) = source;
    }

    #[inline]
    pub fn free(&mut self, frame: Frame) {
        match frame.class {
            Class::Small => self.small.give(frame.slot),
            Class::Large => self.large.give(frame.slot),
        }
    }

    #[inline]
    pub fn bytes(&self, frame: &Frame) -> &[u8] {
        let range = frame.offset as usize..(frame.offset + frame.length) as usize;
        match frame.class {
            Class::Small => &self.small.slot(frame.slot)[range],
            Class::Large => &self.large.slot(frame.slot)[range],
        }
    }

    #[inline]
    pub fn bytes_mut(&mut self, frame: &Frame) -> &mut [u8] {
        let range = frame.offset as usize..(frame.offset + frame.length) as usize;
        match frame.class {
            Class::Small => &mut self.small.slot_mut(frame.slot)[range],
            Class::Large => &mut self.large.slot_mut(frame.slot)[range],
        }
    }

    /// Frames handed out and not yet given back.
    pub fn in_use(&self) -> usize {
        self.small.in_use() + self.large.in_use()
    }

    /// Frees a frame with all that it is in a parcel. Its slot becomes what `spare` gives, which is
    /// asked for as many bytes. The frame, where it gives nothing.
    pub(super) fn pack(
        &mut self,
        frame: Frame,
        spare: impl FnOnce(usize) -> Option<Box<[u8]>>,
    ) -> Result<Parcel, Frame> {
        let slot = self.slot_of(&frame);
        let Some(spare) = spare(slot.len()) else { return Err(frame) };
        assert_eq!(slot.len(), spare.len(), "a slot is as long as the others of its class");
        let memory = std::mem::replace(slot, spare);
        let packed = Frame { slot: u32::MAX, ..frame };
        self.free(frame);
        Ok(Parcel { frame: packed, memory })
    }

    /// The frame of a parcel, and the memory of the slot that it takes. The parcel, when the pool's
    /// limit is reached.
    pub(super) fn unpack(&mut self, parcel: Parcel) -> Result<(Frame, Box<[u8]>), Parcel> {
        let slot = match parcel.frame.class {
            Class::Small => self.small.take(),
            Class::Large => self.large.take(),
        };
        let Some(slot) = slot else { return Err(parcel) };
        let Parcel { frame, memory } = parcel;
        let frame = Frame { slot, ..frame };
        let spare = std::mem::replace(self.slot_of(&frame), memory);
        Ok((frame, spare))
    }

    fn slot_of(&mut self, frame: &Frame) -> &mut Box<[u8]> {
        match frame.class {
            Class::Small => &mut self.small.memory[frame.slot as usize],
            Class::Large => &mut self.large.memory[frame.slot as usize],
        }
    }
}

impl Parcel {
    /// As [`Meta::wire_packets`].
    pub const fn wire_packets(&self) -> u64 {
        self.frame.meta.wire_packets()
    }

    pub fn into_memory(self) -> Box<[u8]> {
        self.memory
    }
}

impl Frame {
    /// Of `length` bytes behind [`HEADROOM`] in a slot.
    const fn new(class: Class, slot: u32, length: usize) -> Self {
        let meta = Meta { gso_size: 0, segments: 0, vni: None };
        let (offset, length) = (HEADROOM as u32, length as u32);
        Self { class, slot, offset, length, partial_checksum: None, meta }
    }

    pub const fn len(&self) -> usize {
        self.length as usize
    }

    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Where a checksum is left to be completed, in the frame as it is.
    #[inline]
    pub const fn partial_checksum(&self) -> Option<PartialChecksum> {
        match self.partial_checksum {
            Some(SlotChecksum { start, offset }) if start >= self.offset => Some(PartialChecksum {
                start: (start - self.offset) as usize,
                offset: offset as usize,
            }),
            _ => None,
        }
    }

    #[inline]
    pub const fn set_partial_checksum(&mut self, partial: Option<PartialChecksum>) {
        self.partial_checksum = match partial {
            Some(PartialChecksum { start, offset }) => {
                Some(SlotChecksum { start: self.offset + start as u32, offset: offset as u16 })
            }
            None => None,
        };
    }

    /// Takes `count` bytes off the front; they become headroom. False when there are fewer.
    #[must_use]
    #[inline]
    pub const fn trim_front(&mut self, count: usize) -> bool {
        if count > self.length as usize {
            return false;
        }
        self.offset += count as u32;
        self.length -= count as u32;
        true
    }

    /// Cuts the frame to `length` bytes; what is behind is padding. A shorter frame stays as it is.
    #[inline]
    pub const fn truncate(&mut self, length: usize) {
        if length < self.length as usize {
            self.length = length as u32;
        }
    }

    /// Adds `count` bytes of headroom to the front, contents undefined. False when there is not
    /// as much headroom.
    #[must_use]
    #[inline]
    pub const fn extend_front(&mut self, count: usize) -> bool {
        if count > self.offset as usize {
            return false;
        }
        self.offset -= count as u32;
        self.length += count as u32;
        true
    }
}

/// Slots of one size, taken and given back in last-in first-out order so that they stay in cache.
#[derive(Debug, Default)]
struct Pool<const SLOT: usize, const MAX: usize> {
    memory: Vec<Box<[u8]>>,
    free: Vec<u32>,
}

impl<const SLOT: usize, const MAX: usize> Pool<SLOT, MAX> {
    fn take(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        if self.memory.len() == MAX {
            return None;
        }
        self.memory.push(vec![0; SLOT].into_boxed_slice());
        Some(self.memory.len() as u32 - 1)
    }

    fn give(&mut self, slot: u32) {
        self.free.push(slot);
    }

    fn slot(&self, slot: u32) -> &[u8] {
        &self.memory[slot as usize]
    }

    fn slot_mut(&mut self, slot: u32) -> &mut [u8] {
        &mut self.memory[slot as usize]
    }

    fn in_use(&self) -> usize {
        self.memory.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_slot_is_used_again_and_counts_balance() {
        let mut frames = Frames::new();
        let first = frames.allocate_from(b"abc").unwrap();
        assert_eq!(frames.bytes(&first), b"abc");
        let second = frames.duplicate(&first).unwrap();
        assert_eq!(frames.in_use(), 2);
        frames.free(first);
        assert_eq!(frames.bytes(&second), b"abc");
        frames.free(second);
        assert_eq!(frames.in_use(), 0);
        assert!(frames.allocate(1).is_some());
        assert_eq!(frames.small.memory.len(), 2);
    }

    #[test]
    fn tags_fit_in_the_headroom_and_too_much_is_refused() {
        let mut frames = Frames::new();
        let mut frame = frames.allocate_from(&[7; 60]).unwrap();
        assert!(frame.extend_front(8));
        assert_eq!(frame.len(), 68);
        assert!(!frame.extend_front(HEADROOM));
        assert!(frame.trim_front(8));
        assert!(!frame.trim_front(61));
        frame.truncate(61);
        assert_eq!(frame.len(), 60);
        frame.truncate(59);
        assert_eq!(frames.bytes(&frame), [7; 59]);
        let frame = frames.allocate_from(&[7; 60]).unwrap();
        assert_eq!(frames.bytes(&frame), [7; 60]);
    }

    #[test]
    fn super_frames_use_the_large_class_and_more_is_refused() {
        let mut frames = Frames::new();
        assert!(frames.allocate(65_549).is_some());
        assert!(frames.allocate(70_000).is_none());
    }
}
