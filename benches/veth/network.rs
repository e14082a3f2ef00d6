//! The namespaces, and the routers between them that are not ours.

use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use msee::sys::namespace::NetworkNamespace;
use rustix::thread::{CpuSet, sched_setaffinity};

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dut {
    /// No router: one veth pair.
    Wire,
    Kernel,
    /// With one HTB class of 100 Gbps at the egress.
    KernelHtb,
    /// DPDK on `net_af_packet`, forwarding mode `mac`.
    Testpmd,
    Msee,
}

impl Dut {
    pub const ALL: [Self; 5] =
        [Self::Wire, Self::Kernel, Self::KernelHtb, Self::Testpmd, Self::Msee];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Wire => "one veth pair, no router",
            Self::Kernel => "kernel forwarding",
            Self::KernelHtb => "kernel forwarding + HTB, one class",
            Self::Testpmd => "DPDK testpmd, net_af_packet",
            Self::Msee => "msee: two tags, limiter, 4,000 routes",
        }
    }

    /// In the names of its interfaces.
    const fn number(self) -> usize {
        self as usize
    }

    /// The interface in `gen` that leads to it.
    pub fn generator(self) -> String {
        format!("g{}", self.number())
    }

    /// The interface in `sink` that leads from it.
    pub fn sink(self) -> String {
        format!("s{}", self.number())
    }

    /// Its own two interfaces.
    pub fn ports(self) -> [String; 2] {
        [format!("d{}", self.number()), format!("e{}", self.number())]
    }

    fn namespace(self) -> String {
        format!("dut{}", self.number())
    }
}

/// All namespaces, links up.
pub struct Network {
    pub has_testpmd: bool,
}

impl Network {
    pub fn new() -> Self {
        run("mount -t tmpfs tmpfs /run");
        for name in ["gen", "sink"] {
            run(&format!("ip netns add {name}"));
            inside(
                name,
                "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1",
            );
        }
        inside("sink", "sysctl -qw net.ipv4.conf.all.arp_ignore=1");
        for dut in Dut::ALL {
            wire(dut);
        }
        for dut in [Dut::Kernel, Dut::KernelHtb] {
            let [ingress, egress] = dut.ports();
            let namespace = dut.namespace();
            inside(&namespace, "sysctl -qw net.ipv4.ip_forward=1");
            inside(&namespace, &format!("ip addr add 10.129.0.1/24 dev {ingress}"));
            inside(&namespace, &format!("ip addr add 10.130.0.1/24 dev {egress}"));
            inside(&namespace, "ip route add 10.0.0.0/9 via 10.130.0.2");
        }
        let egress = &Dut::KernelHtb.ports()[1];
        let namespace = Dut::KernelHtb.namespace();
        for tc in [
            format!("tc qdisc add dev {egress} root handle 1: htb default 1"),
            format!("tc class add dev {egress} parent 1: classid 1:1 htb rate 100gbit"),
        ] {
            inside(&namespace, &tc);
        }
        let found = Command::new("dpdk-testpmd").arg("--help").output();
        Self { has_testpmd: found.is_ok() }
    }

    /// Those that can be measured here.
    pub fn duts(&self) -> impl Iterator<Item = Dut> {
        Dut::ALL.into_iter().filter(|dut| *dut != Dut::Testpmd || self.has_testpmd)
    }
}

/// Runs `body` in the namespace of a router, or `gen`, or `sink`.
pub fn within<T: Send>(name: &str, body: impl FnOnce() -> T + Send) -> T {
    NetworkNamespace::open(name)
        .and_then(|namespace| namespace.run(body))
        .expect("the namespace is there")
}

/// Runs `body` in the namespace of a router.
pub fn within_dut<T: Send>(dut: Dut, body: impl FnOnce() -> T + Send) -> T {
    within(&dut.namespace(), body)
}

/// The MAC address of an interface in a namespace.
pub fn mac(namespace: &str, interface: &str) -> [u8; 6] {
    let output = Command::new("ip")
        .args(["-n", namespace, "-br", "link", "show", interface])
        .output()
        .expect("`ip` (iproute2) is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let address = text.split_whitespace().find(|word| word.len() == 17).expect("it has a MAC");
    let mut bytes = address.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("hex"));
    std::array::from_fn(|_| bytes.next().expect("six bytes"))
}

/// The MAC address that frames to a router have.
pub fn ingress_mac(dut: Dut) -> [u8; 6] {
    match dut {
        Dut::Wire => mac("sink", &dut.sink()),
        _ => mac(&dut.namespace(), &dut.ports()[0]),
    }
}

/// A server of iperf3 in `sink` while it lives, reached through a router.
pub fn server(dut: Dut) -> Server {
    inside("gen", &format!("ip addr replace 10.129.0.2/24 dev {}", dut.generator()));
    inside(
        "gen",
        &format!("ip route replace 10.130.0.0/24 via 10.129.0.1 dev {}", dut.generator()),
    );
    inside("sink", &format!("ip route replace 10.129.0.0/24 via 10.130.0.1 dev {}", dut.sink()));
    let server = Command::new("ip")
        .args(["netns", "exec", "sink", "iperf3", "-s", "-1"])
        .stdout(Stdio::null())
        .spawn()
        .expect("iperf3 is installed");
    thread::sleep(Duration::from_millis(300));
    Server(server)
}

/// Runs a command in `gen`.
pub fn within_client(command: &str) -> Output {
    let words = command.split_whitespace();
    let output = Command::new("ip").args(["netns", "exec", "gen"]).args(words).output();
    output.expect("`ip` (iproute2) is installed")
}

/// A process that ends with this value.
pub struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// DPDK's forwarder while it lives.
pub struct Testpmd(Child);

impl Testpmd {
    pub fn start() -> Self {
        let dut = Dut::Testpmd;
        let [ingress, egress] = dut.ports();
        let peer = mac("sink", &dut.sink()).map(|byte| format!("{byte:02x}")).join(":");
        let child = Command::new("ip")
            .args(["netns", "exec", &dut.namespace(), "dpdk-testpmd"])
            .args(["--no-huge", "--no-pci", "--no-telemetry", "-m", "512", "--lcores", "0@0,1@1"])
            .arg(format!("--vdev=net_af_packet0,iface={ingress},framesz=2048,blocksz=4096"))
            .arg(format!("--vdev=net_af_packet1,iface={egress},framesz=2048,blocksz=4096"))
            .args(["--", "--forward-mode=mac", "--auto-start", "--total-num-mbufs=16384"])
            .arg(format!("--eth-peer=1,{peer}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dpdk-testpmd starts");
        thread::sleep(Duration::from_secs(2));
        Self(child)
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Keeps the calling thread on a core.
pub fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).expect("the machine has two cores");
}

fn wire(dut: Dut) {
    let pair = |name: &str, from: &str, peer: &str, to: &str| {
        run(&format!(
            "ip link add {name} netns {from} mtu 1508 type veth peer name {peer} netns {to} mtu 1508"
        ));
        run(&format!("ip -n {from} link set {name} up"));
        run(&format!("ip -n {to} link set {peer} up"));
    };
    let (generator, sink) = (dut.generator(), dut.sink());
    if dut == Dut::Wire {
        pair(&generator, "gen", &sink, "sink");
    } else {
        let namespace = dut.namespace();
        run(&format!("ip netns add {namespace}"));
        inside(
            &namespace,
            "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1",
        );
        let [ingress, egress] = dut.ports();
        pair(&generator, "gen", &ingress, &namespace);
        pair(&egress, &namespace, &sink, "sink");
    }
    // What asks for it there is answered there.
    inside("sink", &format!("ip addr add 10.130.0.2/24 dev {sink}"));
}

fn inside(namespace: &str, command: &str) {
    run(&format!("ip netns exec {namespace} {command}"));
}

fn run(command: &str) {
    let mut words = command.split_whitespace();
    let program = words.next().expect("a command has a program");
    let status = Command::new(program).args(words).status();
    assert!(status.is_ok_and(|status| status.success()), "{command}");
}
