//! A lab that can be built: every value checked, every default filled in, every name known.
//!
//! Only `config::load_lab` makes a [`Lab`]. Who holds one looks things up and never checks again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::model::{
    Asn, Bandwidth, ConvergenceDelay, ExportPolicy, FlowHash, GracefulRestart, ImportPolicy,
    LinkRole, Prefix, VlanId,
};

/// Everything a lab file says, and what it leaves to defaults.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lab {
    pub name: String,
    /// All randomness of a run comes from it.
    pub seed: u64,
    /// The dated set of behaviour defaults.
    pub profile: String,
    pub hash: FlowHash,
    pub circuits: Vec<Circuit>,
    pub sites: Vec<Site>,
    pub virtual_networks: Vec<VirtualNetwork>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Circuit {
    pub name: String,
    pub service_provider: String,
    /// Circuits of one location share its pair of MSEEs.
    pub peering_location: String,
    /// Each link may carry it, in each direction (L-06).
    pub bandwidth: Bandwidth,
    pub tier: Tier,
    pub family: BillingFamily,
    /// Outer tag; unique among the circuits of a location.
    pub stag: VlanId,
    pub provider: Provider,
    pub limiter: LimiterBurst,
    pub peerings: Vec<Peering>,
}

/// How far a circuit reaches and how much it carries (3.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Tier {
    Local,
    Standard,
    Premium,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum BillingFamily {
    MeteredData,
    UnlimitedData,
}

/// The layer-2 cross-connect between a customer's port and the MSEE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Provider {
    pub uni: Uni,
    /// Largest IP packet it carries, bytes.
    pub mtu: u16,
    /// One way.
    pub delay: Duration,
    /// Whether a port that goes down on one side takes the other side's port down.
    pub carrier_follows: bool,
    /// Its own limiter, each direction; none unless the file gives a rate.
    pub policer: Option<Policer>,
}

/// How the provider hands a circuit to the customer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Uni {
    /// One peering, no tag.
    Untagged,
    /// The inner tag (`vlanId`) of each peering.
    Dot1q,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policer {
    pub rate: Bandwidth,
    pub burst: Duration,
    /// Whether ARP, BFD and BGP are charged as well.
    pub polices_control: bool,
}

impl Policer {
    /// Where nothing is said.
    pub const BURST: Duration = Duration::from_millis(10);
}

/// How long a burst at unlimited speed passes the MSEE's limiter, per direction (section 20).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LimiterBurst {
    pub to_azure: Duration,
    pub to_onprem: Duration,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peering {
    pub peering_type: PeeringType,
    pub peer_asn: Asn,
    /// Inner tag, the same on both links; unique in the circuit.
    pub vlan: VlanId,
    /// TCP-MD5 key (L-23).
    pub shared_key: Option<String>,
    /// At least one of the families is there.
    pub ipv4: Option<LinkSubnets>,
    pub ipv6: Option<LinkSubnets>,
    pub bfd: BfdTimers,
    /// On the MSEEs, and on the gateways and VNets behind them.
    pub graceful_restart: GracefulRestart,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PeeringType {
    AzurePrivatePeering,
}

/// The subnet of each link: two /30, or two /126 (L-22).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkSubnets {
    pub primary: Prefix,
    pub secondary: Prefix,
    /// The operator's switch: of the peering, and of the family.
    pub enabled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BfdTimers {
    pub enabled: bool,
    /// Between two packets, both ways (L-12).
    pub interval: Duration,
    pub multiplier: u8,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Site {
    pub name: String,
    pub asn: Asn,
    pub networks: Vec<Network>,
    pub routers: Vec<SiteRouter>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Network {
    pub name: String,
    pub prefix: Prefix,
    /// Address of the router that its hosts send to.
    pub gateway: IpAddr,
    pub hosts: Vec<Host>,
}

/// An end of the lab's traffic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    pub name: String,
    /// At least one; at most one of each family.
    pub addresses: Vec<IpAddr>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SiteRouter {
    /// Unique in the lab.
    pub name: String,
    pub kind: RouterKind,
    /// Configuration file of an external router, as written; left out: generated.
    pub config: Option<String>,
    pub uplinks: Vec<Uplink>,
    /// Towards every MSEE.
    pub import: ImportPolicy,
    pub export: ExportPolicy,
    /// Names of the site's networks whose hosts send to this router.
    pub gateway_of: Vec<String>,
    /// Names of the site's routers it speaks iBGP with. Symmetric, in the order of the file.
    pub ibgp: Vec<String>,
    /// Announced beside the networks; what comes for them is dropped.
    pub originates: Vec<Originates>,
    pub bfd: BfdTimers,
    /// BGP hold time it offers.
    pub hold: Duration,
}

/// Consecutive blocks of one size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Originates {
    pub first: Prefix,
    /// At least one.
    pub count: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouterKind {
    BuiltIn,
    Frr,
    Bird,
    /// A router of the user's own on real links, one for each of its ports.
    Attach(Vec<Attach>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attach {
    pub end: AttachEnd,
    pub link: AttachLink,
}

/// What an attached router has on a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AttachEnd {
    /// The link of the uplink on the port of that name.
    Uplink(String),
    /// Hosts of that network of its site.
    Network(String),
    /// That router of its site.
    Router(String),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AttachLink {
    Interface(String),
    Netns { namespace: String, name: String },
    Udp { listen: std::net::SocketAddr, peer: std::net::SocketAddr },
}

impl std::fmt::Display for AttachLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Interface(name) => write!(f, "interface {name}"),
            Self::Netns { namespace, name } => {
                write!(f, "interface {name} of network namespace {namespace}")
            }
            Self::Udp { listen, peer } => write!(f, "UDP {listen}, peer {peer}"),
        }
    }
}

/// A port of a site's router on one link of a circuit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Uplink {
    pub circuit: String,
    pub link: LinkRole,
    pub port: String,
    pub own: Deviation,
}

/// What a router has configured on an uplink where that differs from the circuit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Deviation {
    /// The tag it puts on its frames.
    pub vlan: Option<VlanId>,
    /// Its own addresses on the link, at most one of each family; its peer is then the other
    /// usable address of the same /30 or /126.
    pub addresses: Vec<IpAddr>,
    pub key: OwnKey,
    /// It sends TTL 255 and takes nothing less (RFC 5082).
    pub ttl_security: bool,
}

/// TCP-MD5 key of a router.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum OwnKey {
    #[default]
    AsPeering,
    None,
    Other(String),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VirtualNetwork {
    pub name: String,
    pub location: String,
    /// Address space, IPv4 and IPv6.
    pub address_prefixes: Vec<Prefix>,
    pub hosts: Vec<Host>,
    pub gateways: Vec<Gateway>,
    /// Azure's reprogramming of the VMs' hosts (section 20).
    pub convergence: ConvergenceDelay,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gateway {
    pub name: String,
    pub sku: GatewaySku,
    /// Units of an `ErGwScale` gateway; 1 for the others.
    pub scale_units: u8,
    pub connections: Vec<Connection>,
}

/// Names of table 9.2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum GatewaySku {
    Standard,
    HighPerformance,
    UltraPerformance,
    ErGw1AZ,
    ErGw2AZ,
    ErGw3AZ,
    ErGwScale,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connection {
    pub circuit: String,
    /// Highest wins, before the AS path is looked at (7.3, L-25).
    pub routing_weight: u16,
}

impl Lab {
    pub fn circuit(&self, name: &str) -> Option<&Circuit> {
        self.circuits.iter().find(|circuit| circuit.name == name)
    }

    pub fn site(&self, name: &str) -> Option<&Site> {
        self.sites.iter().find(|site| site.name == name)
    }

    pub fn virtual_network(&self, name: &str) -> Option<&VirtualNetwork> {
        self.virtual_networks.iter().find(|vnet| vnet.name == name)
    }

    /// A site's router by its name, which is unique in the lab, and its site.
    pub fn site_router(&self, name: &str) -> Option<(&Site, &SiteRouter)> {
        let routers = |site: &'_ Site| site.routers.iter().position(|router| router.name == name);
        self.sites.iter().find_map(|site| routers(site).map(|at| (site, &site.routers[at])))
    }

    /// The site's router on a link of a circuit.
    pub fn edge_of(&self, circuit: &str, link: LinkRole) -> Option<(&Site, &SiteRouter)> {
        self.sites.iter().find_map(|site| {
            let uplinked = |router: &&SiteRouter| router.uplink(circuit, link).is_some();
            site.routers.iter().find(uplinked).map(|router| (site, router))
        })
    }
}

impl Circuit {
    pub fn peering(&self, peering_type: PeeringType) -> Option<&Peering> {
        self.peerings.iter().find(|peering| peering.peering_type == peering_type)
    }

    /// Prefixes a session of private peering may bring (L-13, L-14).
    pub const fn prefix_limit(&self, ipv6: bool) -> u64 {
        match (self.tier, ipv6) {
            (_, true) => 100,
            (Tier::Local | Tier::Standard, false) => 4_000,
            (Tier::Premium, false) => 10_000,
        }
    }
}

impl LinkSubnets {
    pub const fn of(&self, link: LinkRole) -> Prefix {
        match link {
            LinkRole::Primary => self.primary,
            LinkRole::Secondary => self.secondary,
        }
    }

    /// The customer takes the first usable address of each subnet (6.1).
    pub fn customer(&self, link: LinkRole) -> IpAddr {
        address_at(self.of(link), 1).expect("a link's subnet has four addresses")
    }

    /// The customer's router as it is configured: its address, its peer's, and their subnet.
    pub fn configured(&self, uplink: &Uplink) -> (IpAddr, IpAddr, Prefix) {
        let circuits = self.of(uplink.link);
        let same_family = |own: &&IpAddr| own.is_ipv4() == circuits.addr().is_ipv4();
        let Some(&own) = uplink.own.addresses.iter().find(same_family) else {
            return (self.customer(uplink.link), self.microsoft(uplink.link), circuits);
        };
        let subnet = Prefix::new(own, circuits.prefix_len()).expect("of the same family").trunc();
        (own, link_peer(own, subnet).expect("a rule refuses any other address"), subnet)
    }

    /// Microsoft takes the second (6.1).
    pub fn microsoft(&self, link: LinkRole) -> IpAddr {
        address_at(self.of(link), 2).expect("a link's subnet has four addresses")
    }
}

impl PeeringType {
    pub const fn name(self) -> &'static str {
        match self {
            Self::AzurePrivatePeering => "AzurePrivatePeering",
        }
    }
}

impl Site {
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.name == name)
    }

    pub fn host(&self, name: &str) -> Option<(&Network, &Host)> {
        self.networks.iter().find_map(|network| {
            network.hosts.iter().find(|host| host.name == name).map(|host| (network, host))
        })
    }

    /// The router the hosts of a network send to.
    pub fn gateway_of(&self, network: &str) -> Option<&SiteRouter> {
        self.routers.iter().find(|router| router.gateway_of.iter().any(|name| name == network))
    }
}

impl Host {
    /// The host's address of the same family as `like`.
    pub fn address_like(&self, like: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv4() == like.is_ipv4())
    }
}

impl Originates {
    pub fn prefixes(self) -> impl Iterator<Item = Prefix> {
        (0..self.count).map(move |i| self.block(i).expect("a rule refuses what is beyond the last"))
    }

    /// The last block; none where there are not so many.
    pub fn last(self) -> Option<Prefix> {
        self.block(self.count - 1)
    }

    fn block(self, number: u32) -> Option<Prefix> {
        let length = self.first.prefix_len();
        let bits = u32::from(self.first.max_prefix_len() - length);
        let offset = if number == 0 {
            0
        } else {
            u128::from(number).checked_mul(1_u128.checked_shl(bits)?)?
        };
        let address = match self.first.network() {
            IpAddr::V4(first) => {
                let offset = u32::try_from(offset).ok()?;
                IpAddr::V4(Ipv4Addr::from(u32::from(first).checked_add(offset)?))
            }
            IpAddr::V6(first) => IpAddr::V6(u128::from(first).checked_add(offset)?.into()),
        };
        Prefix::new(address, length).ok()
    }
}

impl SiteRouter {
    pub fn uplink(&self, circuit: &str, link: LinkRole) -> Option<&Uplink> {
        self.uplinks.iter().find(|uplink| uplink.circuit == circuit && uplink.link == link)
    }

    pub const fn is_attached(&self) -> bool {
        matches!(self.kind, RouterKind::Attach(_))
    }

    /// Where its ports are, of an attached router.
    pub fn attached(&self) -> &[Attach] {
        match &self.kind {
            RouterKind::Attach(attached) => attached,
            RouterKind::BuiltIn | RouterKind::Frr | RouterKind::Bird => &[],
        }
    }

    /// Whether the lab's hosts of a network can be behind it: an attached router has a port there.
    pub fn has_hosts_of(&self, network: &str) -> bool {
        let is_there = |entry: &Attach| matches!(&entry.end, AttachEnd::Network(n) if n == network);
        !self.is_attached() || self.attached().iter().any(is_there)
    }
}

impl VirtualNetwork {
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == name)
    }

    pub fn gateway(&self, name: &str) -> Option<&Gateway> {
        self.gateways.iter().find(|gateway| gateway.name == name)
    }
}

impl Gateway {
    /// Two, or two a scale unit (9.6).
    pub const fn instances(&self) -> u8 {
        self.scale_units.saturating_mul(2)
    }

    pub const fn figures(&self) -> GatewayFigures {
        self.sku.figures(self.scale_units)
    }
}

/// A row of table 9.2: what all instances of a gateway do together, inbound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GatewayFigures {
    pub bandwidth: Bandwidth,
    pub packets_per_second: u64,
    pub flows: u64,
    pub routes_learned: u32,
    pub circuits: u8,
}

impl GatewaySku {
    /// Table 9.2 (L-30). `units` counts for `ErGwScale` only.
    pub const fn figures(self, units: u8) -> GatewayFigures {
        let (mbps, packets_per_second, flows, routes_learned, circuits) = match self {
            Self::Standard | Self::ErGw1AZ => (1_000, 100_000, 200_000, 4_000, 4),
            Self::HighPerformance | Self::ErGw2AZ => (2_000, 200_000, 400_000, 9_500, 8),
            Self::UltraPerformance | Self::ErGw3AZ => (10_000, 1_000_000, 1_000_000, 9_500, 16),
            Self::ErGwScale => {
                let n = units as u64;
                let packets = if units <= 10 { 100_000 } else { 200_000 };
                // The table names 1, 2 and 10 units; between 2 and 10 the lower figure holds.
                let circuits = match units {
                    0 | 1 => 4,
                    2..=9 => 8,
                    _ => 16,
                };
                (1_000 * n, packets * n, 100_000 * n, 9_500, circuits)
            }
        };
        let bandwidth = Bandwidth::from_mbps(mbps);
        GatewayFigures { bandwidth, packets_per_second, flows, routes_learned, circuits }
    }
}

/// The first address of a VNet's GatewaySubnet: the last 64 addresses of the VNet's first block
/// of a family, as /26 is what 16 circuits need (L-32).
pub fn gateway_subnet(block: &Prefix) -> IpAddr {
    match block.broadcast() {
        IpAddr::V4(last) => Ipv4Addr::from(u32::from(last) & !63).into(),
        IpAddr::V6(last) => Ipv6Addr::from(u128::from(last) & !63).into(),
    }
}

/// The other usable address of a link's subnet; none for what is no usable address of it.
pub fn link_peer(own: IpAddr, subnet: Prefix) -> Option<IpAddr> {
    let [first, second] = [1, 2].map(|offset| address_at(subnet, offset));
    match Some(own) {
        own if own == first => second,
        own if own == second => first,
        _ => None,
    }
}

/// The address `offset` after the first of a block; none outside it.
pub fn address_at(prefix: Prefix, offset: u32) -> Option<IpAddr> {
    let address = match prefix.network() {
        IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from(u32::from(first).checked_add(offset)?)),
        IpAddr::V6(first) => {
            IpAddr::V6(Ipv6Addr::from(u128::from(first).checked_add(u128::from(offset))?))
        }
    };
    prefix.contains(&address).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_customer_takes_the_first_address_and_microsoft_the_second() {
        let subnets = LinkSubnets {
            primary: "192.168.100.128/30".parse().unwrap(),
            secondary: "fd00::4/126".parse().unwrap(),
            enabled: true,
        };
        assert_eq!(subnets.customer(LinkRole::Primary).to_string(), "192.168.100.129");
        assert_eq!(subnets.microsoft(LinkRole::Primary).to_string(), "192.168.100.130");
        assert_eq!(subnets.customer(LinkRole::Secondary).to_string(), "fd00::5");
        assert_eq!(subnets.microsoft(LinkRole::Secondary).to_string(), "fd00::6");
    }

    #[test]
    fn originated_blocks_follow_one_another_to_the_end_of_the_addresses() {
        let blocks = |first: &str, count| {
            let originates = Originates { first: first.parse().unwrap(), count };
            originates.last().map(|last| last.to_string())
        };
        assert_eq!(blocks("20.0.255.0/24", 3).as_deref(), Some("20.1.1.0/24"));
        assert_eq!(blocks("2001:db8::/64", 2).as_deref(), Some("2001:db8:0:1::/64"));
        assert_eq!(blocks("255.255.254.0/24", 2).as_deref(), Some("255.255.255.0/24"));
        assert_eq!(blocks("255.255.254.0/24", 3), None);
        assert_eq!(blocks("0.0.0.0/0", 1).as_deref(), Some("0.0.0.0/0"));
        assert_eq!(blocks("::/0", 2), None);
        let all = Originates { first: "20.0.0.0/24".parse().unwrap(), count: 3 };
        let all: Vec<_> = all.prefixes().map(|prefix| prefix.to_string()).collect();
        assert_eq!(all, ["20.0.0.0/24", "20.0.1.0/24", "20.0.2.0/24"]);
    }

    #[test]
    fn an_address_outside_its_block_is_none() {
        assert_eq!(address_at("10.0.0.0/30".parse().unwrap(), 4), None);
        assert_eq!(address_at("255.255.255.252/30".parse().unwrap(), 4), None);
    }

    #[test]
    fn scale_units_multiply_the_figures() {
        let figures = GatewaySku::ErGwScale.figures(11);
        assert_eq!(figures.bandwidth, Bandwidth::from_mbps(11_000));
        assert_eq!(figures.packets_per_second, 2_200_000);
        assert_eq!(figures.circuits, 16);
        assert_eq!(GatewaySku::ErGwScale.figures(1).circuits, 4);
    }
}
