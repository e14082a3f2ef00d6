//! Many frames a system call: `recvmmsg` and `sendmmsg`.
//!
//! JUSTIFICATION for what is `unsafe` here: one system call a packet carries 0.3 Mpps over veth,
//! batches of 64 carry 0.9, and no crate in use has `recvmmsg`.

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd};

use super::Socket;

/// What stands in front of every frame (`struct virtio_net_hdr`), in the host's byte order.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct VnetHeader {
    pub flags: u8,
    pub gso_type: u8,
    /// Bytes in front of a super-frame's payload.
    pub header_len: u16,
    pub gso_size: u16,
    /// Bytes in front of the transport header whose checksum is left to be completed.
    pub checksum_start: u16,
    /// Bytes of that header in front of its checksum.
    pub checksum_offset: u16,
}

const _: () = assert!(size_of::<VnetHeader>() == VnetHeader::LEN);

impl VnetHeader {
    pub const LEN: usize = 10;

    /// What stands in front of a frame that is sent.
    #[inline]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [self.flags, self.gso_type, 0, 0, 0, 0, 0, 0, 0, 0];
        let words = [self.header_len, self.gso_size, self.checksum_start, self.checksum_offset];
        for (place, word) in bytes[2..].chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    #[inline]
    pub(super) fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            header_len: word(2),
            gso_size: word(4),
            checksum_start: word(6),
            checksum_offset: word(8),
        }
    }
}

/// An outer tag that the kernel took off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    pub tpid: u16,
    /// Priority, drop eligibility and VLAN id. Zero is legal.
    pub control: u16,
}

/// Bits of `tp_status` (linux/if_packet.h).
const STATUS_VLAN_VALID: u32 = 0x10;
const STATUS_VLAN_TPID_VALID: u32 = 0x40;
/// IEEE 802.1Q, which kernels mean that do not say the TPID.
const TPID_8021Q: u16 = 0x8100;

impl Tag {
    /// Of what the kernel says beside a frame.
    #[inline]
    pub(super) const fn of(status: u32, tpid: u16, control: u16) -> Option<Self> {
        if status & STATUS_VLAN_VALID == 0 {
            return None;
        }
        let tpid = if status & STATUS_VLAN_TPID_VALID != 0 { tpid } else { TPID_8021Q };
        Some(Self { tpid, control })
    }
}

/// One ancillary message of auxiliary data, which is all that these sockets are asked for.
#[derive(Clone, Copy)]
#[repr(C)]
struct Ancillary {
    header: libc::cmsghdr,
    data: libc::tpacket_auxdata,
    padding: [u8; 4],
}

const _: () = assert!(offset_of!(Ancillary, data) == size_of::<libc::cmsghdr>());
const _: () = assert!(size_of::<Ancillary>().is_multiple_of(align_of::<libc::cmsghdr>()));

/// The two buffers of a frame. It is received behind `headroom` of the small one; what does not
/// fit goes into the large one, at the place it has when the front is copied there.
struct Buffers {
    small: Box<[u8]>,
    large: Box<[u8]>,
}

/// Receives batches of frames into buffers that can be taken away.
pub struct Receiver {
    buffers: Vec<Buffers>,
    headers: Vec<VnetHeader>,
    ancillary: Vec<Ancillary>,
    vectors: Vec<[libc::iovec; 3]>,
    messages: Vec<libc::mmsghdr>,
    headroom: usize,
    /// Messages that the last call filled: they are made anew before the next.
    filled: usize,
}

/// One frame that has arrived.
#[derive(Debug)]
pub struct Arrival<'a> {
    pub header: VnetHeader,
    /// The outer tag, when the kernel took one off.
    pub tag: Option<Tag>,
    /// Bytes of the frame without the tag.
    pub len: usize,
    /// Whether the frame was longer than both buffers.
    pub truncated: bool,
    /// The frame behind the headroom, or its front. May be swapped for another of the same length.
    pub small: &'a mut Box<[u8]>,
    /// What did not fit, from index `small.len()` on. May be swapped for another of the same length.
    pub large: &'a mut Box<[u8]>,
}

// SAFETY: the pointers in `vectors` and `messages` lead to memory that `self` owns, and nothing but
// `receive`, which has `&mut self`, follows them.
#[allow(unsafe_code)]
unsafe impl Send for Receiver {}

impl Receiver {
    /// A receiver of up to `batch` frames a call; `headroom` bytes stay free in front of each.
    pub fn new(batch: usize, headroom: usize, small_len: usize, large_len: usize) -> Self {
        assert!(headroom < small_len && small_len < large_len, "buffers have room");
        let buffers = || Buffers {
            small: vec![0; small_len].into_boxed_slice(),
            large: vec![0; large_len].into_boxed_slice(),
        };
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let mut receiver = Self {
            buffers: (0..batch).map(|_| buffers()).collect(),
            headers: vec![VnetHeader::default(); batch],
            ancillary: vec![zeroed_ancillary(); batch],
            vectors: vec![[empty; 3]; batch],
            messages: vec![zeroed_message(); batch],
            headroom,
            filled: 0,
        };
        for at in 0..batch {
            receiver.prepare(at);
        }
        receiver
    }

    /// Receives at most `max` frames, and returns how many: none when there are none.
    pub fn receive(&mut self, socket: &Socket, max: usize) -> io::Result<usize> {
        for at in 0..std::mem::take(&mut self.filled) {
            self.prepare(at);
        }
        let max = max.min(self.messages.len());
        loop {
            // SAFETY: the first `max` messages are as `prepare` made them: their vectors, buffers
            // and ancillary space are owned by `self`, were not moved or freed since, and are as
            // long as the messages say.
            #[allow(unsafe_code)]
            let received = unsafe {
                libc::recvmmsg(
                    socket.as_fd().as_raw_fd(),
                    self.messages.as_mut_ptr(),
                    max as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                    std::ptr::null_mut(),
                )
            };
            if received >= 0 {
                self.filled = received as usize;
                return Ok(self.filled);
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => return Ok(0),
                _ => return Err(error),
            }
        }
    }

    /// A frame of the last call.
    #[inline]
    pub fn arrival(&mut self, at: usize) -> Arrival<'_> {
        assert!(at < self.filled, "the last call received so many frames");
        let message = &self.messages[at];
        let Buffers { small, large } = &mut self.buffers[at];
        Arrival {
            header: self.headers[at],
            tag: tag_of(&self.ancillary[at], message.msg_hdr.msg_controllen as _),
            len: (message.msg_len as usize).saturating_sub(VnetHeader::LEN),
            truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            small,
            large,
        }
    }

    /// Makes a message ready to be received into.
    fn prepare(&mut self, at: usize) {
        let Buffers { small, large } = &mut self.buffers[at];
        let small_len = small.len();
        self.vectors[at] = [
            vector(std::slice::from_mut(&mut self.headers[at])),
            vector(&mut small[self.headroom..]),
            vector(&mut large[small_len..]),
        ];
        let message = &mut self.messages[at].msg_hdr;
        message.msg_iov = self.vectors[at].as_mut_ptr();
        message.msg_iovlen = self.vectors[at].len() as _;
        message.msg_control = (&raw mut self.ancillary[at]).cast();
        message.msg_controllen = size_of::<Ancillary>() as _;
    }
}

/// Sends batches of frames.
pub struct Sender {
    vectors: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
}

// SAFETY: the pointers in `vectors` and `messages` are followed only by the call that wrote them.
#[allow(unsafe_code)]
unsafe impl Send for Sender {}

impl Sender {
    /// A sender of up to `batch` frames a call.
    pub fn new(batch: usize) -> Self {
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Self { vectors: vec![empty; batch], messages: vec![zeroed_message(); batch] }
    }

    /// Sends frames, each with a [`VnetHeader`] in front, in order, as many as fit in a batch and the
    /// kernel takes, and returns how many it took: none of no frames. An error is that of the first
    /// frame.
    pub fn send<'a>(
        &mut self,
        socket: &Socket,
        frames: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for (bytes, at) in frames.zip(0..self.messages.len()) {
            // The kernel only reads what is sent.
            self.vectors[at] =
                libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            let message = &mut self.messages[at].msg_hdr;
            message.msg_iov = &raw mut self.vectors[at];
            message.msg_iovlen = 1;
            count = at + 1;
        }
        if count == 0 {
            return Ok(0);
        }
        loop {
            // SAFETY: the first `count` messages lead to the frames' bytes,
            // which live for `'a`; the kernel reads them and writes only the messages' lengths.
            #[allow(unsafe_code)]
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_fd().as_raw_fd(),
                    self.messages.as_mut_ptr(),
                    count as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                )
            };
            if sent >= 0 {
                return Ok(sent as usize);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

fn tag_of(ancillary: &Ancillary, len: usize) -> Option<Tag> {
    let Ancillary { header, data, .. } = ancillary;
    let is_auxdata =
        header.cmsg_level == libc::SOL_PACKET && header.cmsg_type == libc::PACKET_AUXDATA;
    let is_whole = len >= size_of::<libc::cmsghdr>() + size_of::<libc::tpacket_auxdata>();
    if !is_auxdata || !is_whole {
        return None;
    }
    Tag::of(data.tp_status, data.tp_vlan_tpid, data.tp_vlan_tci)
}

fn vector<T>(place: &mut [T]) -> libc::iovec {
    libc::iovec { iov_base: place.as_mut_ptr().cast(), iov_len: size_of_val(place) }
}

fn zeroed_message() -> libc::mmsghdr {
    // SAFETY: the type is made of integers and pointers, of which zero is a value: no address, no
    // vectors, no ancillary data.
    // JUSTIFICATION: the type has private padding on some targets, so that it cannot be written out.
    #[allow(unsafe_code)]
    unsafe {
        std::mem::zeroed()
    }
}

fn zeroed_ancillary() -> Ancillary {
    // SAFETY: the type is made of integers, of which zero is a value.
    // JUSTIFICATION: as for messages.
    #[allow(unsafe_code)]
    unsafe {
        std::mem::zeroed()
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Receiver of {}", self.messages.len())
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sender of {}", self.messages.len())
    }
}
