//! Where packets leave the path: a port's queue, the router itself, or a reason to drop. Everything
//! is counted here and nowhere else.

use std::collections::VecDeque;
use std::mem;
use std::ops::Range;

use crate::dataplane::counters::AttachmentCounters;
use crate::dataplane::meter::PuntMeters;
use crate::dataplane::verdict::{DropReason, Ledger, PuntReason};
use crate::io::gso::Layout;
use crate::io::{Frame, Frames};
use crate::model::{AttachmentIndex, Instant, Notice, PortIndex, Punted};

/// Most frames that wait to be taken by the ports.
pub const TRANSMIT_MAX: usize = 1 << 16;
/// Most notices that wait for control before BFD packets are refused, which cause them.
pub const NOTICES_MAX: usize = 1 << 14;
/// Most notices that wait before punts are refused: a flood of them leaves room for BFD.
pub const NOTICES_MAX_FOR_PUNTS: usize = NOTICES_MAX / 2;

/// The queues out of a router's forwarding, and its books.
#[derive(Debug, Default)]
pub struct Exits {
    pub ledger: Ledger,
    /// Per attachment.
    counters: Vec<AttachmentCounters>,
    meters: Vec<PuntMeters>,
    transmit: VecDeque<Leaving>,
    notices: VecDeque<Notice>,
    /// What was dropped, where somebody looks at it.
    dropped: Option<Vec<(Frame, DropReason)>>,
    /// Nobody takes what is for the router itself.
    pub control_down: bool,
}

/// A frame and the port it leaves by. In this order: a frame behind two bytes is copied in halves
/// that overlap, and waits for itself.
#[derive(Debug)]
#[repr(C)]
struct Leaving {
    frame: Frame,
    port: PortIndex,
}

impl Exits {
    /// Makes room for an attachment's counters.
    pub fn open(&mut self, attachment: AttachmentIndex) {
        if self.counters.len() <= attachment.index() {
            self.counters.resize_with(attachment.index() + 1, AttachmentCounters::default);
            self.meters.resize_with(attachment.index() + 1, PuntMeters::default);
        }
    }

    /// Forgets what an attachment counted: its index may become another one's.
    pub fn close(&mut self, attachment: AttachmentIndex) {
        if let Some(counters) = self.counters.get_mut(attachment.index()) {
            *counters = AttachmentCounters::default();
            self.meters[attachment.index()] = PuntMeters::default();
        }
    }

    pub fn count_received(&mut self, attachment: AttachmentIndex, packets: u64, bytes: u64) {
        if let Some(counters) = self.counters.get_mut(attachment.index()) {
            counters.received.count(packets, bytes);
        }
    }

    /// Queues a frame that leaves by `egress`. Full, the packets count as `link-full` there.
    pub fn transmit(
        &mut self,
        port: PortIndex,
        egress: AttachmentIndex,
        frame: Frame,
        bytes: u64,
        pool: &mut Frames,
    ) {
        if self.transmit.len() >= TRANSMIT_MAX {
            return self.drop(egress, frame, DropReason::LinkFull, pool);
        }
        let packets = frame.meta.wire_packets();
        self.ledger.queued += packets;
        if let Some(counters) = self.counters.get_mut(egress.index()) {
            counters.transmitted.count(packets, bytes);
        }
        self.transmit.push_back(Leaving { frame, port });
    }

    pub fn drop(
        &mut self,
        attachment: AttachmentIndex,
        frame: Frame,
        reason: DropReason,
        pool: &mut Frames,
    ) {
        self.count_dropped(attachment, reason, frame.meta.wire_packets());
        match &mut self.dropped {
            Some(dropped) => dropped.push((frame, reason)),
            None => pool.free(frame),
        }
    }

    /// Drops some segments of a super-frame, whose IP bytes on the wire are `bytes`.
    pub fn drop_part(
        &mut self,
        attachment: AttachmentIndex,
        (layout, frame): (&Layout, &Frame),
        range: Range<u64>,
        bytes: u64,
        reason: DropReason,
        pool: &mut Frames,
    ) {
        let packets = range.end - range.start;
        self.count_received(attachment, packets, bytes);
        self.count_dropped(attachment, reason, packets);
        if let Some(dropped) = &mut self.dropped
            && packets > 0
        {
            dropped.extend(layout.part(frame, range, pool).map(|part| (part, reason)));
        }
    }

    /// Whether somebody takes what is dropped, from now on.
    pub fn keep_dropped(&mut self, keep: bool) {
        self.dropped = keep.then(|| self.take_dropped());
    }

    /// What was dropped since this was last asked, to be freed.
    pub fn take_dropped(&mut self) -> Vec<(Frame, DropReason)> {
        self.dropped.as_mut().map(mem::take).unwrap_or_default()
    }

    pub fn count_dropped(&mut self, attachment: AttachmentIndex, reason: DropReason, packets: u64) {
        self.ledger.drop(reason, packets);
        if let Some(counters) = self.counters.get_mut(attachment.index()) {
            counters.dropped[reason as usize] += packets;
        }
    }

    pub fn consume(&mut self, frame: Frame, pool: &mut Frames) {
        self.ledger.consumed += frame.meta.wire_packets();
        pool.free(frame);
    }

    /// Whether one more packet of the class may go to the router itself; if so it is charged.
    pub fn admits_punt(
        &mut self,
        attachment: AttachmentIndex,
        reason: PuntReason,
        now: Instant,
    ) -> bool {
        !self.control_down
            && self.notices.len() < NOTICES_MAX_FOR_PUNTS
            && self.meters.get_mut(attachment.index()).is_some_and(|all| all.charge(reason, now))
    }

    pub fn punt(&mut self, punted: Punted) {
        self.notices.push_back(Notice::Punted(punted));
    }

    /// A packet that was given to the router itself is dropped after all: control has no time for it.
    pub fn take_back_punt(&mut self, attachment: AttachmentIndex) {
        self.ledger.consumed -= 1;
        self.count_dropped(attachment, DropReason::ControlBusy, 1);
    }

    /// Whether control has taken enough notices that packets may cause more of them.
    pub fn admits_bfd(&self) -> bool {
        self.notices.len() < NOTICES_MAX
    }

    /// Tells control what happened to a session, a port or a group. Never refused: packets cause
    /// them only through [`admits_bfd`](Self::admits_bfd), and time one a session and interval.
    pub fn tell(&mut self, notice: Notice) {
        self.notices.push_back(notice);
    }

    pub fn poll_transmit(&mut self) -> Option<(PortIndex, Frame)> {
        let Leaving { frame, port } = self.transmit.pop_front()?;
        let packets = frame.meta.wire_packets();
        self.ledger.queued -= packets;
        self.ledger.transmitted += packets;
        Some((port, frame))
    }

    pub fn has_notice(&self) -> bool {
        !self.notices.is_empty()
    }

    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    pub fn counters(&self, attachment: AttachmentIndex) -> AttachmentCounters {
        self.counters.get(attachment.index()).copied().unwrap_or_default()
    }
}
