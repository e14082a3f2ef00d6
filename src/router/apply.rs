//! Desired state as a diff: `apply(x); apply(x)` changes nothing the second time, and
//! `apply(a); apply(b)` ends where a fresh `b` does.

use std::collections::BTreeSet;

use crate::control::message::ToControl;
use crate::control::plane::Attachment;
use crate::model::{
    AttachmentConfig, AttachmentEntry, AttachmentIndex, Change, Effect, Field, InnerService,
    Instant, LimiterIndex, LimiterParameters, PortEntry, PortIndex, RouterConfig, Service,
    VrfConfig, VrfIndex, effect,
};
use crate::router::Router;
use crate::shaper;
use crate::wire::{MacAddr, ndp};

/// What a change to an attachment costs.
pub const ATTACHMENT_FIELDS: &[Field<AttachmentConfig>] = &[
    Field { name: "port", effect: Effect::RebuildsAttachment, same: |a, b| a.port == b.port },
    Field {
        name: "encapsulation",
        effect: Effect::RebuildsAttachment,
        same: |a, b| a.encapsulation == b.encapsulation,
    },
    Field {
        name: "service",
        effect: Effect::RebuildsAttachment,
        same: |a, b| a.service == b.service,
    },
    Field {
        name: "addresses",
        effect: Effect::RebuildsAttachment,
        same: |a, b| a.addresses == b.addresses,
    },
    // The segment size of the sessions on it follows.
    Field { name: "mtu", effect: Effect::RebuildsAttachment, same: |a, b| a.mtu == b.mtu },
    Field {
        name: "ingress_limiters",
        effect: Effect::Live,
        same: |a, b| a.ingress_limiters == b.ingress_limiters,
    },
    Field {
        name: "egress_limiters",
        effect: Effect::Live,
        same: |a, b| a.egress_limiters == b.egress_limiters,
    },
    Field {
        name: "polices_control",
        effect: Effect::Live,
        same: |a, b| a.polices_control == b.polices_control,
    },
    Field {
        name: "answers_icmp",
        effect: Effect::Live,
        same: |a, b| a.answers_icmp == b.answers_icmp,
    },
];

impl Router {
    /// Makes the router what `config` says, by the smallest change. Rates are live (F-23); a
    /// field that belongs to one session or one attachment touches only that.
    pub fn apply(&mut self, config: &RouterConfig, now: Instant) {
        if self.wait_for_control(config) {
            return;
        }
        let old = std::mem::replace(&mut self.config, config.clone());
        if old == *config {
            return;
        }
        self.control.tell(ToControl::SetAnnounces(config.announces_addresses), now);
        self.apply_ports(&old, config, now);
        self.apply_limiters(&old, config, now);
        for vrf in &config.vrfs {
            let next = VrfIndex(self.names.vrfs.len() as u16);
            self.names.vrfs.entry(vrf.name.clone()).or_insert(next);
        }
        let stale = stale_vrfs(&old, config);
        self.remove_attachments(&old, config, &stale, now);
        for vrf in &stale {
            let index = self.names.vrfs[*vrf];
            let attachments = self.names.attachments.clone();
            self.control.tell(ToControl::RemoveVrf { index, attachments }, now);
            self.apply_changes(now);
        }
        for attachment in &config.attachments {
            let next = AttachmentIndex(self.names.attachments.len() as u16);
            self.names.attachments.entry(attachment.name.clone()).or_insert(next);
        }
        let mut rebuilt = BTreeSet::new();
        for attachment in &config.attachments {
            let before = old.attachments.iter().find(|other| other.name == attachment.name);
            let before = before.filter(|before| !is_of(before, &stale));
            let moved = before.is_some_and(|before| {
                port_mac(&old, &before.port) != port_mac(config, &attachment.port)
            });
            if moved {
                self.remove_attachment(self.names.attachments[&attachment.name], now);
            }
            let before = before.filter(|_| !moved);
            let cost = self.apply_attachment(before, attachment, config, now);
            if (moved || cost == Some(Effect::RebuildsAttachment))
                && let Service::Vrf(vrf) = &attachment.service
            {
                rebuilt.insert(vrf);
            }
        }
        for vrf in &config.vrfs {
            // With an attachment its sessions went.
            if !old.vrfs.contains(vrf) || rebuilt.contains(&vrf.name) {
                self.tell_vrf(vrf, now);
            }
        }
        self.deadline = now;
    }

    fn apply_ports(&mut self, old: &RouterConfig, config: &RouterConfig, now: Instant) {
        for port in config.ports.iter().filter(|port| !old.ports.contains(port)) {
            let next = PortIndex(self.names.ports.len() as u16);
            let index = *self.names.ports.entry(port.name.clone()).or_insert(next);
            let entry = PortEntry { name: port.name.clone(), mac: port.mac };
            self.forwarding.apply(&[Change::Port { index, entry }], now);
        }
    }

    fn apply_limiters(&mut self, old: &RouterConfig, config: &RouterConfig, now: Instant) {
        for limiter in config.limiters.iter().filter(|limiter| !old.limiters.contains(limiter)) {
            let next = LimiterIndex(self.names.limiters.len() as u16);
            let index = *self.names.limiters.entry(limiter.name.clone()).or_insert(next);
            let parameters = Some(LimiterParameters {
                rate: limiter.rate,
                depth_bytes: shaper::depth_bytes(limiter.rate, limiter.burst),
            });
            self.forwarding.apply(&[Change::Limiter { index, parameters }], now);
            if old.limiters.iter().any(|other| other.name == limiter.name) {
                let name = limiter.name.clone();
                self.control.tell(ToControl::NoteLimiter { name, rate: limiter.rate }, now);
            }
        }
        for gone in &old.limiters {
            if !config.limiters.iter().any(|limiter| limiter.name == gone.name) {
                let index = self.names.limiters[&gone.name];
                self.forwarding.apply(&[Change::Limiter { index, parameters: None }], now);
            }
        }
    }

    /// Those that are gone, and all of the VRFs that are gone or made anew.
    fn remove_attachments(
        &mut self,
        old: &RouterConfig,
        config: &RouterConfig,
        stale: &[&str],
        now: Instant,
    ) {
        for gone in &old.attachments {
            let stays = config.attachments.iter().any(|attachment| attachment.name == gone.name);
            if !stays || is_of(gone, stale) {
                self.remove_attachment(self.names.attachments[&gone.name], now);
            }
        }
    }

    fn remove_attachment(&mut self, index: AttachmentIndex, now: Instant) {
        self.control.tell(ToControl::RemoveAttachment(index), now);
        self.apply_changes(now);
        self.forwarding.apply(&[Change::Attachment { index, entry: None }], now);
    }

    fn apply_attachment(
        &mut self,
        old: Option<&AttachmentConfig>,
        attachment: &AttachmentConfig,
        config: &RouterConfig,
        now: Instant,
    ) -> Option<Effect> {
        let index = self.names.attachments[&attachment.name];
        let cost = match old {
            Some(old) => effect(ATTACHMENT_FIELDS, old, attachment),
            None => Some(Effect::Live),
        };
        cost?;
        if cost == Some(Effect::RebuildsAttachment) {
            self.remove_attachment(index, now);
        }
        let mac = port_mac(config, &attachment.port);
        let entry = self.entry(attachment, mac);
        self.forwarding.apply(&[Change::Attachment { index, entry: Some(entry) }], now);
        self.tell_control(attachment, config, now);
        cost
    }

    /// Makes an attachment known to control, if it is of a VRF.
    pub(super) fn tell_control(
        &mut self,
        attachment: &AttachmentConfig,
        config: &RouterConfig,
        now: Instant,
    ) {
        let mac = port_mac(config, &attachment.port);
        let entry = self.entry(attachment, mac);
        let InnerService::Vrf(vrf) = entry.service else { return };
        let known = Attachment {
            name: entry.name,
            vrf,
            mac,
            mtu: entry.mtu,
            addresses: entry.addresses,
            carrier: self.forwarding.has_carrier(entry.port),
            on_link: attachment.addresses.iter().map(|address| address.on_link).collect(),
        };
        let index = self.names.attachments[&attachment.name];
        self.control.tell(ToControl::SetAttachment { index, attachment: known }, now);
    }

    /// Makes a VRF known to control.
    pub(super) fn tell_vrf(&mut self, vrf: &VrfConfig, now: Instant) {
        let (index, config) = (self.names.vrfs[&vrf.name], vrf.clone());
        let attachments = self.names.attachments.clone();
        self.control.tell(ToControl::SetVrf { index, config, attachments }, now);
    }

    /// Makes the changes that control has ready. Those of a process come when they come.
    fn apply_changes(&mut self, now: Instant) {
        let changes = self.control.take_changes();
        self.forwarding.apply(&changes, now);
    }

    fn entry(&self, attachment: &AttachmentConfig, mac: MacAddr) -> AttachmentEntry {
        let limiters = |names: &[String]| {
            names.iter().filter_map(|name| self.names.limiters.get(name).copied()).collect()
        };
        let mut addresses: Vec<_> =
            attachment.addresses.iter().map(|address| address.address).collect();
        if addresses.iter().any(std::net::IpAddr::is_ipv6) {
            addresses.push(ndp::link_local(mac).into());
        }
        AttachmentEntry {
            name: attachment.name.clone(),
            port: self.names.ports[&attachment.port],
            encapsulation: attachment.encapsulation,
            service: match &attachment.service {
                Service::Vrf(name) => InnerService::Vrf(self.names.vrfs[name]),
                Service::CrossConnect(name) => {
                    InnerService::CrossConnect(self.names.attachments[name])
                }
            },
            mtu: attachment.mtu,
            addresses,
            ingress_limiters: limiters(&attachment.ingress_limiters),
            egress_limiters: limiters(&attachment.egress_limiters),
            polices_control: attachment.polices_control,
            answers_icmp: attachment.answers_icmp,
        }
    }
}

/// VRFs that are gone, or differ in what a table is made with.
fn stale_vrfs<'a>(old: &'a RouterConfig, config: &RouterConfig) -> Vec<&'a str> {
    let stays = |vrf: &&VrfConfig| {
        config.vrfs.iter().any(|other| {
            other.name == vrf.name
                && other.asn == vrf.asn
                && other.max_paths == vrf.max_paths
                && other.convergence == vrf.convergence
        })
    };
    old.vrfs.iter().filter(|vrf| !stays(vrf)).map(|vrf| vrf.name.as_str()).collect()
}

fn is_of(attachment: &AttachmentConfig, vrfs: &[&str]) -> bool {
    matches!(&attachment.service, Service::Vrf(vrf) if vrfs.contains(&vrf.as_str()))
}

pub(super) fn port_mac(config: &RouterConfig, port: &str) -> MacAddr {
    let found = config.ports.iter().find(|other| other.name == port);
    found.expect("a compiled attachment names a port of its router").mac
}
