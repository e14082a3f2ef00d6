//! What is said between a router and its control plane, one ordered stream each way. In one process
//! they are calls; between two, [`runtime`](crate::control::runtime) carries them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::control::plane::{Attachment, Control};
use crate::model::{
    AttachmentIndex, Bandwidth, Change, GroupIndex, Injected, Instant, Notice, VrfConfig, VrfIndex,
};

/// Something control is told: a [`Control`]'s method each.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ToControl {
    SetAnnounces(bool),
    KeepGroups { vrf: VrfIndex, groups: BTreeSet<GroupIndex> },
    ReleaseKeptGroups,
    SetAttachment { index: AttachmentIndex, attachment: Attachment },
    RemoveAttachment(AttachmentIndex),
    SetVrf { index: VrfIndex, config: VrfConfig, attachments: BTreeMap<String, AttachmentIndex> },
    RemoveVrf { index: VrfIndex, attachments: BTreeMap<String, AttachmentIndex> },
    NoteLimiter { name: String, rate: Bandwidth },
    Reset { vrf: VrfIndex, neighbor: String },
    Drain { vrf: VrfIndex, prepends: Option<u8> },
    Carrier { port: String, attachments: Vec<AttachmentIndex>, up: bool },
    Notice(Notice),
}

/// Something forwarding is to do because of control.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Applied before any packet that comes after them leaves: install, then advertise.
    Changes(Vec<Change>),
    Inject(Injected),
}

impl Control {
    pub fn handle(&mut self, message: ToControl, now: Instant) {
        match message {
            ToControl::SetAnnounces(announces) => self.set_announces(announces),
            ToControl::KeepGroups { vrf, groups } => self.keep_groups(vrf, groups),
            ToControl::ReleaseKeptGroups => self.release_kept_groups(now),
            ToControl::SetAttachment { index, attachment } => {
                self.set_attachment(index, attachment, now);
            }
            ToControl::RemoveAttachment(index) => self.remove_attachment(index, now),
            ToControl::SetVrf { index, config, attachments } => {
                self.set_vrf(index, &config, &attachments, now);
            }
            ToControl::RemoveVrf { index, attachments } => {
                self.remove_vrf(index, &attachments, now);
            }
            ToControl::NoteLimiter { name, rate } => self.note_limiter(&name, rate, now),
            ToControl::Reset { vrf, neighbor } => self.reset(vrf, &neighbor, now),
            ToControl::Drain { vrf, prepends } => self.drain(vrf, prepends, now),
            ToControl::Carrier { port, attachments, up } => {
                self.carrier(&port, &attachments, up, now);
            }
            ToControl::Notice(notice) => self.handle_notice(notice, now),
        }
    }

    /// The next of what control has for forwarding.
    pub fn poll(&mut self) -> Option<Outcome> {
        let changes = self.take_changes();
        if changes.is_empty() {
            return self.poll_inject().map(Outcome::Inject);
        }
        Some(Outcome::Changes(changes))
    }
}
