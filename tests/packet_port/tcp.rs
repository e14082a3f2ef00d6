//! The kernel's TCP through relays of ports.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

use msee::io::packet::Mode;

use crate::namespaces::{Namespace, isolated, run, veth};
use crate::relay::{Relay, Seen, Way};

const MIB: usize = 1 << 20;

/// What a connection carries: no block is like another, and no segment like its neighbour.
fn content(block: usize) -> Vec<u8> {
    let words =
        (0..MIB / 8).map(|at| ((block << 32 | at) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    words.flat_map(u64::to_le_bytes).collect()
}

/// Listens at `address`, which stands when this returns, and reads so many blocks from one
/// connection.
fn serve(namespace: &Namespace, address: SocketAddr, blocks: usize) -> JoinHandle<()> {
    let listener = namespace.spawn(move || TcpListener::bind(address).unwrap()).join().unwrap();
    namespace.spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = vec![0; MIB];
        for block in 0..blocks {
            stream.read_exact(&mut received).unwrap();
            assert!(received == content(block), "block {block} is not what was sent");
        }
        assert_eq!(stream.read(&mut received).unwrap(), 0, "and then the end");
    })
}

/// Sends so many blocks, and returns segments retransmitted.
fn deliver(namespace: &Namespace, address: SocketAddr, blocks: usize) -> u64 {
    let sender = namespace.spawn(move || {
        let before = retransmitted();
        let mut stream = TcpStream::connect(address).unwrap();
        for block in 0..blocks {
            stream.write_all(&content(block)).unwrap();
        }
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        retransmitted() - before
    });
    sender.join().unwrap()
}

/// Segments that the calling thread's network namespace has retransmitted.
fn retransmitted() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|name| name == "RetransSegs").unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

/// Two hosts with a link each, whose other ends are `r0` and `r3` here, in both families.
fn hosts() -> [Namespace; 2] {
    veth(["left", "r0"], 1508);
    veth(["right", "r3"], 1508);
    let hosts = [Namespace::new(), Namespace::new()];
    for (host, (interface, number)) in hosts.iter().zip([("left", 1), ("right", 2)]) {
        host.take(interface, &format!("10.0.0.{number}/24"));
        // The default: what a tag adds is not the host's.
        host.run("ip", &format!("link set {interface} mtu 1500"));
        host.run("ip", &format!("addr add fd00::{number}/64 dev {interface} nodad"));
    }
    hosts
}

/// Sends blocks from left to right over each family, and returns segments retransmitted.
fn exchange([left, right]: &[Namespace; 2], blocks: usize) -> u64 {
    let addresses = ["10.0.0.2:5001", "[fd00::2]:5001"];
    addresses
        .map(|address| {
            let address = address.parse().unwrap();
            let server = serve(right, address, blocks);
            let lost = deliver(left, address, blocks);
            server.join().unwrap();
            lost
        })
        .iter()
        .sum()
}

/// What was sent arrived as super-frames, with next to nothing twice.
fn assert_whole(seen: &Seen, lost: u64, blocks: u64) {
    assert!(seen.super_frames[0] > blocks && seen.longest > 20, "{seen:?}");
    assert!(lost * 100 < seen.counters[0].received, "{lost} retransmitted, {seen:?}");
    for counters in seen.counters {
        assert_eq!((counters.receive_dropped, counters.transmit_dropped), (0, 0), "{seen:?}");
    }
}

#[test]
fn tcp_passes_a_relay_as_super_frames() {
    isolated("tcp::tcp_passes_a_relay_as_super_frames", || {
        let hosts = hosts();
        let relay = Relay::start(["r0", "r3"], Mode::VnetHdr, &[], &[]);
        let lost = exchange(&hosts, 200);
        assert_whole(&relay.stop(), lost, 200);
    });
}

/// The offset of a partial checksum moves with the tags, and so does the length of the headers:
/// otherwise no connection comes up.
#[test]
fn tcp_passes_with_two_tags_on_the_wire() {
    isolated("tcp::tcp_passes_with_two_tags_on_the_wire", || {
        let hosts = hosts();
        veth(["r1", "r2"], 1508);
        let push = [Way::Push(100), Way::Push(2101)];
        let pop = [Way::Pop, Way::Pop];
        let first = Relay::start(["r0", "r1"], Mode::VnetHdr, &push, &pop);
        let second = Relay::start(["r2", "r3"], Mode::VnetHdr, &pop, &push);
        let lost = exchange(&hosts, 200);
        for relay in [first, second] {
            assert_whole(&relay.stop(), lost, 200);
        }
    });
}

/// The receiving kernel checks every checksum, since nothing says that it need not.
#[test]
fn tcp_leaves_an_attached_port_in_ordinary_frames() {
    isolated("tcp::tcp_leaves_an_attached_port_in_ordinary_frames", || {
        let hosts = hosts();
        veth(["r1", "r2"], 1508);
        let first = Relay::start(["r0", "r1"], Mode::Attached, &[Way::Push(100)], &[Way::Pop]);
        let second = Relay::start(["r2", "r3"], Mode::Attached, &[Way::Pop], &[Way::Push(100)]);
        exchange(&hosts, 50);
        let [first, second] = [first, second].map(Relay::stop);
        assert!(first.super_frames[0] > 50, "{first:?}");
        assert_eq!((second.super_frames[0], second.partial[0]), (0, 0), "{second:?}");
        assert!(second.counters[0].received > 50_000);
    });
}

/// As with `tso off`: the way past the queueing discipline refuses every super-frame.
#[test]
fn super_frames_that_the_driver_refuses_go_through_the_queue() {
    isolated("tcp::super_frames_that_the_driver_refuses_go_through_the_queue", || {
        let hosts = hosts();
        for interface in ["r0", "r3"] {
            run("ip", &format!("link set {interface} gso_max_size 1600"));
        }
        let relay = Relay::start(["r0", "r3"], Mode::VnetHdr, &[], &[]);
        let lost = exchange(&hosts, 50);
        assert_whole(&relay.stop(), lost, 50);
    });
}
