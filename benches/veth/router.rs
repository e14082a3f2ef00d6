//! Our router under test: an MSEE with one circuit on its trunk, on packet ports.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use msee::fabric::{Direction, Fabric, LinkConfig, LinkIndex, Observer, RealTime};
use msee::io::packet::{Mode, PacketPort};
use msee::lab::HostNode;
use msee::model::{
    AddressOnLink, Asn, AttachmentConfig, Bandwidth, ConvergenceDelay, Encapsulation, FlowHash,
    Instant, LimiterConfig, PortConfig, PortIndex, Role, RouterConfig, Service, StaticRoute,
    VlanId, VrfConfig,
};
use msee::sys::packet::Interface;
use msee::wire::MacAddr;

use crate::network::{Dut, pin, within_dut};

/// Both tags of what comes in.
pub const TAGS: [u16; 2] = [2_101, 100];
/// Routes of the circuit, each a /24 of 10.0.0.0/9.
pub const ROUTES: u32 = 4_000;
/// How long the router has to learn its next hop's MAC.
const WARM_UP: Duration = Duration::from_millis(500);

/// The first address of a route.
pub const fn prefix(route: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 | route << 9)
}

/// The MAC of the port that frames come in by.
pub const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

/// A router that runs until it is dropped.
pub struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub fn start() -> Self {
        let ports = within_dut(Dut::Msee, || {
            Dut::Msee.ports().map(|name| {
                let interface = Interface::by_name(&name).expect("the interface is there");
                PacketPort::open(interface, Mode::VnetHdr).expect("the sandbox may open sockets")
            })
        });
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        let thread = thread::spawn(move || {
            pin(1);
            run(ports, &asked);
        });
        thread::sleep(WARM_UP);
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the router does not panic");
        }
    }
}

pub struct Nobody;

impl Observer for Nobody {
    fn frame(&mut self, _: LinkIndex, _: Direction, _: &[u8], _: Instant) {}
}

fn run(ports: [PacketPort; 2], stop: &AtomicBool) {
    let mut fabric = Fabric::<HostNode>::new(1);
    let router = fabric.add_router(&config());
    for (port, index) in ports.into_iter().zip([PortIndex(0), PortIndex(1)]) {
        let name = port.interface().expect("it is there").name().to_owned();
        let outside = fabric.add_port(Box::new(port));
        fabric.add_link(LinkConfig::named(name), [(outside, PortIndex(0)), (router, index)]);
    }
    let mut time = RealTime::start();
    while !stop.load(Ordering::Relaxed) {
        let end = time.now() + Duration::from_millis(10);
        time.run_until(&mut fabric, end, &mut Nobody);
    }
    let totals = fabric.totals();
    assert!(totals.held, "every packet is accounted for: {:?}", totals.sum);
}

pub fn config() -> RouterConfig {
    let address = |text: &str, on_link: &str| AddressOnLink {
        address: text.parse().expect("an address"),
        on_link: on_link.parse().expect("a prefix"),
    };
    let id = |tag: u16| VlanId::new(u64::from(tag)).expect("1 to 4094");
    let [outer, inner] = TAGS.map(id);
    let attachment = |name: &str, encapsulation, address| AttachmentConfig {
        name: name.to_owned(),
        port: name.to_owned(),
        encapsulation,
        service: Service::Vrf("circuit".to_owned()),
        mtu: 1500,
        addresses: vec![address],
        ingress_limiters: vec!["circuit:in".to_owned()],
        egress_limiters: Vec::new(),
        polices_control: false,
        answers_icmp: true,
    };
    let next_hop = IpAddr::from([10, 130, 0, 2]);
    let statics = (0..ROUTES).map(|route| StaticRoute {
        prefix: format!("{}/24", prefix(route)).parse().expect("a prefix"),
        attachment: "vnet".to_owned(),
        next_hop,
    });
    RouterConfig {
        name: "msee".to_owned(),
        role: Role::Msee,
        router_id: Ipv4Addr::new(10, 130, 0, 1),
        hash: FlowHash::Asymmetric,
        announces_addresses: false,
        ports: vec![
            PortConfig { name: "trunk".to_owned(), mac: MAC },
            PortConfig { name: "vnet".to_owned(), mac: MacAddr([2, 0, 0, 0, 0, 2]) },
        ],
        limiters: vec![LimiterConfig {
            name: "circuit:in".to_owned(),
            rate: Bandwidth::from_mbps(100_000),
            burst: Duration::from_millis(50),
        }],
        vrfs: vec![VrfConfig {
            name: "circuit".to_owned(),
            asn: Asn::MICROSOFT,
            max_paths: 1,
            originated: Vec::new(),
            statics: statics.collect(),
            neighbors: Vec::new(),
            convergence: ConvergenceDelay::default(),
        }],
        attachments: vec![
            attachment(
                "trunk",
                Encapsulation::QinQ { outer, inner },
                address("10.129.0.1", "10.129.0.0/24"),
            ),
            attachment("vnet", Encapsulation::Untagged, address("10.130.0.1", "10.130.0.2/32")),
        ],
    }
}
