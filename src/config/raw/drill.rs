//! The keys of a drill file.
//!
//! A traffic entry has the keys every entry has and those of its kind; so have a step and its event,
//! an expectation and its form. Kinds, events and forms are the three tables below.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as JsonValue, json};

use crate::config::drill::{
    Amount, Cause, Compared, Convergence, Directions, Families, Only, SessionState,
};
use crate::config::error::{At, Spot};
use crate::config::raw::{
    AsPath, CategoryWord, Complaint, Converged, EveryRun, Field, FilePath, Int, Key, LadderMbps,
    Leaf, List, Name, NewMac, OneOrMany, Origin, Percent, Presence, Raw, Reader, Shown, Table,
    Text, Throttle, TrafficRate, key_names, raw, read_table, table_block, table_schema, word,
};
use crate::config::tree::{Entry, Node, Scalar, Value};
use crate::model::{Bandwidth, Prefix};

raw! {
    /// A drill: traffic through a lab, what is done to the lab, and what must hold.
    struct Drill {
        /// A drill file, relative to this one, that this one adds to and changes.
        extends "extends": FilePath, optional, "drill file";
        /// The lab file, relative to this one.
        lab "lab": FilePath, required;
        /// What reports call the drill.
        name "name": Text, optional, "file name";
        /// All randomness comes from it; the lab's when left out.
        seed "seed": Int<0, { u64::MAX }>, optional, "lab";
        /// Each with its own seed and phase.
        runs "runs": Int<1, 10000>, default "1", "drill file";
        /// Flows between hosts.
        traffic "traffic": List<Traffic>, default "[]", "drill file";
        /// One after another.
        steps "steps": List<Step>, required;
        /// What must hold.
        expect "expect": List<Expectation>, default "[]", "drill file";
    }
}

raw! {
    /// The keys every traffic entry has.
    struct TrafficKeys {
        /// Name of the entry.
        name "name": Name, required;
        /// What the flows are made of.
        kind "kind": KindName, default "probe", "drill file";
        /// A host: site.host or vnet.host.
        from "from": Text, required;
        /// A host at the other side.
        to "to": Text, required;
    }
}

raw! {
    /// The keys of probes.
    struct Probe {
        /// Which ways packets go.
        directions "directions": Directions, default "both", "drill file";
        /// In each direction.
        flows "flows": Int<1, 65536>, default "64", "drill file";
        /// Of all flows together, each direction: 2000pps or 75Mbps.
        rate "rate": TrafficRate, default "2000pps", "drill file";
        /// IP packet with its headers, bytes.
        size "size": Int<64, 1500>, default "512", "drill file";
    }
}

raw! {
    /// The keys of TCP connections.
    struct TcpFlows {
        /// Connections.
        flows "flows": Int<1, 1024>, default "4", "drill file";
        /// What the application writes, all connections together; as fast as it goes when left out.
        rate "rate": Bandwidth, optional, "drill file";
    }
}

raw! {
    /// The keys every step has.
    struct StepKeys {
        /// Name of the step.
        step "step": Name, required;
        /// The event it starts.
        does "do": EventName, optional;
        /// At least this long.
        lasts "for": Duration, optional;
        /// And until this.
        until "until": Until, optional;
        /// At most this long, where it waits for something.
        within "within": Duration, optional, "drill file";
    }
}

raw! {
    /// The keys of an event that only says where.
    struct Places {
        /// One place or a list: circuit/link, with :access, :nni or :core.
        at "at": OneOrMany<Text>, required;
    }
}

raw! {
    /// The keys of a black hole.
    struct Blackhole {
        /// One place or a list: circuit/link, with :access, :nni or :core.
        at "at": OneOrMany<Text>, required;
        /// Which way packets vanish.
        direction "direction": Directions, default "both", "drill file";
        /// data, or control: ARP, ND, BFD and BGP.
        only "only": Only, optional;
    }
}

raw! {
    /// The keys of an impairment.
    struct Impair {
        /// One place or a list: circuit/link, with :access, :nni or :core.
        at "at": OneOrMany<Text>, required;
        /// Which way packets suffer.
        direction "direction": Directions, default "both", "drill file";
        /// Share of packets lost.
        loss "loss": Percent, optional;
        /// Share of packets with one bit another, behind the Ethernet header and the tags.
        corrupt "corrupt": Percent, optional;
        /// Share of packets whose end is missing.
        truncate "truncate": Percent, optional;
        /// Share of packets that come twice.
        duplicate "duplicate": Percent, optional;
        /// Share of packets that the next one overtakes, if it comes within 100 ms.
        reorder "reorder": Percent, optional;
        /// Added to each packet.
        delay "delay": Duration, optional;
        /// Most that is added at random.
        jitter "jitter": Duration, optional;
        /// Speed of the link.
        rate "rate": Bandwidth, optional;
    }
}

raw! {
    /// The keys of an event on sessions.
    struct Sessions {
        /// One session or a list: circuit/link, or router>router.
        at "at": OneOrMany<Text>, required;
    }
}

raw! {
    /// The keys of an event on routers.
    struct Nodes {
        /// One router or a list: a site's, circuit/link for an MSEE, vnet/gateway#instance.
        at "at": OneOrMany<Text>, required;
    }
}

raw! {
    /// The keys of a maintenance of one link.
    struct Maintenance {
        /// One link or a list: circuit/link.
        at "at": OneOrMany<Text>, required;
        /// How the link is drained.
        category "category": CategoryWord, required, "section 15";
        /// How often 12076 is put in front.
        prepends "prepends": Int<1, 64>, optional, "L-49";
    }
}

raw! {
    /// The keys of an operator's switch.
    struct Switch {
        /// One peering or a list: circuit/AzurePrivatePeering.
        at "at": OneOrMany<Text>, required;
        /// Address family.
        family "family": Families, default "both", "section 6.4";
    }
}

raw! {
    /// The keys of a larger circuit.
    struct MoreBandwidth {
        /// One circuit or a list.
        at "at": OneOrMany<Text>, required;
        /// A step of the ladder, never less than before.
        bandwidth "bandwidthInMbps": LadderMbps, required, "L-01";
    }
}

raw! {
    /// The keys of a changed announcement.
    struct Announcement {
        /// One router of a site or a list.
        at "at": OneOrMany<Text>, required;
        /// One address block or a list.
        prefix "prefix": OneOrMany<Prefix>, optional;
        /// The same.
        prefixes "prefixes": OneOrMany<Prefix>, optional;
    }
}

raw! {
    /// The keys of a replaced device.
    struct Replacement {
        /// One router of a site or a list.
        at "at": OneOrMany<Text>, required;
        /// The new device's MAC addresses.
        mac "mac": NewMac, default "new", "drill file";
        /// Whether it tells its neighbours with gratuitous ARP and unsolicited neighbour advertisements.
        gratuitous_arp "gratuitousArp": bool, default "false", "drill file";
    }
}

raw! {
    /// The keys of a changed throttle.
    struct ProviderRate {
        /// One circuit or a list.
        at "at": OneOrMany<Text>, required;
        /// Each direction; none takes the throttle off.
        rate "rateInMbps": Throttle, required, "drill file";
    }
}

raw! {
    /// The keys of a restore.
    struct Restore {
        /// What earlier steps named; everything when left out.
        at "at": OneOrMany<Text>, optional;
    }
}

raw! {
    /// The keys every expectation has.
    struct ExpectationKeys {
        /// The form.
        that "that": FormName, required;
        /// A step's name, or always.
        during "during": Name, default "always", "drill file";
        /// Not judged before this; then it must stay.
        after "after": Duration, optional;
        /// Must hold in each run on its own.
        each "in": EveryRun, optional;
        /// Judged only when VM hosts follow so; always when left out.
        convergence "convergence": Convergence, optional;
    }
}

raw! {
    /// Bounds on the longest time without a packet, per flow.
    struct Outage {
        /// Name of the traffic.
        of "of": Name, required;
        /// Which way; every way the traffic goes when left out.
        direction "direction": Directions, optional;
        /// At least.
        min "min": Duration, optional;
        /// At most.
        max "max": Duration, optional;
        /// The median at most.
        p50 "p50": Duration, optional;
        /// The 99th percentile at most.
        p99 "p99": Duration, optional;
    }
}

raw! {
    /// Bounds on packets lost: a number, or a share of those sent.
    struct Lost {
        /// Name of the traffic.
        of "of": Name, required;
        /// Which way; every way the traffic goes when left out.
        direction "direction": Directions, optional;
        /// At least.
        min "min": Amount, optional;
        /// At most.
        max "max": Amount, optional;
    }
}

raw! {
    /// Bounds on how many flows lost a packet.
    struct FlowsHit {
        /// Name of the traffic.
        of "of": Name, required;
        /// Which way; every way the traffic goes when left out.
        direction "direction": Directions, optional;
        /// The least and the most: two numbers, or two shares of the flows.
        between "between": List<Amount>, required;
    }
}

raw! {
    /// Where packets go.
    struct Path {
        /// Name of the traffic.
        of "of": Name, required;
        /// Which way; every way the traffic goes when left out.
        direction "direction": Directions, optional;
        /// Every packet comes by each of these: routers, or circuits.
        through "through": OneOrMany<Text>, optional;
        /// No packet comes by any of these.
        never "never": OneOrMany<Text>, optional;
    }
}

raw! {
    /// A route in a router's table.
    struct Route {
        /// A router.
        node "node": Text, required;
        /// Exactly this address block.
        prefix "prefix": Prefix, required;
        /// Whether it is there.
        present "present": bool, default "true", "drill file";
        /// Of the best route.
        as_path "asPath": AsPath, optional;
        /// The neighbour the best route came from.
        best "best": Text, optional;
    }
}

raw! {
    /// A route that is not in a router's table.
    struct NoRoute {
        /// A router.
        node "node": Text, required;
        /// Exactly this address block.
        prefix "prefix": Prefix, required;
    }
}

raw! {
    /// State of a BGP session.
    struct Session {
        /// circuit/link, or router>router.
        session "session": Text, required;
        /// Address family.
        family "family": Families, default "both", "drill file";
        /// At every moment.
        state "state": SessionState, optional;
        /// How often it goes down: exactly, or the least and the most.
        flaps "flaps": OneOrMany<Int<0, 1_000_000>>, optional;
    }
}

raw! {
    /// What happened in which order.
    struct CauseOrder {
        /// Two links of the chain or more.
        is "is": List<Cause>, required;
        /// From the first to the last.
        within "within": Duration, optional;
    }
}

raw! {
    /// Everything is as before the first event.
    struct BackToBaseline {
        /// From the start of the step.
        within "within": Duration, optional;
        /// What is compared.
        compare "compare": List<Compared>, default "[routes, paths, sessions]", "drill file";
    }
}

raw! {
    /// Bounds on what a circuit's limiters drop.
    struct LimiterDrops {
        /// A circuit, or one link of it.
        at "at": Text, required;
        /// At least, packets.
        min "min": Int<0, { u64::MAX }>, optional;
        /// At most, packets.
        max "max": Int<0, { u64::MAX }>, optional;
    }
}

raw! {
    /// Bounds on what arrives: IP bytes of probes, payload of TCP, all flows together.
    struct Throughput {
        /// Name of the traffic.
        of "of": Name, required;
        /// Which way; every way the traffic goes when left out.
        direction "direction": Directions, optional;
        /// At least.
        min "min": Bandwidth, optional;
        /// At most.
        max "max": Bandwidth, optional;
        /// In every span of this length; over the whole step when left out.
        per "per": Duration, optional;
    }
}

raw! {
    /// Bounds on what TCP connections suffer.
    struct Tcp {
        /// Name of the traffic, of kind tcp.
        of "of": Name, required;
        /// Connections reset, at most.
        resets "resets": Int<0, { u64::MAX }>, optional;
        /// The longest time in which a connection gets nothing through, at most.
        longest_stall "longestStall": Duration, optional;
        /// Segments sent again, at most: a number, or a share of those sent.
        retransmitted "retransmitted": Amount, optional;
    }
}

raw! {
    /// Both directions of every conversation take the same link.
    struct Symmetric {
        /// Name of the traffic.
        of "of": Name, required;
    }
}

raw! {
    /// What must not be seen at a place.
    struct Isolated {
        /// A place: circuit/link, with :access, :nni or :core.
        capture "capture": Text, required;
        /// One address block or a list: packets with an address in one of them count.
        contains "containsPrefixes": OneOrMany<Prefix>, required;
        /// At most.
        packets "packets": Int<0, { u64::MAX }>, default "0", "drill file";
    }
}

raw! {
    /// Bounds on the prefixes an MSEE has from a customer.
    struct PrefixesReceived {
        /// circuit/link.
        session "session": Text, required;
        /// At least.
        min "min": Int<0, { u64::MAX }>, optional;
        /// At most.
        max "max": Int<0, { u64::MAX }>, optional;
        /// At most this share of the circuit's limit.
        of_limit "ofLimit": Percent, optional;
    }
}

/// Writes an enum over the tables of a closed list of kinds, each with its word.
macro_rules! kinds {
    ($(#[doc = $doc:literal])* enum $name:ident, word $word:ident {
        $( $(#[doc = $kind_doc:literal])* $text:literal $variant:ident($table:ident), )*
    }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug)]
        pub enum $name { $( $(#[doc = $kind_doc])* $variant(Box<$table>), )* }

        $(#[doc = $doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $word { $( $variant, )* }

        impl $word {
            const WORDS: &'static [(&'static str, Self)] = &[$(($text, Self::$variant)),*];

            fn keys(self) -> &'static [Key] {
                match self { $( Self::$variant => $table::KEYS, )* }
            }

            fn doc(self) -> &'static str {
                match self { $( Self::$variant => concat!($($kind_doc),*), )* }
            }

            fn take(self, entries: &[Entry], spot: Spot, reader: &mut Reader) -> $name {
                match self { $( Self::$variant => $name::$variant(Box::new($table::take(entries, spot, reader))), )* }
            }
        }

        impl $name {
            fn shown(&self, files: &[PathBuf]) -> Vec<Shown> {
                match self { $( Self::$variant(table) => table.shown(files), )* }
            }
        }

        impl Leaf for $word {
            const EXPECTED: &'static str = concat!("one of:" $(, " ", $text)*);

            fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
                word(&scalar.text, Self::WORDS)
            }

            fn text(&self) -> String {
                self.name().to_owned()
            }

            fn schema() -> JsonValue {
                json!({ "enum": [$($text),*] })
            }
        }

        impl $word {
            pub fn name(self) -> &'static str {
                match self { $( Self::$variant => $text, )* }
            }
        }
    };
}

kinds! {
    /// What a traffic entry's flows are made of.
    enum TrafficKind, word KindName {
        /// Numbered packets at an even rate, between a host of a site and a host of a VNet.
        "probe" Probe(Probe),
        /// Connections over which `from` sends to `to`.
        "tcp" Tcp(TcpFlows),
    }
}

kinds! {
    /// What a step does.
    enum Event, word EventName {
        /// Cuts the segment; carrier goes at both ends of it.
        "cut" Cut(Places),
        /// Packets vanish, carrier stays.
        "blackhole" Blackhole(Blackhole),
        /// Loses, delays or slows packets.
        "impair" Impair(Impair),
        /// Closes a session and keeps it closed.
        "bgp-shutdown" BgpShutdown(Sessions),
        /// Closes a session once.
        "bgp-reset" BgpReset(Sessions),
        /// Ends the BFD beside a session.
        "bfd-disable" BfdDisable(Sessions),
        /// A router is gone without a word.
        "router-crash" RouterCrash(Nodes),
        /// A router starts again with nothing learned.
        "router-restart" RouterRestart(Nodes),
        /// Microsoft's maintenance of a link.
        "maintenance" Maintenance(Maintenance),
        /// The operator disables a peering.
        "peering-disable" PeeringDisable(Switch),
        /// The operator enables a peering.
        "peering-enable" PeeringEnable(Switch),
        /// A larger circuit.
        "bandwidth" Bandwidth(MoreBandwidth),
        /// A site's router announces more.
        "announce" Announce(Announcement),
        /// A site's router announces less.
        "withdraw" Withdraw(Announcement),
        /// A router's control process dies; forwarding and BFD go on.
        "control-kill" ControlKill(Nodes),
        /// Another device takes a site's router's place.
        "replace-device" ReplaceDevice(Replacement),
        /// The provider's own throttle.
        "provider-rate" ProviderRate(ProviderRate),
        /// Undoes what earlier steps did.
        "restore" Restore(Restore),
    }
}

kinds! {
    /// What an expectation looks at.
    enum Form, word FormName {
        /// The longest time without a packet, per flow.
        "outage" Outage(Outage),
        /// Packets lost.
        "lost" Lost(Lost),
        /// Flows that lost a packet.
        "flows-hit" FlowsHit(FlowsHit),
        /// Where packets go.
        "path" Path(Path),
        /// A route in a router's table.
        "route" Route(Route),
        /// A route that is not there.
        "no-route" NoRoute(NoRoute),
        /// State of a BGP session.
        "session" Session(Session),
        /// What happened in which order.
        "cause-order" CauseOrder(CauseOrder),
        /// Everything is as before the first event.
        "back-to-baseline" BackToBaseline(BackToBaseline),
        /// What a circuit's limiters dropped.
        "limiter-drops" LimiterDrops(LimiterDrops),
        /// What arrives.
        "throughput" Throughput(Throughput),
        /// What TCP connections suffer.
        "tcp" Tcp(Tcp),
        /// Both directions of every conversation take the same link.
        "symmetric" Symmetric(Symmetric),
        /// What must not be seen at a place.
        "isolated" Isolated(Isolated),
        /// Prefixes an MSEE has from a customer.
        "prefixes-received" PrefixesReceived(PrefixesReceived),
    }
}

/// A traffic entry: its own keys and its kind's.
#[derive(Clone, Debug)]
pub struct Traffic {
    pub keys: TrafficKeys,
    /// None: one that is not known.
    pub kind: Option<TrafficKind>,
}

/// A step: its own keys and its event's.
#[derive(Clone, Debug)]
pub struct Step {
    pub here: At,
    pub keys: StepKeys,
    /// None: no event, or one that is not known.
    pub event: Option<Event>,
}

/// An expectation: its own keys and its form's.
#[derive(Clone, Debug)]
pub struct Expectation {
    pub here: At,
    pub keys: ExpectationKeys,
    pub form: Option<Form>,
}

impl Raw for Traffic {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let entries = reader.map(node, "name, kind, from, to and the kind's keys")?;
        let keys = TrafficKeys::take(entries, node.spot, reader);
        let kind = keys.kind.get().copied();
        let own = kind.map_or(&[][..], KindName::keys);
        let takers = KindName::WORDS.iter().map(|(name, kind)| (*name, kind.keys()));
        let name = kind.map(KindName::name);
        extra_keys(entries, TrafficKeys::KEYS, own, name, kind.is_none(), takers, reader);
        let kind = kind.map(|kind| kind.take(entries, node.spot, reader));
        Some(Self { keys, kind })
    }

    fn schema() -> JsonValue {
        let own = KindName::WORDS.iter().map(|(name, kind)| (*name, kind.doc(), kind.keys()));
        json!({ "oneOf": kinds_schema("kind", TrafficKeys::KEYS, own) })
    }

    fn inline(&self) -> Option<String> {
        None
    }

    fn block(&self, files: &[PathBuf]) -> Vec<String> {
        let own = self.kind.as_ref().map(|kind| kind.shown(files)).unwrap_or_default();
        table_block(self.keys.shown(files).into_iter().chain(own).collect(), files)
    }
}

impl Raw for Step {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let entries = reader.map(node, "step, do, for, until, within and the event's keys")?;
        let keys = StepKeys::take(entries, node.spot, reader);
        let kind = keys.does.get().copied();
        let own = kind.map_or(&[][..], EventName::keys);
        let takers = EventName::WORDS.iter().map(|(name, kind)| (*name, kind.keys()));
        let unclear = keys.does.origin == Origin::Wrong;
        extra_keys(
            entries,
            StepKeys::KEYS,
            own,
            kind.map(EventName::name),
            unclear,
            takers,
            reader,
        );
        let event = kind.map(|kind| kind.take(entries, node.spot, reader));
        Some(Self { here: reader.at(node.spot), keys, event })
    }

    fn schema() -> JsonValue {
        let own = EventName::WORDS.iter().map(|(name, kind)| (*name, kind.doc(), kind.keys()));
        let mut kinds = kinds_schema("do", StepKeys::KEYS, own);
        let plain: Vec<_> = StepKeys::KEYS.iter().filter(|key| key.name != "do").collect();
        kinds.push(table_schema("Only waits.", &plain, false));
        json!({ "oneOf": kinds })
    }

    fn inline(&self) -> Option<String> {
        None
    }

    fn block(&self, files: &[PathBuf]) -> Vec<String> {
        let own = self.event.as_ref().map(|event| event.shown(files)).unwrap_or_default();
        table_block(self.keys.shown(files).into_iter().chain(own).collect(), files)
    }
}

impl Raw for Expectation {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let entries = reader.map(node, "that, during, after, in and the form's keys")?;
        let keys = ExpectationKeys::take(entries, node.spot, reader);
        let kind = keys.that.get().copied();
        let own = kind.map_or(&[][..], FormName::keys);
        let takers = FormName::WORDS.iter().map(|(name, kind)| (*name, kind.keys()));
        let name = kind.map(FormName::name);
        extra_keys(entries, ExpectationKeys::KEYS, own, name, kind.is_none(), takers, reader);
        let form = kind.map(|kind| kind.take(entries, node.spot, reader));
        Some(Self { here: reader.at(node.spot), keys, form })
    }

    fn schema() -> JsonValue {
        let own = FormName::WORDS.iter().map(|(name, kind)| (*name, kind.doc(), kind.keys()));
        json!({ "oneOf": kinds_schema("that", ExpectationKeys::KEYS, own) })
    }

    fn inline(&self) -> Option<String> {
        None
    }

    fn block(&self, files: &[PathBuf]) -> Vec<String> {
        let own = self.form.as_ref().map(|form| form.shown(files)).unwrap_or_default();
        table_block(self.keys.shown(files).into_iter().chain(own).collect(), files)
    }
}

impl Expectation {
    /// In one line: `outage of erp, direction to-azure, during site-loss, max 2s`.
    pub fn line(&self) -> String {
        let form = self.keys.that.get().map_or("", |that| that.name());
        let own = self.form.as_ref().map(|form| form.shown(&[])).unwrap_or_default();
        let common = self.keys.shown(&[]).into_iter().filter(|shown| shown.key != "that");
        let said = |shown: &Shown| shown.origin == Origin::Given;
        let parts = own.into_iter().chain(common).filter(said);
        let parts: Vec<_> = parts
            .map(|shown| format!("{} {}", shown.key, shown.inline.unwrap_or_default()))
            .collect();
        format!("{form} {}", parts.join(", ")).trim_end().to_owned()
    }
}

/// Reports keys that neither all of a list's entries nor this kind of them take.
fn extra_keys(
    entries: &[Entry],
    common: &[Key],
    own: &[Key],
    kind: Option<&str>,
    unclear: bool,
    takers: impl Iterator<Item = (&'static str, &'static [Key])>,
    reader: &mut Reader,
) {
    let known = [key_names(common), key_names(own)].concat();
    let takers: Vec<_> = takers.collect();
    for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
        let takes = |keys: &[Key]| keys.iter().any(|key| key.name == entry.key);
        let by: Vec<_> =
            takers.iter().filter(|(_, keys)| takes(keys)).map(|(name, _)| *name).collect();
        match kind {
            // What kind it should have been is reported; its keys may be right.
            None if unclear && !by.is_empty() => {}
            None if by.is_empty() => reader.unknown_key(entry, &known),
            None => reader.refuse_here(
                entry.spot,
                format!("`{}` without an event", entry.key),
                format!("do: {}", by.join(", ")),
            ),
            Some(_) if by.is_empty() => reader.unknown_key(entry, &known),
            Some(kind) => reader.refuse_here(
                entry.spot,
                format!("`{kind}` does not take `{}`", entry.key),
                match (kind, entry.key.as_str()) {
                    ("tcp", "directions") => {
                        "from and to: data goes that way; another entry for the other way"
                            .to_owned()
                    }
                    // What a file below says of another kind.
                    (_, key) if entry.spot.file > 0 => {
                        let takes = key_names(own).join(", ");
                        format!("`{kind}` takes {takes}; `{key}: null` takes it from this file")
                    }
                    _ => format!("`{kind}` takes {}", key_names(own).join(", ")),
                },
            ),
        }
    }
}

fn kinds_schema(
    discriminator: &str,
    common: &'static [Key],
    kinds: impl Iterator<Item = (&'static str, &'static str, &'static [Key])>,
) -> Vec<JsonValue> {
    let one = |(name, doc, own): (&'static str, &str, &'static [Key])| {
        let keys: Vec<_> = common.iter().chain(own).collect();
        let mut schema = table_schema(doc, &keys, false);
        schema["properties"][discriminator] = json!({ "const": name });
        let is_default =
            |key: &Key| key.name == discriminator && key.presence == Presence::Default(name);
        if common.iter().any(is_default) {
            return schema;
        }
        if let Some(required) = schema["required"].as_array_mut()
            && !required.contains(&json!(discriminator))
        {
            required.push(json!(discriminator));
        }
        schema
    };
    kinds.map(one).collect()
}

/// `until` of a step.
#[derive(Clone, Debug)]
pub enum Until {
    Converged,
    Map(Box<UntilMap>),
}

raw! {
    /// Until nothing changed for a time, or a session has a state.
    struct UntilMap {
        /// Nothing changed for this long.
        stable "stable": Duration, optional;
        /// circuit/link, or router>router.
        session "session": Text, optional;
        /// Of the session.
        state "state": SessionState, optional;
    }
}

impl Raw for Until {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        match &node.value {
            Value::Scalar(_) => Converged::read(node, reader).map(|_| Self::Converged),
            Value::List(_) | Value::Map(_) => {
                read_table(node, reader).map(|map| Self::Map(Box::new(map)))
            }
        }
    }

    fn schema() -> JsonValue {
        json!({ "oneOf": [<Converged as Raw>::schema(), UntilMap::schema()] })
    }

    fn inline(&self) -> Option<String> {
        let Self::Map(map) = self else { return Converged.inline() };
        let parts: Vec<_> = map
            .shown(&[])
            .into_iter()
            .filter_map(|shown| Some(format!("{}: {}", shown.key, shown.inline?)))
            .collect();
        Some(format!("{{ {} }}", parts.join(", ")))
    }
}

impl Announcement {
    /// `prefix` and `prefixes` together.
    pub fn all(&self) -> Vec<&Field<Prefix>> {
        let lists = [self.prefix.get(), self.prefixes.get()];
        lists.into_iter().flatten().flat_map(|many| &many.0).collect()
    }
}
