//! Whole labs: TCP and UDP of real hosts through a circuit, with the customer's tag on the wire and the
//! provider's in memory. The other link of the circuit stands by; no delay of the provider's. From Azure,
//! as what leaves Azure passes no gateway, whose limits are below these.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::network::{Dut, server, within_client};
use crate::{MSEE, median};

const AZURE: &str = "10.1.0.4";
const ROUNDS: usize = 5;
const SECONDS: u32 = 4;
/// Bytes of a UDP packet, and of what is around its payload.
const IP_PACKET: u32 = 1_400;
const UDP_HEADERS: u32 = 28;
/// Seconds that count, and those on both sides that do not: the bucket is full at first.
const UDP_WINDOW: u64 = 12;
const UDP_EDGE: u64 = 2;
const OFFERED: f64 = 1.2;

/// TCP through 10 Gbps and through the kernel in turns.
pub fn tcp() {
    let lab = Lab::up(10_000);
    let mut rates = [const { Vec::new() }; 3];
    for round in 1..=ROUNDS {
        eprintln!("TCP: round {round} of {ROUNDS}");
        rates[0].push(kernel());
        rates[1].push(lab.tcp(1));
        rates[2].push(lab.tcp(4));
    }
    let names =
        ["kernel forwarding, MTU 1,508, one flow", "10 Gbps, one flow", "10 Gbps, four flows"];
    println!("\nTCP, Gbit/s of payload: median, least, most of {ROUNDS}");
    for (name, rates) in names.iter().zip(&mut rates) {
        let rate = median(rates);
        println!("{name:40} {rate:6.2} {:6.2} {:6.2}", rates[0], rates[ROUNDS - 1]);
    }
    drop(lab);
    println!("\nFour TCP flows, payload / rate: median of {ROUNDS}");
    for mbps in [50, 1_000] {
        let lab = Lab::up(mbps);
        let mut shares: Vec<_> = (0..ROUNDS).map(|_| lab.tcp(4) * 1e3 / f64::from(mbps)).collect();
        println!("{:40} {:6.3}", format!("{mbps} Mbps"), median(&mut shares));
    }
}

/// UDP at 1.2 times the rate of a circuit.
pub fn udp() {
    println!("\nUDP at {OFFERED} x the rate: IP bytes delivered in {UDP_WINDOW} s / rate");
    for mbps in [50, 1_000] {
        eprintln!("UDP: {mbps} Mbps");
        let lab = Lab::up(mbps);
        println!("{:40} {:8.5}", format!("{mbps} Mbps"), lab.udp(mbps));
    }
}

/// One flow through a kernel that forwards.
fn kernel() -> f64 {
    let _server = server(Dut::Kernel);
    let output = within_client(&format!("iperf3 -c 10.130.0.2 -J -t {SECONDS}"));
    received(&json(&output))
}

/// A lab that runs until it is dropped.
struct Lab {
    folder: PathBuf,
}

impl Lab {
    fn up(mbps: u32) -> Self {
        let folder = PathBuf::from(format!("/run/circuit-{mbps}"));
        // As a user's runtime directory is.
        let made = DirBuilder::new().mode(0o700).recursive(true).create(&folder);
        made.expect("/run is this bench's own");
        let file = folder.join("lab.yaml");
        fs::write(&file, text(mbps)).expect("the folder is there");
        let lab = Self { folder };
        let file = file.to_str().expect("a plain path");
        let up = lab.msee(&["lab", "up", file, "--detach"]);
        assert!(up.status.success(), "the lab comes up: {up:?}");
        let server = lab.exec("hub.app", "iperf3 -s -D -J");
        assert!(server.status.success(), "iperf3 is installed: {server:?}");
        lab
    }

    /// Gbit/s of payload.
    fn tcp(&self, flows: u32) -> f64 {
        let client = format!("iperf3 -c {AZURE} -R -J -t {SECONDS} -O 1 -P {flows}");
        received(&json(&self.exec("dc1.erp", &client)))
    }

    /// Share of the rate that arrived at the host's interface.
    fn udp(&self, mbps: u32) -> f64 {
        let offered = f64::from(mbps) * OFFERED;
        let length = IP_PACKET - UDP_HEADERS;
        let seconds = 2 * UDP_EDGE + UDP_WINDOW;
        let client = format!("iperf3 -u -c {AZURE} -R -J -t {seconds} -b {offered}M -l {length}");
        thread::scope(|scope| {
            let client = scope.spawn(move || json(&self.exec("dc1.erp", &client)));
            thread::sleep(Duration::from_secs(UDP_EDGE));
            let before = self.received_packets();
            thread::sleep(Duration::from_secs(UDP_WINDOW));
            let after = self.received_packets();
            client.join().expect("iperf3 came to its end");
            let bits = (after.0 - before.0) * f64::from(IP_PACKET) * 8.0;
            bits / (after.1 - before.1) / (f64::from(mbps) * 1e6)
        })
    }

    /// Packets that the site's host has received, and the second at which it had.
    fn received_packets(&self) -> (f64, f64) {
        let script = "cat /proc/net/dev; date +%s.%N";
        let output = self.msee(&["lab", "exec", "dc1.erp", "--", "sh", "-c", script]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines = text.lines().rev();
        let second = lines.next().and_then(|line| line.parse().ok());
        let received = lines
            .filter(|line| !line.trim_start().starts_with("lo:"))
            .filter_map(|line| line.split_whitespace().nth(2)?.parse::<f64>().ok());
        (received.sum(), second.unwrap_or_else(|| panic!("no counters: {output:?}")))
    }

    fn exec(&self, node: &str, command: &str) -> Output {
        let words = command.split_whitespace();
        let arguments: Vec<_> = ["lab", "exec", node, "--"].into_iter().chain(words).collect();
        self.msee(&arguments)
    }

    fn msee(&self, arguments: &[&str]) -> Output {
        let mut msee = Command::new(MSEE);
        msee.args(arguments).env("XDG_RUNTIME_DIR", &self.folder);
        msee.output().expect("msee was built with this")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.msee(&["lab", "down"]);
    }
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("iperf3 said: {output:?}"))
}

/// Gbit/s that an iperf3 client's server has received.
fn received(client: &Value) -> f64 {
    let rate = client["end"]["sum_received"]["bits_per_second"].as_f64();
    rate.unwrap_or_else(|| panic!("no result: {client}")) / 1e9
}

fn text(mbps: u32) -> String {
    format!(
        "\
name: circuit
seed: 7
circuits:
  - name: ams
    serviceProviderProperties:
      {{ serviceProviderName: Equinix, peeringLocation: Amsterdam, bandwidthInMbps: {mbps} }}
    sku: {{ tier: Standard, family: MeteredData }}
    stag: 2101
    provider: {{ delay: 0ms }}
    peerings:
      - {{ peeringType: AzurePrivatePeering, peerASN: 65010, vlanId: 100,
          primaryPeerAddressPrefix: 172.16.0.0/30, secondaryPeerAddressPrefix: 172.16.0.4/30 }}
sites:
  - name: dc1
    asn: 65010
    networks: [ {{ name: erp, prefix: 192.168.0.0/22 }} ]
    routers:
      - {{ name: ce1, uplinks: [ {{ circuit: ams, link: primary }} ], gatewayOf: [erp], ibgp: [ce2] }}
      - name: ce2
        uplinks: [ {{ circuit: ams, link: secondary }} ]
        policy: {{ export: {{ prepend: 2 }}, import: {{ localPreference: 50 }} }}
virtualNetworks:
  - name: hub
    location: westeurope
    addressPrefixes: [10.1.0.0/16]
    hosts: [ {{ name: app, address: 10.1.0.4 }} ]
    gateways:
      - {{ name: er, gatewayType: ExpressRoute, sku: ErGw2AZ, connections: [ {{ circuit: ams }} ] }}
"
    )
}
