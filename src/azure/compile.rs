//! Resources → one configuration per router and the links between them.
//!
//! ```text
//! provider ──nni── MSEE ──core── gateway instance ──gw── vnet ──host── VNet host
//!                   └──────────────core────────────────────┘   (outbound, past the gateway)
//! ```

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::azure::addressing::{GatewaySubnet, mac, point_to_point, router_id};
use crate::config::lab::{
    BfdTimers, Circuit, Gateway, Lab, LinkSubnets, Peering, Uni, VirtualNetwork, address_at,
};
use crate::model::{
    AddressOnLink, Asn, AttachmentConfig, Bandwidth, BfdConfig, ConvergenceDelay, Encapsulation,
    ExportPolicy, GracefulRestart, ImportPolicy, LimiterConfig, LinkRole, NeighborConfig,
    NeighborKind, OriginatedPrefix, PortConfig, Prefix, Role, RouterConfig, Service, SessionTtl,
    StaticRoute, VlanId, VrfConfig,
};

/// IP MTU of an MSEE interface and of everything behind it (L-26).
const MTU: u16 = 1500;
/// IP MTU from a gateway to a VNet's hosts (L-26, D-04).
const VNET_MTU: u16 = 1400;
/// Hold time of the MSEE and of gateways (L-11).
const HOLD: Duration = Duration::from_mins(3);
/// One way between an MSEE and a region's gateway or host: a guess, no document gives it.
pub const BACKBONE_DELAY: Duration = Duration::from_micros(500);
/// Between a gateway, its VNet and the hosts: the same data centre; a guess as well.
const VNET_DELAY: Duration = Duration::from_micros(50);
/// Two MSEEs of each of four circuits (L-19).
const MAX_PATHS: u8 = 8;

/// Every router of Microsoft's and the providers' side, and their links.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compiled {
    pub routers: Vec<RouterConfig>,
    pub links: Vec<CompiledLink>,
}

/// A link between ports of two routers, named.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompiledLink {
    pub name: String,
    pub ends: [(String, String); 2],
    pub delay: Duration,
    /// Whether each end sees that the other is gone.
    pub shows_carrier: [bool; 2],
}

/// The MSEE at the end of a circuit's link: called by the link, or by the location where several
/// circuits share it.
pub fn msee_name(lab: &Lab, circuit: &Circuit, link: LinkRole) -> String {
    let here = |other: &&Circuit| other.peering_location == circuit.peering_location;
    let place = match lab.circuits.iter().filter(here).count() {
        1 => &circuit.name,
        _ => &circuit.peering_location,
    };
    format!("{place}/{link}")
}

pub fn provider_name(circuit: &Circuit) -> String {
    format!("{} {}", circuit.service_provider, circuit.peering_location)
}

pub fn gateway_instance(vnet: &VirtualNetwork, gateway: &Gateway, instance: u8) -> String {
    format!("{}/{}#{instance}", vnet.name, gateway.name)
}

/// The VRF of a peering, the same name on both MSEEs.
pub fn vrf_name(circuit: &Circuit, peering: &Peering) -> String {
    format!("{}/{}", circuit.name, peering.peering_type.name())
}

/// What the lab's circuits, gateways and VNets mean for each router.
pub fn compile(lab: &Lab) -> Compiled {
    let mut builder = Builder { lab, routers: Vec::new(), links: Vec::new() };
    for circuit in &lab.circuits {
        builder.circuit(circuit);
    }
    for vnet in &lab.virtual_networks {
        builder.virtual_network(vnet);
    }
    Compiled { routers: builder.routers, links: builder.links }
}

struct Builder<'a> {
    lab: &'a Lab,
    routers: Vec<RouterConfig>,
    links: Vec<CompiledLink>,
}

impl Builder<'_> {
    /// The provider's cross-connects and, on each MSEE, the circuit's limiters and peerings.
    fn circuit(&mut self, circuit: &Circuit) {
        let provider = self.router(&provider_name(circuit), Role::Provider);
        for link in LinkRole::BOTH {
            let msee = self.router(&msee_name(self.lab, circuit, link), Role::Msee);
            let nni = format!("nni:{link}");
            let towards = format!("nni:{}", circuit.service_provider);
            self.join(
                &format!("{}/{link}:nni", provider_name(circuit)),
                (provider, &nni),
                (msee, &towards),
                Duration::ZERO,
            );
            let uni = format!("uni:{}/{link}", circuit.name);
            let policers = self.policers(provider, circuit, link);
            let limiters = self.limiters(msee, circuit, link);
            // Without a router of the lab nothing is plugged in.
            if self.lab.edge_of(&circuit.name, link).is_some() {
                self.port(provider, &uni);
                for tag in self.tags(circuit, link) {
                    self.cross_connect(provider, circuit, tag, [&uni, &nni], &policers);
                }
            }
            for peering in &circuit.peerings {
                self.peering(msee, circuit, peering, link, &towards, &limiters);
            }
        }
    }

    /// The inner tags the provider carries: those of the peerings, and what else the customer's
    /// router puts on its frames. A port that carries tags does not choose among them.
    fn tags(&self, circuit: &Circuit, link: LinkRole) -> BTreeSet<VlanId> {
        let edge = self.lab.edge_of(&circuit.name, link);
        let uplink = edge.and_then(|(_, router)| router.uplink(&circuit.name, link));
        let own = uplink.and_then(|uplink| uplink.own.vlan);
        let own = own.filter(|_| circuit.provider.uni == Uni::Dot1q);
        circuit.peerings.iter().map(|peering| peering.vlan).chain(own).collect()
    }

    fn policers(&mut self, provider: usize, circuit: &Circuit, link: LinkRole) -> [Vec<String>; 2] {
        let Some(policer) = &circuit.provider.policer else { return Default::default() };
        ["to-azure", "to-onprem"].map(|way| {
            let name = format!("{}/{link}:provider-{way}", circuit.name);
            let (rate, burst) = (policer.rate, policer.burst);
            self.routers[provider].limiters.push(LimiterConfig { name: name.clone(), rate, burst });
            vec![name]
        })
    }

    /// One bucket per circuit, link and direction, shared by the peerings (L-06, section 20).
    fn limiters(&mut self, msee: usize, circuit: &Circuit, link: LinkRole) -> [String; 2] {
        [("to-azure", circuit.limiter.to_azure), ("to-onprem", circuit.limiter.to_onprem)].map(
            |(way, burst)| {
                let name = format!("{}/{link}:{way}", circuit.name);
                let rate = circuit.bandwidth;
                self.routers[msee].limiters.push(LimiterConfig { name: name.clone(), rate, burst });
                name
            },
        )
    }

    fn cross_connect(
        &mut self,
        provider: usize,
        circuit: &Circuit,
        tag: VlanId,
        [uni, nni]: [&str; 2],
        [in_policers, out_policers]: &[Vec<String>; 2],
    ) {
        let customer_side = match circuit.provider.uni {
            Uni::Untagged => Encapsulation::Untagged,
            Uni::Dot1q => Encapsulation::Dot1q(tag),
        };
        let msee_side = Encapsulation::QinQ { outer: circuit.stag, inner: tag };
        let names = [uni.to_owned(), format!("{nni}:{uni}")].map(|at| format!("{at}.{tag}"));
        let polices_control =
            circuit.provider.policer.as_ref().is_some_and(|policer| policer.polices_control);
        for (own, other, port, encapsulation, policers) in
            [(0, 1, uni, customer_side, in_policers), (1, 0, nni, msee_side, out_policers)]
        {
            self.routers[provider].attachments.push(AttachmentConfig {
                name: names[own].clone(),
                port: port.to_owned(),
                encapsulation,
                service: Service::CrossConnect(names[other].clone()),
                mtu: circuit.provider.mtu,
                addresses: Vec::new(),
                ingress_limiters: policers.clone(),
                egress_limiters: Vec::new(),
                polices_control,
                answers_icmp: false,
            });
        }
    }

    /// The VRF of a peering on one MSEE, with the customer's attachment and sessions.
    fn peering(
        &mut self,
        msee: usize,
        circuit: &Circuit,
        peering: &Peering,
        link: LinkRole,
        port: &str,
        [to_azure, to_onprem]: &[String; 2],
    ) {
        let vrf = vrf_name(circuit, peering);
        let subnets: Vec<&LinkSubnets> = peering.ipv4.iter().chain(&peering.ipv6).collect();
        let on_link = |subnets: &&LinkSubnets| AddressOnLink {
            address: subnets.microsoft(link),
            on_link: subnets.of(link),
        };
        let edge = self.lab.edge_of(&circuit.name, link);
        let customer = edge.map_or(NO_ROUTER, |(_, router)| router.name.as_str());
        let neighbor = |subnets: &&LinkSubnets| NeighborConfig {
            name: neighbor_name(customer, subnets.microsoft(link)),
            kind: NeighborKind::PrivatePeering,
            attachment: vrf.clone(),
            local: subnets.microsoft(link),
            peer: subnets.customer(link),
            peer_asn: peering.peer_asn,
            ordinal: 0,
            enabled: subnets.enabled,
            md5: peering.shared_key.clone(),
            ttl: SessionTtl::SINGLE_HOP,
            hold: HOLD,
            graceful_restart: peering.graceful_restart,
            bfd: bfd(&peering.bfd),
            import: ImportPolicy::default(),
            export: ExportPolicy::default(),
        };
        let router = &mut self.routers[msee];
        router.attachments.push(AttachmentConfig {
            name: vrf.clone(),
            port: port.to_owned(),
            encapsulation: Encapsulation::QinQ { outer: circuit.stag, inner: peering.vlan },
            service: Service::Vrf(vrf.clone()),
            mtu: MTU,
            addresses: subnets.iter().map(on_link).collect(),
            ingress_limiters: vec![to_azure.clone()],
            egress_limiters: vec![to_onprem.clone()],
            polices_control: false,
            answers_icmp: true,
        });
        router.vrfs.push(VrfConfig {
            name: vrf.clone(),
            asn: Asn::MICROSOFT,
            max_paths: MAX_PATHS,
            originated: Vec::new(),
            statics: Vec::new(),
            neighbors: subnets.iter().map(neighbor).collect(),
            convergence: ConvergenceDelay::default(),
        });
    }

    /// A VNet's router, its gateway instances, and a backbone attachment for each
    /// (connection, MSEE, instance) and (connection, MSEE, vnet).
    fn virtual_network(&mut self, vnet: &VirtualNetwork) {
        let subnet = GatewaySubnet::of(vnet);
        let hub = self.router(&vnet.name, Role::Vnet);
        self.routers[hub].vrfs.push(VrfConfig {
            name: MAIN.to_owned(),
            asn: Asn::GATEWAY,
            max_paths: MAX_PATHS,
            originated: Vec::new(),
            statics: Vec::new(),
            neighbors: Vec::new(),
            convergence: vnet.convergence,
        });
        let mut number = 0;
        for gateway in &vnet.gateways {
            let instances: Vec<_> =
                (0..gateway.instances()).map(|i| self.instance(vnet, gateway, i)).collect();
            for connection in &gateway.connections {
                let circuit = self.lab.circuit(&connection.circuit);
                let circuit = circuit.expect("a checked lab names circuits it has");
                for peering in &circuit.peerings {
                    for link in LinkRole::BOTH {
                        self.msee_to_vnet(circuit, peering, link, vnet, &subnet, number);
                        for (i, &instance) in instances.iter().enumerate() {
                            let between =
                                Backbone { circuit, peering, link, number, subnet: &subnet };
                            self.msee_to_instance(
                                &between,
                                instance,
                                i as u8,
                                connection.routing_weight,
                            );
                        }
                    }
                }
                number += 1;
            }
            let graceful_restart = self.graceful_restart(gateway);
            for (i, &instance) in instances.iter().enumerate() {
                self.instance_to_vnet(vnet, &subnet, instance, i as u8, hub, graceful_restart);
            }
        }
        for host in &vnet.hosts {
            self.host_attachment(vnet, hub, &host.name, &host.addresses);
        }
    }

    /// The sessions of a gateway with its VNet go as far as any of those with its MSEEs.
    fn graceful_restart(&self, gateway: &Gateway) -> GracefulRestart {
        let circuits =
            gateway.connections.iter().filter_map(|each| self.lab.circuit(&each.circuit));
        let peerings = circuits.flat_map(|circuit| &circuit.peerings);
        peerings.map(|peering| peering.graceful_restart).max().unwrap_or_default()
    }

    fn instance(&mut self, vnet: &VirtualNetwork, gateway: &Gateway, instance: u8) -> usize {
        let router = self.router(&gateway_instance(vnet, gateway, instance), Role::Gateway);
        let share = gateway.figures().bandwidth.bps() / u64::from(gateway.instances());
        self.routers[router].limiters.push(LimiterConfig {
            name: INBOUND.to_owned(),
            rate: Bandwidth::from_bps(share),
            burst: Duration::from_millis(5),
        });
        self.routers[router].vrfs.push(VrfConfig {
            name: MAIN.to_owned(),
            asn: Asn::GATEWAY,
            max_paths: MAX_PATHS,
            originated: vnet
                .address_prefixes
                .iter()
                .map(|&prefix| OriginatedPrefix { prefix })
                .collect(),
            statics: Vec::new(),
            neighbors: Vec::new(),
            convergence: ConvergenceDelay::default(),
        });
        router
    }

    /// VMs send straight to the MSEEs (9.6): an attachment without a session.
    fn msee_to_vnet(
        &mut self,
        circuit: &Circuit,
        peering: &Peering,
        link: LinkRole,
        vnet: &VirtualNetwork,
        subnet: &GatewaySubnet,
        number: usize,
    ) {
        let vrf = vrf_name(circuit, peering);
        let name = msee_name(self.lab, circuit, link);
        let msee = self.router(&name, Role::Msee);
        let hub = self.router(&vnet.name, Role::Vnet);
        let [here, there] = [format!("core:{}", vnet.name), format!("core:{name}")];
        self.join(
            &format!("{name}:core {}", vnet.name),
            (msee, &here),
            (hub, &there),
            BACKBONE_DELAY,
        );
        let vni = vni(number, peering);
        let msee_side = subnet.msee(number, link);
        self.backbone(
            msee,
            format!("{vrf}:{}", vnet.name),
            &here,
            vni,
            &vrf,
            &msee_side,
            &subnet.vnet(),
        );
        let towards = format!("{}/{link}", circuit.name);
        self.backbone(hub, towards, &there, vni, MAIN, &subnet.vnet(), &msee_side);
    }

    /// A BGP session per family between an MSEE and a gateway instance.
    fn msee_to_instance(&mut self, at: &Backbone<'_>, instance: usize, index: u8, weight: u16) {
        let vrf = vrf_name(at.circuit, at.peering);
        let name = msee_name(self.lab, at.circuit, at.link);
        let msee = self.router(&name, Role::Msee);
        let gateway = self.routers[instance].name.clone();
        let [here, there] = [format!("core:{gateway}"), format!("core:{name}")];
        self.join(
            &format!("{name}:core {gateway}"),
            (msee, &here),
            (instance, &there),
            BACKBONE_DELAY,
        );
        let vni = vni(at.number, at.peering);
        let msee_side = at.subnet.msee(at.number, at.link);
        let own = at.subnet.instance(index);
        let attachment = format!("{vrf}:{gateway}");
        self.backbone(msee, attachment.clone(), &here, vni, &vrf, &msee_side, &own);
        let towards = format!("{}/{}", at.circuit.name, at.link);
        self.backbone(instance, towards.clone(), &there, vni, MAIN, &own, &msee_side);
        let inbound = self.routers[instance].attachments.last_mut().expect("it was just added");
        inbound.ingress_limiters = vec![INBOUND.to_owned()];
        inbound.answers_icmp = false;
        let families = [&at.peering.ipv4, &at.peering.ipv6];
        for (&local, &peer) in msee_side.iter().zip(&own) {
            let of_peering = families.iter().any(|subnets| {
                subnets.as_ref().is_some_and(|s| s.primary.addr().is_ipv4() == local.is_ipv4())
            });
            if !of_peering {
                continue;
            }
            let session =
                |name: &str, kind, attachment: &str, local, peer, peer_asn, ordinal, weight| {
                    NeighborConfig {
                        name: neighbor_name(name, local),
                        kind,
                        attachment: attachment.to_owned(),
                        local,
                        peer,
                        peer_asn,
                        ordinal,
                        enabled: true,
                        md5: None,
                        ttl: SessionTtl::SINGLE_HOP,
                        hold: HOLD,
                        graceful_restart: at.peering.graceful_restart,
                        bfd: None,
                        import: ImportPolicy { weight, local_preference: None },
                        export: ExportPolicy::default(),
                    }
                };
            let kind = NeighborKind::Gateway;
            let to_gateway =
                session(&gateway, kind, &attachment, local, peer, Asn::GATEWAY, index, 0);
            self.vrf(msee, &vrf).neighbors.push(to_gateway);
            let ordinal = (2 * at.number) as u8 + at.link as u8;
            let kind = NeighborKind::Msee;
            let to_msee =
                session(&towards, kind, &towards, peer, local, Asn::MICROSOFT, ordinal, weight);
            self.vrf(instance, MAIN).neighbors.push(to_msee);
        }
    }

    /// The gateway passes what it learned to the VNet with the MSEEs as next hops (9.6), and
    /// everything for the VNet's own addresses goes to the VNet's router.
    fn instance_to_vnet(
        &mut self,
        vnet: &VirtualNetwork,
        subnet: &GatewaySubnet,
        instance: usize,
        index: u8,
        hub: usize,
        graceful_restart: GracefulRestart,
    ) {
        let gateway = self.routers[instance].name.clone();
        let [here, there] = [vnet.name.clone(), gateway.clone()];
        self.join(
            &format!("{gateway} {}", vnet.name),
            (instance, &here),
            (hub, &there),
            VNET_DELAY,
        );
        let (own, hubs) = (subnet.instance(index), subnet.vnet());
        self.p2p(instance, here.clone(), &here, Encapsulation::Untagged, MAIN, &own, &hubs);
        self.routers[instance].attachments.last_mut().expect("just added").mtu = VNET_MTU;
        self.p2p(hub, there.clone(), &there, Encapsulation::Untagged, MAIN, &hubs, &own);
        for (&own, &hub_side) in own.iter().zip(&hubs) {
            let session = |name: &str, local, peer| NeighborConfig {
                name: neighbor_name(name, local),
                kind: NeighborKind::EffectiveRoutes,
                attachment: name.to_owned(),
                local,
                peer,
                peer_asn: Asn::GATEWAY,
                ordinal: index,
                enabled: true,
                md5: None,
                ttl: SessionTtl::INTERNAL,
                hold: HOLD,
                graceful_restart,
                bfd: None,
                import: ImportPolicy::default(),
                export: ExportPolicy::default(),
            };
            let (to_hub, to_gateway) =
                (session(&here, own, hub_side), session(&there, hub_side, own));
            self.vrf(hub, MAIN).neighbors.push(to_gateway);
            let vrf = self.vrf(instance, MAIN);
            vrf.neighbors.push(to_hub);
            for &prefix in &vnet.address_prefixes {
                if prefix.addr().is_ipv4() == own.is_ipv4() {
                    let attachment = here.clone();
                    vrf.statics.push(StaticRoute { prefix, attachment, next_hop: hub_side });
                }
            }
        }
    }

    /// A VM hangs on a port of its own; its first hop is the first address of its block.
    fn host_attachment(
        &mut self,
        vnet: &VirtualNetwork,
        hub: usize,
        host: &str,
        addresses: &[IpAddr],
    ) {
        let port = format!("host:{host}");
        self.port(hub, &port);
        let block = |address: &IpAddr| -> Option<&Prefix> {
            vnet.address_prefixes.iter().find(|prefix| prefix.contains(address))
        };
        let gateway = |address: &IpAddr| {
            let block = block(address).expect("a checked lab's hosts are inside their VNet");
            address_at(*block, 1).expect("a VNet's block has more than one address")
        };
        let gateways: Vec<_> = addresses.iter().map(gateway).collect();
        self.p2p(hub, port.clone(), &port, Encapsulation::Untagged, MAIN, &gateways, addresses);
        self.routers[hub].attachments.last_mut().expect("just added").mtu = VNET_MTU;
    }

    fn backbone(
        &mut self,
        router: usize,
        name: String,
        port: &str,
        vni: u32,
        vrf: &str,
        ours: &[IpAddr],
        peers: &[IpAddr],
    ) {
        self.p2p(router, name, port, Encapsulation::Vni(vni), vrf, ours, peers);
    }

    fn p2p(
        &mut self,
        router: usize,
        name: String,
        port: &str,
        encapsulation: Encapsulation,
        vrf: &str,
        ours: &[IpAddr],
        peers: &[IpAddr],
    ) {
        let answers_icmp = self.routers[router].role != Role::Gateway; // F-78
        self.routers[router].attachments.push(AttachmentConfig {
            name,
            port: port.to_owned(),
            encapsulation,
            service: Service::Vrf(vrf.to_owned()),
            mtu: MTU,
            addresses: point_to_point(ours, peers),
            ingress_limiters: Vec::new(),
            egress_limiters: Vec::new(),
            polices_control: false,
            answers_icmp,
        });
    }

    fn vrf(&mut self, router: usize, name: &str) -> &mut VrfConfig {
        let vrfs = &mut self.routers[router].vrfs;
        vrfs.iter_mut().find(|vrf| vrf.name == name).expect("its VRF was made before")
    }

    /// The router of that name, made when it is not there yet.
    fn router(&mut self, name: &str, role: Role) -> usize {
        if let Some(index) = self.routers.iter().position(|router| router.name == name) {
            return index;
        }
        self.routers.push(RouterConfig {
            name: name.to_owned(),
            role,
            router_id: router_id(self.routers.len() as u16),
            hash: self.lab.hash,
            announces_addresses: true,
            ports: Vec::new(),
            limiters: Vec::new(),
            vrfs: Vec::new(),
            attachments: Vec::new(),
        });
        self.routers.len() - 1
    }

    fn port(&mut self, router: usize, name: &str) {
        let ports = &mut self.routers[router].ports;
        if !ports.iter().any(|port| port.name == name) {
            let mac = mac(router as u16, ports.len() as u16);
            ports.push(PortConfig { name: name.to_owned(), mac });
        }
    }

    /// Joins two ports by a link, once.
    fn join(&mut self, name: &str, a: (usize, &str), b: (usize, &str), delay: Duration) {
        if self.links.iter().any(|link| link.name == name) {
            return;
        }
        for (router, port) in [a, b] {
            self.port(router, port);
        }
        let end =
            |(router, port): (usize, &str)| (self.routers[router].name.clone(), port.to_owned());
        let ends = [end(a), end(b)];
        // A VM's host tunnels to the MSEEs: only routing tells it that one of them is gone, as
        // late as `convergence` says.
        let shows_carrier = [a.0, b.0].map(|router| {
            let tunnel = [a.0, b.0].iter().any(|&end| self.routers[end].role == Role::Msee);
            !(self.routers[router].role == Role::Vnet && tunnel)
        });
        self.links.push(CompiledLink { name: name.to_owned(), ends, delay, shows_carrier });
    }
}

/// The only VRF of a gateway and of a VNet.
const MAIN: &str = "main";
/// A gateway instance's share of its SKU's bandwidth (9.2, section 20).
const INBOUND: &str = "inbound";

struct Backbone<'a> {
    circuit: &'a Circuit,
    peering: &'a Peering,
    link: LinkRole,
    /// Of the connection, in the VNet.
    number: usize,
    subnet: &'a GatewaySubnet,
}

/// A VNI for each (connection, peering) of a VNet; ports are per router, so it need not be unique
/// beyond them.
const fn vni(connection: usize, peering: &Peering) -> u32 {
    1 + 16 * connection as u32 + peering.peering_type as u32
}

fn bfd(timers: &BfdTimers) -> Option<BfdConfig> {
    timers.enabled.then_some(BfdConfig {
        desired_min_tx: timers.interval,
        required_min_rx: timers.interval,
        detect_mult: timers.multiplier,
    })
}

/// What an MSEE calls its neighbour on a link that no router of the lab is on.
pub const NO_ROUTER: &str = "customer";

/// What the name of a neighbour ends with in the session that carries IPv6.
pub const IPV6_SUFFIX: &str = " (IPv6)";

/// Sessions of the two families with one neighbour have names of their own.
pub fn neighbor_name(name: &str, address: IpAddr) -> String {
    let suffix = if address.is_ipv4() { "" } else { IPV6_SUFFIX };
    format!("{name}{suffix}")
}
