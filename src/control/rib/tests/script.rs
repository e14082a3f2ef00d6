//! The commands of the fixtures, and a table that carries them out.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::control::policy::text::{Words, show};
use crate::control::rib::tests::forwarding::Forwarding;
use crate::control::rib::{Loss, Peer, PeerIndex, Rib, RibConfig};
use crate::control::route::{Attributes, Update};
use crate::model::{
    Asn, AttachmentIndex, Change, ConvergenceDelay, ExportPolicy, ImportPolicy, Instant, Member,
    Prefix, Spread, VrfIndex,
};

/// A table, its clock, its neighbours by name, and what they and forwarding were told.
pub(super) struct Script {
    pub(super) rib: Rib,
    pub(super) now: Instant,
    pub(super) names: Vec<String>,
    pub(super) forwarding: Forwarding,
    pub(super) told: BTreeMap<(PeerIndex, u32, Prefix), Arc<Attributes>>,
    /// Of the last command.
    pub(super) log: String,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            rib: Rib::new(config(&Words::of("")), 1),
            now: Instant::ZERO,
            names: Vec::new(),
            forwarding: Forwarding::default(),
            told: BTreeMap::new(),
            log: String::new(),
        }
    }
}

impl Script {
    /// Carries out `input` and returns it with what came of each line.
    pub(super) fn run(&mut self, input: &str) -> String {
        let mut output = String::new();
        for line in input.lines() {
            output += line;
            output += "\n";
            if !line.is_empty() && !line.starts_with('#') {
                self.command(line);
                output += &std::mem::take(&mut self.log);
            }
        }
        output
    }

    /// One command; what came of it is in `log`.
    pub(super) fn command(&mut self, line: &str) {
        let words: Vec<_> = line.split_whitespace().collect();
        let (keys, now) = (Words::of(line), self.now);
        let on = words.last() != Some(&"off");
        let prefixes = |list: &str| list.split(',').map(|each| each.parse().unwrap()).collect();
        match words[..] {
            ["rib", ..] => self.rib = Rib::new(config(&keys), 1),
            ["at", ms, ..] => self.wait_until(Instant::from_millis(ms.parse().unwrap())),
            ["peer", name, ..] => {
                let index = PeerIndex(self.names.len() as u16);
                self.names.push(name.to_owned());
                self.rib.add_peer(index, peer(name, &keys), now);
            }
            ["remove", name] => self.rib.remove_peer(self.index(name), now),
            ["up", name, id] => {
                let index = self.index(name);
                let add_path = self.rib.peer(index).unwrap().add_path;
                self.rib.established(index, id.parse().unwrap(), add_path, now);
            }
            ["close", name, how] => {
                let loss = if how == "failed" { Loss::Failed } else { Loss::Orderly };
                let index = self.index(name);
                self.told.retain(|(to, ..), _| *to != index);
                self.rib.closed(index, loss, now);
            }
            ["keep", name] => {
                let index = self.index(name);
                self.told.retain(|(to, ..), _| *to != index);
                self.rib.kept(index, now);
            }
            ["sweep", name] => self.rib.forget_stale(self.index(name), now),
            ["announce", name, list, ..] => {
                let index = self.index(name);
                let next_hop = self.rib.peer(index).unwrap().peer;
                let update = Update {
                    announced: prefixes(list),
                    attributes: Some(Arc::new(keys.attributes(next_hop))),
                    path_id: keys.parsed("id").unwrap_or(0),
                    ..Update::default()
                };
                self.rib.update(index, &update, now);
            }
            ["withdraw", name, list, ..] => {
                let path_id = keys.parsed("id").unwrap_or(0);
                let update = Update { withdrawn: prefixes(list), path_id, ..Update::default() };
                self.rib.update(self.index(name), &update, now);
            }
            ["originate", prefix, ..] => self.rib.originate(prefix.parse().unwrap(), on, now),
            ["connected", prefix, ..] => {
                let (at, ordinal) = place(&keys);
                self.rib.set_connected(prefix.parse().unwrap(), at, ordinal, on, now);
            }
            ["static", prefix, ..] => {
                let (at, ordinal) = place(&keys);
                let via = keys.parsed("via").unwrap();
                self.rib.set_static(prefix.parse().unwrap(), at, via, ordinal, on, now);
            }
            ["host", address, ..] => {
                self.rib.set_host_route(address.parse().unwrap(), place(&keys).0, on, now);
            }
            ["maintenance", times] => self.rib.set_maintenance(times.parse().ok(), now),
            ["policy", name, ..] => {
                let (import, export) = policies(&keys);
                self.rib.set_policy(self.index(name), import, export, now);
            }
            ["refresh", name] => self.rib.refresh(self.index(name)),
            ["show"] => self.show(),
            _ => panic!("unknown command: {line}"),
        }
        self.drain();
    }

    /// Lets time pass, with all that is due on the way.
    pub(super) fn wait_until(&mut self, end: Instant) {
        while self.rib.poll_timeout() <= end {
            self.now = self.rib.poll_timeout().max(self.now);
            self.rib.handle_timeout(self.now);
            let before = self.log.len();
            self.drain();
            if self.log.len() > before {
                self.log.insert_str(before, &format!("  {:?}\n", self.now));
            }
        }
        self.now = end;
        self.rib.handle_timeout(end);
    }

    pub(super) fn index(&self, name: &str) -> PeerIndex {
        let at = self.names.iter().position(|each| each == name);
        PeerIndex(at.unwrap_or_else(|| panic!("no neighbour {name}")) as u16)
    }

    /// Changes first, then exports, as a router does.
    pub(super) fn drain(&mut self) {
        for change in self.rib.poll_changes() {
            self.forwarding.apply(&change);
            let line = match change {
                Change::Group { group, members, .. } if members.is_empty() => {
                    format!("  group {} freed\n", group.0)
                }
                Change::Group { group, members, .. } => {
                    let members: Vec<_> = members.iter().map(way).collect();
                    format!("  group {} = {}\n", group.0, members.join(" "))
                }
                Change::Route { prefix, group, .. } => {
                    let group = group.map_or("none".to_owned(), |group| group.0.to_string());
                    format!("  route {prefix} -> {group}\n")
                }
                other => panic!("not for a table: {other:?}"),
            };
            self.log += &line;
        }
        self.exports();
    }

    fn exports(&mut self) {
        for (at, name) in self.names.iter().enumerate() {
            let index = PeerIndex(at as u16);
            while let Some(update) = self.rib.poll_export(index) {
                let id = update.path_id;
                let marker = if id == 0 { String::new() } else { format!(" id={id}") };
                for prefix in &update.withdrawn {
                    assert!(self.told.remove(&(index, id, *prefix)).is_some(), "never told {name}");
                    writeln!(self.log, "  {name} <- withdraw {prefix}{marker}").unwrap();
                }
                if let Some(attributes) = &update.attributes {
                    let list: Vec<_> = update.announced.iter().map(ToString::to_string).collect();
                    let (list, text) = (list.join(","), show(attributes));
                    writeln!(self.log, "  {name} <- announce {list} {text}{marker}").unwrap();
                    for prefix in update.announced {
                        self.told.insert((index, id, prefix), attributes.clone());
                    }
                }
                if update.end_of_rib {
                    writeln!(self.log, "  {name} <- end of rib").unwrap();
                }
            }
        }
    }

    fn show(&mut self) {
        for row in self.rib.loc_rib() {
            let own = if row.own { " own" } else { "" };
            let local = row.local.map(|local| format!(" {local:?}")).unwrap_or_default();
            let behind = if row.fib_behind { " (fib behind)" } else { "" };
            writeln!(self.log, "  loc-rib {}{own}{local}{behind}", row.prefix).unwrap();
            for path in row.paths {
                let flag = if path.best { ">" } else { " " };
                let flag = if path.multipath { format!("{flag}*") } else { format!("{flag} ") };
                writeln!(
                    self.log,
                    "    {flag} {} via {} path {} preference {} weight {}",
                    self.names[path.peer.0 as usize],
                    path.next_hop,
                    path.as_path,
                    path.local_preference,
                    path.weight
                )
                .unwrap();
            }
        }
        for row in self.rib.refused() {
            let name = &self.names[row.peer.0 as usize];
            writeln!(self.log, "  refused {} from {name}: {}", row.prefix, row.reason).unwrap();
        }
        for (at, name) in self.names.iter().enumerate() {
            for row in self.rib.exports_to(PeerIndex(at as u16)) {
                if let Err(reason) = row.route {
                    writeln!(self.log, "  {name} is not told {}: {reason}", row.prefix).unwrap();
                }
            }
        }
    }
}

fn way(member: &Member) -> String {
    let to = member.next_hop.map_or("link".to_owned(), |hop| hop.to_string());
    format!("{}@{}#{}", to, member.attachment.0, member.ordinal)
}

fn config(keys: &Words) -> RibConfig {
    let spread = |p50, max| Spread {
        min: std::time::Duration::ZERO,
        p50: keys.millis(p50),
        max: keys.millis(max),
    };
    RibConfig {
        vrf: VrfIndex(0),
        asn: keys.asn("asn").unwrap_or(Asn::MICROSOFT),
        router_id: Ipv4Addr::new(9, 9, 9, 9),
        max_paths: keys.parsed("paths").unwrap_or(8),
        convergence: ConvergenceDelay {
            on_withdraw: spread("withdraw-p50", "withdraw-max"),
            on_announce: spread("announce-p50", "announce-max"),
        },
        linger: RibConfig::LINGER,
    }
}

fn peer(name: &str, keys: &Words) -> Peer {
    let (import, export) = policies(keys);
    let address = |key| keys.parsed::<IpAddr>(key).unwrap();
    let (attachment, ordinal) = place(keys);
    Peer {
        name: name.to_owned(),
        kind: keys.kind("kind").unwrap(),
        attachment,
        local: address("local"),
        peer: address("peer"),
        local_asn: keys.asn("asn").unwrap_or(Asn::MICROSOFT),
        peer_asn: keys.asn("peer-asn").unwrap(),
        ordinal,
        import,
        export,
        add_path: keys.value("add-path").is_some(),
    }
}

fn policies(keys: &Words) -> (ImportPolicy, ExportPolicy) {
    let import = ImportPolicy {
        local_preference: keys.parsed("preference"),
        weight: keys.parsed("weight").unwrap_or(0),
    };
    (import, ExportPolicy { prepend: keys.parsed("prepend").unwrap_or(0) })
}

fn place(keys: &Words) -> (AttachmentIndex, u8) {
    (AttachmentIndex(keys.parsed("at").unwrap()), keys.parsed("ordinal").unwrap_or(0))
}
