//! A lab from a stream of random numbers: small, valid, and as awkward as a lab file may be.
//! Customers have the same prefixes, ASNs and inner tags wherever they may, and share MSEEs and
//! the provider's links to them, so that whatever leaks between them is seen.

use std::time::Duration;

use msee::config::HostRef;
use msee::config::lab::*;
use msee::model::*;

/// A lab and who is who in it.
#[derive(Debug)]
pub struct World {
    pub lab: Lab,
    pub customers: Vec<Customer>,
}

/// Whose packets may meet: one site, its circuits and its VNets.
#[derive(Debug)]
pub struct Customer {
    pub circuits: Vec<String>,
    pub site: String,
    pub vnets: Vec<String>,
    pub ipv4: bool,
    pub ipv6: bool,
    /// A limiter or policer may drop what the probes send.
    pub limited: bool,
}

/// Random choices.
pub struct Dice(Random);

impl Dice {
    pub fn new(seed: u64, name: &str) -> Self {
        Self(Random::new(seed, name))
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.0.below(100) < percent
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.0.below(of.len() as u64) as usize].clone()
    }

    /// A number in `from..=to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.0.below(to - from + 1)
    }

    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(self.between(from * 1000, to * 1000))
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.between(0, last as u64) as usize);
        }
    }
}

/// A lab of one to three circuits and as many customers at most.
pub fn world(dice: &mut Dice) -> World {
    let circuits = dice.between(1, 3) as usize;
    let customers = dice.between(1, circuits as u64) as usize;
    let mut lab = Lab {
        name: "search".into(),
        seed: 1,
        profile: "documented-2026".into(),
        hash: dice.pick(&[FlowHash::Asymmetric, FlowHash::Symmetric]),
        circuits: Vec::new(),
        sites: Vec::new(),
        virtual_networks: Vec::new(),
    };
    let customers = (0..customers)
        .map(|number| {
            let own = (number..circuits).step_by(customers).count();
            customer(&mut lab, number, own, dice)
        })
        .collect();
    World { lab, customers }
}

fn customer(lab: &mut Lab, number: usize, circuits: usize, dice: &mut Dice) -> Customer {
    let (ipv4, ipv6) = dice.pick(&[(true, false), (true, false), (false, true), (true, true)]);
    let asn = Asn::new(dice.pick(&[65010, 65010, 4_200_000_010])).unwrap();
    let mut customer = Customer {
        circuits: Vec::new(),
        site: format!("dc{number}"),
        vnets: Vec::new(),
        ipv4,
        ipv6,
        limited: false,
    };
    for place in 0..circuits {
        let circuit = circuit(lab, &mut customer, (number, place), asn, dice);
        customer.circuits.push(circuit.name.clone());
        lab.circuits.push(circuit);
    }
    lab.sites.push(site(&customer, number, asn, dice));
    for place in 0..dice.pick(&[1, 1, 2]) {
        let vnet = virtual_network(&customer, number, place, dice);
        customer.vnets.push(vnet.name.clone());
        lab.virtual_networks.push(vnet);
    }
    customer
}

fn circuit(
    lab: &Lab,
    customer: &mut Customer,
    (number, place): (usize, usize),
    asn: Asn,
    dice: &mut Dice,
) -> Circuit {
    let location = dice.pick(&["Amsterdam", "Amsterdam", "London"]);
    let neighbors =
        lab.circuits.iter().filter(|circuit| circuit.peering_location == location).count();
    let bandwidth = dice.pick(&[1_000_000_000, 1_000_000_000, 1_000_000_000, 1_000_000, 200_000]);
    let policer = dice.chance(25).then(|| policer(dice));
    customer.limited |= bandwidth <= 1_000_000
        || policer.as_ref().is_some_and(|policer| policer.rate < Bandwidth::from_mbps(5));
    let ipv4 = [0, 4].map(|offset| format!("172.16.{place}.{offset}/30"));
    let ipv6 = [0, 4].map(|offset| format!("fd00:{place}::{offset}/126"));
    let link_subnets = |subnets: [String; 2]| {
        let [primary, secondary] = subnets.map(|text| text.parse().unwrap());
        LinkSubnets { primary, secondary, enabled: true }
    };
    let burst = dice.millis(1, 20);
    let modes = [GracefulRestart::Full, GracefulRestart::Off, GracefulRestart::Helper];
    Circuit {
        name: format!("c{number}{place}"),
        service_provider: dice.pick(&["Equinix", "Equinix", "Colt"]).into(),
        peering_location: location.into(),
        bandwidth: Bandwidth::from_bps(bandwidth),
        tier: Tier::Standard,
        family: BillingFamily::MeteredData,
        stag: VlanId::new(2101 + neighbors as u64).unwrap(),
        provider: Provider {
            uni: dice.pick(&[Uni::Dot1q, Uni::Dot1q, Uni::Untagged]),
            mtu: 1500,
            delay: dice.millis(0, 10),
            carrier_follows: dice.chance(30),
            policer,
        },
        limiter: LimiterBurst { to_azure: burst, to_onprem: burst },
        peerings: vec![Peering {
            peering_type: PeeringType::AzurePrivatePeering,
            peer_asn: asn,
            vlan: VlanId::new(dice.pick(&[100, 100, 200])).unwrap(),
            shared_key: dice.chance(25).then(|| format!("Key{number}{place}")),
            ipv4: customer.ipv4.then(|| link_subnets(ipv4)),
            ipv6: customer.ipv6.then(|| link_subnets(ipv6)),
            bfd: bfd(dice),
            graceful_restart: modes[(number + place) % modes.len()],
        }],
    }
}

/// One that charges control packets leaves them room: a session that starves is the lab's fault.
fn policer(dice: &mut Dice) -> Policer {
    let (rate, polices_control) =
        dice.pick(&[(100_000_000, true), (100_000_000, false), (300_000, false)]);
    Policer { rate: Bandwidth::from_bps(rate), burst: dice.millis(5, 20), polices_control }
}

fn bfd(dice: &mut Dice) -> BfdTimers {
    BfdTimers {
        enabled: dice.chance(70),
        interval: Duration::from_millis(dice.pick(&[300, 300, 750])),
        multiplier: 3,
    }
}

/// One router for everything, a CE and a core, or two CEs and a core.
fn site(customer: &Customer, number: usize, asn: Asn, dice: &mut Dice) -> Site {
    let edges = dice.pick(&[1, 1, 2]);
    let with_core = edges == 2 || dice.chance(40);
    let by_link = dice.chance(50);
    let joined = dice.chance(30);
    let edge_name = |edge: usize| format!("ce{number}{}", ["a", "b"][edge]);
    let core_name = format!("core{number}");
    let networks = [
        (customer.ipv4, "erp", "192.168.0.0/22", "192.168.0.1", "192.168.0.10"),
        (customer.ipv6, "erp6", "fd20:0:0:1::/64", "fd20:0:0:1::1", "fd20:0:0:1::10"),
    ];
    let networks: Vec<_> = networks
        .into_iter()
        .filter(|(present, ..)| *present)
        .map(|(_, name, prefix, gateway, address)| Network {
            name: name.into(),
            prefix: prefix.parse().unwrap(),
            gateway: gateway.parse().unwrap(),
            hosts: vec![Host { name: name.into(), addresses: vec![address.parse().unwrap()] }],
        })
        .collect();
    let names: Vec<_> = networks.iter().map(|network| network.name.clone()).collect();
    let mut routers: Vec<_> = (0..edges)
        .map(|edge| {
            let other = (edges == 2 && joined).then(|| edge_name(1 - edge));
            SiteRouter {
                name: edge_name(edge),
                kind: RouterKind::BuiltIn,
                config: None,
                uplinks: Vec::new(),
                import: ImportPolicy {
                    local_preference: dice.pick(&[None, None, Some(90), Some(150)]),
                    weight: 0,
                },
                export: ExportPolicy { prepend: dice.pick(&[0, 0, 0, 2]) },
                gateway_of: if with_core { Vec::new() } else { names.clone() },
                ibgp: with_core.then(|| core_name.clone()).into_iter().chain(other).collect(),
                originates: Vec::new(),
                bfd: bfd(dice),
                hold: Duration::from_secs(dice.pick(&[9, 30, 180])),
            }
        })
        .collect();
    for (place, circuit) in customer.circuits.iter().enumerate() {
        for link in LinkRole::BOTH {
            let edge = if by_link { link as usize } else { place } % edges;
            let port = format!("eth{}", routers[edge].uplinks.len());
            routers[edge].uplinks.push(Uplink {
                circuit: circuit.clone(),
                link,
                port,
                own: Deviation::default(),
            });
        }
    }
    if with_core {
        routers.push(SiteRouter {
            name: core_name,
            uplinks: Vec::new(),
            gateway_of: names,
            ibgp: (0..edges).map(edge_name).collect(),
            ..routers[0].clone()
        });
    }
    Site { name: customer.site.clone(), asn, networks, routers }
}

fn virtual_network(
    customer: &Customer,
    number: usize,
    place: usize,
    dice: &mut Dice,
) -> VirtualNetwork {
    let mut prefixes = vec![format!("10.{}.0.0/16", place + 1)];
    let mut addresses = vec![format!("10.{}.0.4", place + 1)];
    if customer.ipv6 {
        prefixes.push(format!("fd10:{place}::/48"));
        addresses.push(format!("fd10:{place}::4"));
    }
    let all = dice.chance(80);
    let circuits = customer.circuits.iter().filter(|name| all || **name == customer.circuits[0]);
    let connections = circuits
        .map(|circuit| Connection {
            circuit: circuit.clone(),
            routing_weight: dice.pick(&[0, 0, 10]),
        })
        .collect();
    let (p50, max) = dice.pick(&[(0, 0), (0, 0), (50, 400)]);
    let spread = Spread {
        min: Duration::ZERO,
        p50: Duration::from_millis(p50),
        max: Duration::from_millis(max),
    };
    VirtualNetwork {
        name: format!("hub{number}{place}"),
        location: "westeurope".into(),
        address_prefixes: prefixes.iter().map(|text| text.parse().unwrap()).collect(),
        hosts: vec![Host {
            name: "app".into(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        }],
        gateways: vec![Gateway {
            name: "er".into(),
            sku: dice.pick(&[GatewaySku::ErGw1AZ, GatewaySku::ErGw2AZ]),
            scale_units: 1,
            connections,
        }],
        convergence: ConvergenceDelay { on_withdraw: spread, on_announce: spread },
    }
}

impl World {
    /// The customer whose circuit it is.
    pub fn owner_of_circuit(&self, circuit: &str) -> usize {
        let owns = |customer: &Customer| customer.circuits.iter().any(|name| name == circuit);
        self.customers.iter().position(owns).expect("every circuit is somebody's")
    }

    /// Pairs of a customer's hosts that can talk, site first, with their addresses.
    pub fn conversations(&self, customer: &Customer) -> Vec<[(HostRef, std::net::IpAddr); 2]> {
        let site = self.lab.site(&customer.site).expect("it was made");
        let mut pairs = Vec::new();
        for host in site.networks.iter().flat_map(|network| &network.hosts) {
            for name in &customer.vnets {
                let vnet = self.lab.virtual_network(name).expect("it was made");
                let at_site = HostRef::Site { site: site.name.clone(), host: host.name.clone() };
                let at_vnet = HostRef::VirtualNetwork {
                    vnet: name.clone(),
                    host: vnet.hosts[0].name.clone(),
                };
                let address = host.addresses[0];
                let far = vnet.hosts[0].address_like(address).expect("families are the same");
                pairs.push([(at_site, address), (at_vnet, far)]);
            }
        }
        pairs
    }
}
