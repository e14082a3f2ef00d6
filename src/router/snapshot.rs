//! What a router looks like from outside: what `show`, expectations and reports read.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use crate::control::state::RouteRow;
use crate::dataplane::DropReason;
use crate::model::{Bandwidth, Instant, NeighborConfig, Role};
use crate::router::Router;
use crate::router::apply::port_mac;

/// One router at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Snapshot {
    pub name: String,
    pub role: Role,
    pub vrfs: Vec<VrfSnapshot>,
    pub arp: Vec<ArpRow>,
    pub bfd: Vec<BfdRow>,
    pub attachments: Vec<AttachmentRow>,
    pub limiters: Vec<LimiterRow>,
    /// Drops of the whole router by reason, those that happened.
    pub drops: Vec<(String, u64)>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct VrfSnapshot {
    pub name: String,
    pub sessions: Vec<SessionRow>,
    pub routes: Vec<RouteRow>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SessionRow {
    pub vrf: String,
    pub neighbor: String,
    pub peer: IpAddr,
    pub asn: u32,
    pub state: String,
    pub established: bool,
    pub established_for: Option<Duration>,
    pub flaps: u32,
    pub enabled: bool,
    /// Prefixes the neighbour announces, those that policy refuses included: what Azure shows as
    /// StatePfxRcd.
    pub prefixes_received: u64,
    pub last_error: String,
}

/// Columns of Azure's ARP table (section 5).
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ArpRow {
    pub attachment: String,
    pub age_s: u64,
    pub address: IpAddr,
    /// `Incomplete` when nobody answered.
    pub mac: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BfdRow {
    pub attachment: String,
    pub peer: IpAddr,
    pub state: String,
    /// Ours: what the peer's packets must name (RFC 5880, 6.3).
    pub discriminator: u32,
    pub detection: Duration,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AttachmentRow {
    pub name: String,
    /// Of its port.
    pub mac: String,
    pub received_packets: u64,
    pub received_bytes: u64,
    pub transmitted_packets: u64,
    pub transmitted_bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LimiterRow {
    pub name: String,
    pub rate: Bandwidth,
    pub conforming_packets: u64,
    pub conforming_bytes: u64,
    pub dropped_packets: u64,
    pub dropped_bytes: u64,
}

/// What of a [`Snapshot`] only grows, and costs little to read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    pub limiters: Vec<LimiterRow>,
    /// Drops of the whole router by reason, those that happened.
    pub drops: Vec<(String, u64)>,
}

impl Snapshot {
    /// The router's own MAC address on an attachment; empty when it has no such.
    pub fn mac_of(&self, attachment: &str) -> String {
        let found = self.attachments.iter().find(|row| row.name == attachment);
        found.map(|row| row.mac.clone()).unwrap_or_default()
    }
}

impl Router {
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let Counters { limiters, drops } = self.counters();
        Snapshot {
            name: self.config.name.clone(),
            role: self.config.role,
            vrfs: self.config.vrfs.iter().map(|vrf| self.vrf_snapshot(&vrf.name, now)).collect(),
            arp: self.arp(now),
            bfd: self.bfd(),
            attachments: self.attachment_rows(),
            limiters,
            drops,
        }
    }

    /// Counters alone, without the tables.
    pub fn counters(&self) -> Counters {
        Counters { limiters: self.limiters(), drops: self.drops() }
    }

    /// The sessions of every VRF, without the routes.
    pub fn session_rows(&self, now: Instant) -> Vec<SessionRow> {
        let vrfs = self.config.vrfs.iter();
        vrfs.flat_map(|vrf| self.sessions(&vrf.name, now)).collect()
    }

    /// Whether the control process runs, has learned what it had before, and no change of the
    /// routing tables waits for a timer.
    pub fn is_settled(&self) -> bool {
        self.is_settled_process() && self.control.is_settled()
    }

    fn vrf_snapshot(&self, name: &str, now: Instant) -> VrfSnapshot {
        let index = self.names.vrfs[name];
        VrfSnapshot {
            name: name.to_owned(),
            sessions: self.sessions(name, now),
            routes: self.control.routes(index),
        }
    }

    fn sessions(&self, vrf: &str, now: Instant) -> Vec<SessionRow> {
        if !self.has_control() {
            return self.dead_sessions(vrf);
        }
        let rows = self.control.peers(self.names.vrfs[vrf]).into_iter();
        let mut rows: Vec<_> = rows
            .map(|row| SessionRow {
                vrf: vrf.to_owned(),
                neighbor: row.name,
                peer: row.peer,
                asn: row.asn,
                state: row.state,
                established: row.established_at.is_some(),
                established_for: row.established_at.map(|at| now.since(at)),
                flaps: row.flaps,
                enabled: row.enabled,
                prefixes_received: row.prefixes_received,
                last_error: row.last_error,
            })
            .collect();
        rows.sort_by(|a, b| a.neighbor.cmp(&b.neighbor));
        rows
    }

    /// What is configured, while no process keeps sessions.
    fn dead_sessions(&self, vrf: &str) -> Vec<SessionRow> {
        let vrfs = self.config.vrfs.iter().filter(|other| other.name == vrf);
        let row = |neighbor: &NeighborConfig| SessionRow {
            vrf: vrf.to_owned(),
            neighbor: neighbor.name.clone(),
            peer: neighbor.peer,
            asn: neighbor.peer_asn.get(),
            state: "Idle".to_owned(),
            established: false,
            established_for: None,
            flaps: 0,
            enabled: neighbor.enabled,
            prefixes_received: 0,
            last_error: "the control process is dead".to_owned(),
        };
        let mut rows: Vec<_> = vrfs.flat_map(|vrf| &vrf.neighbors).map(row).collect();
        rows.sort_by(|a, b| a.neighbor.cmp(&b.neighbor));
        rows
    }

    fn arp(&self, now: Instant) -> Vec<ArpRow> {
        let rows = self.control.neighbors().into_iter();
        rows.map(|row| ArpRow {
            attachment: self.attachment_name(row.attachment),
            age_s: row.since.map_or(0, |since| now.since(since).as_secs()),
            address: row.address,
            mac: row.mac.map_or_else(|| "Incomplete".to_owned(), |mac| mac.to_string()),
        })
        .collect()
    }

    fn bfd(&self) -> Vec<BfdRow> {
        let rows = self.forwarding.bfd_sessions();
        rows.map(|row| BfdRow {
            attachment: self.attachment_name(row.attachment),
            peer: row.peer,
            state: format!("{:?}", row.state),
            discriminator: row.discriminator,
            detection: row.detection_time,
        })
        .collect()
    }

    fn attachment_rows(&self) -> Vec<AttachmentRow> {
        let rows = self.config.attachments.iter();
        rows.map(|attachment| {
            let index = self.names.attachments[&attachment.name];
            let counters = self.forwarding.counters(index);
            AttachmentRow {
                name: attachment.name.clone(),
                mac: port_mac(&self.config, &attachment.port).to_string(),
                received_packets: counters.received.packets,
                received_bytes: counters.received.bytes,
                transmitted_packets: counters.transmitted.packets,
                transmitted_bytes: counters.transmitted.bytes,
            }
        })
        .collect()
    }

    fn limiters(&self) -> Vec<LimiterRow> {
        let rows = self.config.limiters.iter();
        rows.map(|limiter| {
            let index = self.names.limiters[&limiter.name];
            let counters = self.forwarding.limiter_counters(index).unwrap_or_default();
            LimiterRow {
                name: limiter.name.clone(),
                rate: limiter.rate,
                conforming_packets: counters.conforming_packets,
                conforming_bytes: counters.conforming_bytes,
                dropped_packets: counters.surplus_packets,
                dropped_bytes: counters.surplus_bytes,
            }
        })
        .collect()
    }

    fn drops(&self) -> Vec<(String, u64)> {
        let ledger = self.forwarding.ledger();
        let rows = DropReason::ALL.iter().map(|&reason| (reason, ledger.dropped[reason as usize]));
        rows.filter(|(_, packets)| *packets > 0)
            .map(|(reason, packets)| (reason.name().to_owned(), packets))
            .collect()
    }

    fn attachment_name(&self, index: crate::model::AttachmentIndex) -> String {
        let found = self.names.attachments.iter().find(|(_, other)| **other == index);
        found.map(|(name, _)| name.clone()).unwrap_or_default()
    }
}
