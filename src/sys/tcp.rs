//! TCP of the kernel, as hosts have it: sockets that never block, and what the kernel tells of them
//! (tcp(7)). A socket stays in the network namespace of the thread that opened it.

use std::io;
use std::mem;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect as connect_to, listen as listen_at,
    socket_with, sockopt,
};

/// What Linux controls congestion with unless its owner has chosen something else (RFC 9438).
const CONGESTION_CONTROL: &str = "cubic";
/// Connections that wait to be accepted.
const BACKLOG: i32 = 4_096;

/// Some of what the kernel knows of a connection (TCP_INFO). Counts are of the whole connection.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Info {
    /// Bytes that the peer has, from the first one on; the SYN may count as one.
    pub acknowledged: u64,
    /// Whether something is on the way or waits to leave.
    pub is_busy: bool,
    /// Segments with data that left, again or not.
    pub segments: u64,
    /// Those that left again, the SYN among them.
    pub retransmitted: u64,
    /// Retransmission timers that ran out; on kernels before 6.7 those since the last progress.
    pub timeouts: u64,
    /// Smoothed; zero before the first measurement.
    pub round_trip: Duration,
}

/// Waits for connections at an address.
pub fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(at)?;
    bind(&socket, &at)?;
    listen_at(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Begins to open a connection; it is open, or has failed, when the socket becomes writable. It ends
/// with a reset.
///
/// # Errors
/// The host has no CUBIC, or the address is not one of this namespace.
pub fn connect(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = open(from)?;
    sockopt::set_tcp_congestion(&socket, CONGESTION_CONTROL)?;
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    bind(&socket, &from)?;
    match connect_to(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(error) => Err(error.into()),
    }
}

/// Whether this namespace has what [`connect`] needs.
pub fn has_cubic() -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    Ok(sockopt::set_tcp_congestion(&socket, CONGESTION_CONTROL)?)
}

/// What the kernel knows of a connection.
#[allow(unsafe_code)]
pub fn info(stream: &TcpStream) -> io::Result<Info> {
    // SAFETY: `tcp_info` is integers only, so that zeroes are a value of it; the kernel writes at
    // most `len` bytes to it and says in `len` how many.
    // JUSTIFICATION: neither std nor rustix reads TCP_INFO.
    let (info, len) = unsafe {
        let mut info: libc::tcp_info = mem::zeroed();
        let mut len = mem::size_of::<libc::tcp_info>() as libc::socklen_t;
        let place = (&raw mut info).cast();
        let fd = stream.as_fd().as_raw_fd();
        if libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, place, &raw mut len) < 0 {
            return Err(io::Error::last_os_error());
        }
        (info, len as usize)
    };
    let counts_timeouts = len > mem::offset_of!(libc::tcp_info, tcpi_total_rto);
    let timeouts = if counts_timeouts { info.tcpi_total_rto } else { info.tcpi_retransmits.into() };
    Ok(Info {
        acknowledged: info.tcpi_bytes_acked,
        is_busy: info.tcpi_unacked > 0 || info.tcpi_notsent_bytes > 0,
        segments: info.tcpi_data_segs_out.into(),
        retransmitted: info.tcpi_total_retrans.into(),
        timeouts: timeouts.into(),
        round_trip: Duration::from_micros(info.tcpi_rtt.into()),
    })
}

fn open(at: SocketAddr) -> io::Result<std::os::fd::OwnedFd> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::thread::sleep;

    use super::*;

    #[test]
    fn what_is_written_arrives_and_is_counted() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let listener = listen(any).unwrap();
        // A host may have reserved CUBIC to its owner.
        let Ok(mut writer) = connect(any, listener.local_addr().unwrap()) else { return };
        let mut accepted = listener.accept();
        while accepted.is_err() {
            sleep(Duration::from_millis(1));
            accepted = listener.accept();
        }
        writer.write_all(b"hello").unwrap();
        let (mut reader, _) = accepted.unwrap();
        let mut bytes = [0; 5];
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
        while info(&writer).unwrap().is_busy {
            sleep(Duration::from_millis(1));
        }
        let info = info(&writer).unwrap();
        assert_eq!((info.segments, info.retransmitted, info.timeouts), (1, 0, 0));
        assert!(info.acknowledged >= 5 && info.round_trip > Duration::ZERO, "{info:?}");
    }
}
