//! The keys of a lab file.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as JsonValue, json};

use crate::config::lab::{BillingFamily, GatewaySku, PeeringType, Tier, Uni};
use crate::config::raw::{
    CustomerAsn, ExpressRouteType, Field, FilePath, Ideal, Int, LadderMbps, LinkSubnet, List, Name,
    OneOrMany, PeeringState, Profile, Raw, Reader, RouterKindWord, SharedKey, Text, raw,
};
use crate::config::tree::{Node, Value};
use crate::model::{FlowHash, GracefulRestart, LinkRole, Prefix, VlanId};

raw! {
    /// A lab: circuits, the sites and virtual networks they join.
    struct Lab {
        /// A lab file, relative to this one, that this one adds to and changes.
        extends "extends": FilePath, optional, "lab file";
        /// What reports call the lab.
        name "name": Text, optional, "file name";
        /// All randomness of a run comes from it.
        seed "seed": Int<0, { u64::MAX }>, default "1", "lab file";
        /// The dated set of behaviour defaults.
        profile "profile": Profile, default "documented-2026", "section 20";
        /// Whether both directions of a conversation choose the same of equal paths.
        hash "hash": FlowHash, default "asymmetric", "section 20";
        /// ExpressRoute circuits.
        circuits "circuits": List<Circuit>, required;
        /// On-premises sites.
        sites "sites": List<Site>, required;
        /// VNets.
        virtual_networks "virtualNetworks": List<VirtualNetwork>, required;
    }
}

raw! {
    /// An ExpressRoute circuit of a provider.
    struct Circuit, azure {
        /// Name of the circuit.
        name "name": Name, required;
        /// Provider, place and bandwidth.
        service_provider "serviceProviderProperties": ServiceProvider, required;
        /// Tier and billing.
        sku "sku": Sku, default "{}";
        /// Outer tag; allocated from 2 upward when left out.
        stag "stag": VlanId, optional, "section 20";
        /// The provider's cross-connect.
        provider "provider": Provider, default "{}";
        /// The MSEE's limiter.
        limiter "limiter": Limiter, default "{}";
        /// At most one of each type.
        peerings "peerings": List<Peering>, default "[]";
    }
}

raw! {
    /// Provider, place and bandwidth of a circuit.
    struct ServiceProvider, azure {
        /// The provider's name.
        name "serviceProviderName": Text, default "Provider", "lab file";
        /// Circuits of one location share its MSEEs.
        location "peeringLocation": Text, required;
        /// Of each link, in each direction.
        bandwidth "bandwidthInMbps": LadderMbps, required, "L-01";
    }
}

raw! {
    /// Tier and billing of a circuit.
    struct Sku, azure {
        /// How far the circuit reaches.
        tier "tier": Tier, default "Standard", "lab file";
        /// How traffic is billed.
        family "family": BillingFamily, default "MeteredData", "lab file";
    }
}

raw! {
    /// The provider's cross-connect between customer and MSEE.
    struct Provider {
        /// How the circuit is handed to the customer.
        uni "uni": Uni, default "dot1q", "lab file";
        /// Largest IP packet carried, bytes.
        mtu "mtu": Int<1280, 9216>, default "1500", "L-26";
        /// One way.
        delay "delay": Duration, default "1ms", "lab file";
        /// Whether a port down on one side takes the other side's port down.
        carrier_follows "carrierFollows": bool, default "false", "lab file";
        /// The provider's own limiter, each direction; none when left out.
        rate "rateInMbps": Int<1, 400_000>, optional, "section 20";
        /// Of the provider's own limiter.
        burst "burst": Duration, optional, "lab file";
        /// Whether the provider's limiter also charges ARP, BFD and BGP.
        polices_control "policesControl": bool, optional, "section 20";
    }
}

raw! {
    /// The MSEE's limiter, one bucket a link and direction.
    struct Limiter {
        /// How long a burst at unlimited speed passes.
        burst "burst": Duration, default "5ms", "section 20";
        /// The same towards Azure only.
        burst_to_azure "burstToAzure": Duration, optional, "limiter.burst";
        /// The same towards the customer only.
        burst_to_onprem "burstToOnprem": Duration, optional, "limiter.burst";
    }
}

raw! {
    /// A peering of a circuit: a VLAN and a BGP session on each link.
    struct Peering, azure {
        /// Private peering.
        peering_type "peeringType": PeeringType, required;
        /// ASN of the customer's side, asplain.
        peer_asn "peerASN": CustomerAsn, required, "L-09";
        /// Inner tag, the same on both links.
        vlan "vlanId": VlanId, required, "section 20";
        /// TCP-MD5 key.
        shared_key "sharedKey": SharedKey, optional, "L-23";
        /// IPv4 subnet of the primary link.
        primary "primaryPeerAddressPrefix": LinkSubnet<false>, optional, "L-22";
        /// IPv4 subnet of the secondary link.
        secondary "secondaryPeerAddressPrefix": LinkSubnet<false>, optional, "L-22";
        /// IPv6 subnets of the links.
        ipv6 "ipv6PeeringConfig": Ipv6Peering, optional, "section 6.1";
        /// Disabled shuts the sessions of both links.
        state "state": PeeringState, default "Enabled", "section 2.3";
        /// BFD on the MSEEs.
        bfd "bfd": Bfd, default "{}";
        /// Restarts of a control process (RFC 4724), on the MSEEs and behind them: off, helper keeps the routes of a neighbour that starts again, full also asks it to.
        graceful_restart "gracefulRestart": GracefulRestart, default "off", "section 20";
    }
}

raw! {
    /// IPv6 of a peering.
    struct Ipv6Peering, azure {
        /// IPv6 subnet of the primary link.
        primary "primaryPeerAddressPrefix": LinkSubnet<true>, required, "L-22";
        /// IPv6 subnet of the secondary link.
        secondary "secondaryPeerAddressPrefix": LinkSubnet<true>, required, "L-22";
        /// Disabled shuts the IPv6 sessions of both links.
        state "state": PeeringState, default "Enabled", "section 6.4";
    }
}

raw! {
    /// Bidirectional forwarding detection.
    struct Bfd {
        /// Whether there is a BFD session beside each BGP session.
        enabled "enabled": bool, default "true", "section 6.3";
        /// Between two packets, both ways.
        interval "interval": Duration, default "300ms", "L-12";
        /// Packets that may be missing before the session is down.
        multiplier "multiplier": Int<1, 255>, default "3", "L-12";
    }
}

raw! {
    /// An on-premises site.
    struct Site {
        /// Name of the site.
        name "name": Name, required;
        /// Of its routers, asplain.
        asn "asn": CustomerAsn, required, "L-09";
        /// Networks with hosts.
        networks "networks": List<Network>, default "[]", "lab file";
        /// Its routers; with one, that is CE and core at once.
        routers "routers": List<SiteRouter>, required;
    }
}

raw! {
    /// A network of a site, announced to Azure.
    struct Network {
        /// Name of the network.
        name "name": Name, required;
        /// IPv4 or IPv6.
        prefix "prefix": Prefix, required;
        /// Address of the router that its hosts send to; the first when left out.
        gateway "gateway": IpAddr, optional, "lab file";
        /// One named after the network, at the tenth address, when left out.
        hosts "hosts": List<SiteHost>, optional, "lab file";
    }
}

raw! {
    /// A host of a site's network.
    struct SiteHost {
        /// Name of the host, unique in the site.
        name "name": Name, required;
        /// Inside the network.
        address "address": IpAddr, required;
    }
}

raw! {
    /// A router of a site.
    struct SiteRouter {
        /// Name of the router, unique in the lab.
        name "name": Name, required;
        /// Built into the program, run beside it, or attached.
        kind "kind": RouterKindWord, default "built-in", "lab file";
        /// Configuration file of an frr or bird router; generated when left out.
        config "config": FilePath, optional;
        /// Where the ports of an attached router are; one or several.
        attach "attach": OneOrMany<Attach>, optional;
        /// Its ports on links of circuits.
        uplinks "uplinks": List<Uplink>, default "[]", "lab file";
        /// What it prefers and how it announces, on every uplink.
        policy "policy": Policy, default "{}";
        /// Networks whose hosts send to it; all of the site's when it is the only router.
        gateway_of "gatewayOf": List<Name>, optional, "lab file";
        /// Routers of the site it speaks iBGP with; one side is enough.
        ibgp "ibgp": List<Name>, optional, "lab file";
        /// Prefixes it announces beside its networks; it drops what comes for them.
        originates "originates": List<Originates>, default "[]", "lab file";
        /// BFD on its uplinks.
        bfd "bfd": Bfd, default "{}";
        /// BGP hold time it offers; the lower of both sides counts.
        hold_time "holdTime": Duration, default "180s", "L-11";
    }
}

raw! {
    /// Prefixes without hosts that a router announces.
    struct Originates {
        /// The first of them.
        prefix "prefix": Prefix, required;
        /// How many blocks of that size, one behind the other.
        count "count": Int<1, 100_000>, default "1", "lab file";
    }
}

raw! {
    /// A port of a router on one link of a circuit.
    struct Uplink {
        /// Name of the circuit.
        circuit "circuit": Name, required;
        /// primary or secondary.
        link "link": LinkRole, required;
        /// Name of the port; numbered when left out.
        port "port": Name, optional, "lab file";
        /// Inner tag as the router is configured, where that differs from the circuit.
        vlan "vlanId": VlanId, optional, "lab file";
        /// The router's own addresses on the link, where they differ from the circuit's; one of each family.
        address "address": OneOrMany<IpAddr>, optional, "lab file";
        /// TCP-MD5 key of the router, where it differs from the circuit's; "" for none.
        shared_key "sharedKey": OwnKey, optional, "lab file";
        /// Whether the router insists on TTL 255 and sends it (RFC 5082), which an MSEE does not.
        ttl_security "ttlSecurity": bool, default "false", "section 20";
    }
}

raw! {
    /// Routing policy of a router towards Microsoft.
    struct Policy {
        /// How it announces.
        export "export": Export, default "{}";
        /// What it prefers.
        import "import": Import, default "{}";
    }
}

raw! {
    /// How a router announces.
    struct Export {
        /// How often its own ASN is put in front again.
        prepend "prepend": Int<0, 64>, default "0", "lab file";
    }
}

raw! {
    /// What a router prefers.
    struct Import {
        /// Given to every route learned on an uplink.
        local_preference "localPreference": Int<0, 4_294_967_295>, default "100", "section 7.4";
    }
}

raw! {
    /// Where a port of an attached router is: exactly one of port, network, router.
    struct Attach {
        /// The port of an uplink.
        port "port": Name, optional;
        /// The network of the site that the router has on the port; the lab's hosts of it are there.
        network "network": Name, optional;
        /// The built-in router of the site that it speaks iBGP with on the port.
        router "router": Name, optional;
        /// One of interface, netns and name, or udp.
        link "as": AttachAs, required;
    }
}

raw! {
    /// The link of an attached router: exactly one of interface, netns, udp.
    struct AttachAs {
        /// A network interface of this host.
        interface "interface": Text, optional;
        /// A network namespace, by name or process.
        netns "netns": Text, optional;
        /// The interface in the namespace.
        name "name": Text, optional;
        /// One Ethernet frame a datagram.
        udp "udp": Udp, optional;
    }
}

raw! {
    /// A UDP link.
    struct Udp {
        /// Own endpoint.
        listen "listen": SocketAddr, required;
        /// The other's endpoint.
        peer "peer": SocketAddr, required;
    }
}

raw! {
    /// A VNet.
    struct VirtualNetwork, azure {
        /// Name of the VNet.
        name "name": Name, required;
        /// Azure region.
        location "location": Text, default "westeurope", "lab file";
        /// Address space, IPv4 and IPv6.
        address_prefixes "addressPrefixes": List<Prefix>, required;
        /// One named app, at the fourth address of each family, when left out.
        hosts "hosts": List<VnetHost>, optional, "lab file";
        /// At most one ExpressRoute gateway.
        gateways "gateways": List<Gateway>, default "[]", "lab file";
        /// How long Azure takes to reprogram the VMs' hosts; or the word ideal.
        convergence "convergence": Convergence, default "{}", "section 20";
    }
}

raw! {
    /// A host of a VNet.
    struct VnetHost {
        /// Name of the host.
        name "name": Name, required;
        /// Inside the VNet.
        address "address": IpAddr, optional;
        /// Instead of address: one of each family.
        addresses "addresses": OneOrMany<IpAddr>, optional;
    }
}

raw! {
    /// An ExpressRoute gateway.
    struct Gateway, azure {
        /// Name of the gateway.
        name "name": Name, required;
        /// ExpressRoute.
        gateway_type "gatewayType": ExpressRouteType, default "ExpressRoute", "lab file";
        /// A name of table 9.2.
        sku "sku": SkuName, default "ErGw1AZ", "lab file";
        /// Of an ErGwScale gateway; one when left out.
        scale_units "scaleUnits": Int<1, 40>, optional, "L-31";
        /// Circuits it is connected to.
        connections "connections": List<Connection>, default "[]", "lab file";
    }
}

raw! {
    /// A gateway's connection to a circuit.
    struct Connection, azure {
        /// Name of the circuit.
        circuit "circuit": Name, required;
        /// Highest wins, before the AS path is looked at.
        routing_weight "routingWeight": Int<0, 32000>, default "0", "L-25";
    }
}

raw! {
    /// How long Azure takes to reprogram the VMs' hosts.
    struct ConvergenceTimes {
        /// After a route is gone.
        on_withdraw "onWithdraw": Spread, default "{}", "section 20";
        /// After a route is there.
        on_announce "onAnnounce": Spread, default "{}", "section 20";
    }
}

raw! {
    /// A spread of durations.
    struct Spread {
        /// The median.
        p50 "p50": Duration, default "3s", "section 20";
        /// The most.
        max "max": Duration, default "60s", "section 14.3";
    }
}

/// `sku` of a gateway: a name, or a map with a name as Azure prints it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SkuName(pub GatewaySku);

raw! {
    /// SKU of a gateway as Azure prints it.
    struct SkuMap, azure {
        /// A name of table 9.2.
        sku "name": GatewaySku, required;
        /// Azure's; ignored.
        tier "tier": Text, optional;
        /// Azure's; ignored.
        capacity "capacity": Int<0, 1000>, optional;
    }
}

impl Raw for SkuName {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            return SkuMap::read(node, reader)?.sku.value.map(Self);
        }
        GatewaySku::read(node, reader).map(Self)
    }

    fn schema() -> JsonValue {
        json!({ "oneOf": [<GatewaySku as Raw>::schema(), SkuMap::schema()] })
    }

    fn inline(&self) -> Option<String> {
        self.0.inline()
    }
}

/// Times, or the word `ideal` for none at all.
#[derive(Clone, Debug)]
pub enum Convergence {
    Ideal,
    Times(Box<ConvergenceTimes>),
}

impl Raw for Convergence {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        match &node.value {
            Value::Scalar(_) => Ideal::read(node, reader).map(|_| Self::Ideal),
            Value::List(_) | Value::Map(_) => {
                ConvergenceTimes::read(node, reader).map(|times| Self::Times(Box::new(times)))
            }
        }
    }

    fn schema() -> JsonValue {
        json!({ "oneOf": [<Ideal as Raw>::schema(), ConvergenceTimes::schema()] })
    }

    fn inline(&self) -> Option<String> {
        match self {
            Self::Ideal => Ideal.inline(),
            Self::Times(_) => None,
        }
    }

    fn block(&self, files: &[PathBuf]) -> Vec<String> {
        match self {
            Self::Ideal => Ideal.block(files),
            Self::Times(times) => times.block(files),
        }
    }
}

/// A key as a router has it, or an empty text for none.
#[derive(Clone, Debug)]
pub struct OwnKey(pub Option<SharedKey>);

impl Raw for OwnKey {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        match &node.value {
            Value::Scalar(scalar) if scalar.text.is_empty() && !scalar.plain => Some(Self(None)),
            _ => SharedKey::read(node, reader).map(|key| Self(Some(key))),
        }
    }

    fn schema() -> JsonValue {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9]{0,25}$" })
    }

    fn inline(&self) -> Option<String> {
        self.0.as_ref().map_or_else(|| Some("\"\"".to_owned()), Raw::inline)
    }
}

impl VnetHost {
    /// `address` and `addresses` together.
    pub fn all(&self) -> Vec<&Field<IpAddr>> {
        let many = self.addresses.get().into_iter().flat_map(|many| &many.0);
        std::iter::once(&self.address).chain(many).filter(|field| field.value.is_some()).collect()
    }
}
