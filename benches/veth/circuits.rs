//! Whole labs: TCP and UDP of real hosts through a circuit, with the customer's tag on the wire and the
//! provider's in memory. One link, no delay of the provider's.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::median;
use crate::network::{Dut, server, within_client};

const MSEE: &str = env!("CARGO_BIN_EXE_msee");
const AZURE: &str = "10.1.0.4";
const ROUNDS: usize = 5;
const SECONDS: u32 = 4;
/// Payload of a UDP packet of 1,400 bytes, and what is around it.
const DATAGRAM: f64 = 1_372.0;
const UDP_HEADERS: f64 = 28.0;
/// Of UDP, and how many of its seconds at the front and at the end do not count: the bucket is full
/// at first, and the last second is not whole.
const UDP_SECONDS: u32 = 14;
const UDP_FRONT: usize = 2;
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
    println!(
        "\nUDP at {OFFERED} x the rate for {UDP_SECONDS} s: IP bytes delivered / rate, of the seconds between"
    );
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
        fs::create_dir_all(&folder).expect("/run is this bench's own");
        let file = folder.join("lab.yaml");
        fs::write(&file, text(mbps)).expect("the folder is there");
        let lab = Self { folder };
        let file = file.to_str().expect("a plain path");
        assert!(lab.msee(&["lab", "up", file, "--detach"]).status.success(), "the lab comes up");
        assert!(lab.exec("hub.app", "iperf3 -s -D -J").status.success(), "iperf3 is installed");
        lab
    }

    /// Gbit/s of payload.
    fn tcp(&self, flows: u32) -> f64 {
        let client = format!("iperf3 -c {AZURE} -J -t {SECONDS} -O 1 -P {flows}");
        received(&json(&self.exec("dc1.erp", &client)))
    }

    /// Share of the rate that arrived.
    fn udp(&self, mbps: u32) -> f64 {
        let offered = f64::from(mbps) * OFFERED;
        let client = format!(
            "iperf3 -u -c {AZURE} -J -t {UDP_SECONDS} -b {offered}M -l {DATAGRAM} --get-server-output"
        );
        let client = json(&self.exec("dc1.erp", &client));
        let server = &client["server_output_json"]["intervals"];
        let intervals = server.as_array().expect("the server says what it has received");
        let counted = &intervals[UDP_FRONT..UDP_SECONDS as usize - 1];
        let sum = |key: &str| -> f64 {
            counted.iter().filter_map(|interval| interval["sum"][key].as_f64()).sum()
        };
        let packets = sum("bytes") / DATAGRAM;
        packets * (DATAGRAM + UDP_HEADERS) * 8.0 / sum("seconds") / (f64::from(mbps) * 1e6)
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
      - {{ name: ce1, uplinks: [ {{ circuit: ams, link: primary }} ] }}
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
