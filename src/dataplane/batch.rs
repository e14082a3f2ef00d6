//! Up to 64 frames on their way through the stages together, each with what the stages have found
//! out about it.

use crate::dataplane::verdict::Verdict;
use crate::fib::AdjacencyIndex;
use crate::io::Frame;
use crate::model::{AttachmentIndex, VrfIndex};

/// Most frames that come into a batch.
pub const BATCH_MAX: usize = 64;
/// A limiter can make two of a super-frame.
const PARTS_MAX: usize = 2 * BATCH_MAX;

/// No attachment has this index: [`DemuxTable`](crate::dataplane::port::DemuxTable) refuses it.
pub const NOBODY: AttachmentIndex = AttachmentIndex(u16::MAX);

/// Frames and their contexts, side by side. Reused, so that a batch allocates nothing.
#[derive(Debug)]
pub struct Batch {
    frames: Vec<Frame>,
    contexts: Vec<Context>,
}

/// What is known of one packet.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    pub verdict: Verdict,
    pub family: Family,
    /// ARP, ND, BFD or BGP on its way through a cross-connect.
    pub control: bool,
    /// Bytes in front of the packet: Ethernet header and tags.
    pub header_len: u8,
    pub ethertype: u16,
    /// Where the packet came in; [`NOBODY`] before demux and when no attachment is concerned.
    pub ingress: AttachmentIndex,
    /// Valid from lookup (cross-connects: from admit).
    pub egress: AttachmentIndex,
    pub vrf: VrfIndex,
    pub adjacency: AdjacencyIndex,
    /// The IP packet's bytes as it lies in the frame.
    pub length: u32,
    /// What limiters charge: the IP bytes (section 20) of all that the frame is on the wire.
    pub bytes: u32,
    /// IP bytes of the largest packet that the frame is on the wire: what an MTU is held against.
    pub largest: u32,
}

/// What follows the Ethernet header of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    Other,
    Ipv4,
    Ipv6,
}

impl Default for Batch {
    fn default() -> Self {
        Self { frames: Vec::with_capacity(PARTS_MAX), contexts: Vec::with_capacity(PARTS_MAX) }
    }
}

impl Batch {
    /// Takes frames until the batch is full. False when they ended before.
    pub fn fill(&mut self, frames: &mut impl Iterator<Item = Frame>) -> bool {
        debug_assert!(self.frames.is_empty(), "a batch is settled before the next is filled");
        for frame in frames.take(BATCH_MAX) {
            self.frames.push(frame);
            self.contexts.push(Context::UNKNOWN);
        }
        self.frames.len() == BATCH_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The packets that no stage has taken out.
    pub fn open(&mut self) -> impl Iterator<Item = (&mut Frame, &mut Context)> {
        self.frames
            .iter_mut()
            .zip(&mut self.contexts)
            .filter(|(_, context)| context.verdict == Verdict::Next)
    }

    /// As [`open`](Self::open), each with its place in the batch.
    pub fn open_places(&mut self) -> impl Iterator<Item = (usize, (&mut Frame, &mut Context))> {
        let places = self.frames.iter_mut().zip(&mut self.contexts).enumerate();
        places.filter(|(_, (_, context))| context.verdict == Verdict::Next)
    }

    /// The packet at a place.
    pub fn at(&mut self, place: usize) -> (&mut Frame, &mut Context) {
        (&mut self.frames[place], &mut self.contexts[place])
    }

    /// Puts a part of the frame at a place behind it.
    pub fn insert_behind(&mut self, place: usize, part: Frame, context: Context) {
        self.frames.insert(place + 1, part);
        self.contexts.insert(place + 1, context);
    }

    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Packets on the wire that the batch is.
    pub fn wire_packets(&self) -> u64 {
        self.frames.iter().map(|frame| frame.meta.wire_packets()).sum()
    }

    /// Hands out every frame with its context; the batch is empty afterwards.
    pub fn settle(&mut self) -> impl Iterator<Item = (Frame, Context)> {
        self.frames.drain(..).zip(self.contexts.drain(..))
    }
}

impl Context {
    /// Takes over what a limiter left of a frame, or cut off it: so many IP bytes on the wire.
    pub const fn hold(&mut self, frame: &Frame, bytes: u64) {
        self.length = frame.len() as u32 - self.header_len as u32;
        self.bytes = bytes as u32;
    }

    const UNKNOWN: Self = Self {
        verdict: Verdict::Next,
        family: Family::Other,
        control: false,
        header_len: 0,
        ethertype: 0,
        ingress: NOBODY,
        egress: AttachmentIndex(0),
        vrf: VrfIndex(0),
        adjacency: AdjacencyIndex(0),
        length: 0,
        bytes: 0,
        largest: 0,
    };
}
