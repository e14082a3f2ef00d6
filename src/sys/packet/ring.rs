//! A queue of received frames that is looked at without a system call: slots that the kernel fills and
//! this process reads (packet_mmap, TPACKET_V2).
//!
//! ```text
//!  slot   │ status, lengths, tag │ virtio_net_hdr │ frame         │    the kernel's until it has a frame,
//!         0                                                   2 KiB   the reader's until it is released
//! ```
//!
//! A frame that is longer than a slot stands whole in the queue of the socket, and a slot in its place
//! says so: the order is that of arrival.

use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::socket::failed;
use super::{Error, Instruction, Socket, Tag, VnetHeader};

const SLOT: usize = 2048;
/// Some 6 ms of what one core receives at most; 4 MiB of the kernel's memory.
const SLOTS: usize = 2048;
/// The kernel allocates the ring in pieces of this.
const BLOCK: usize = 1 << 16;

/// Bits of a slot's status (linux/if_packet.h): the reader's; the frame stands in the socket's queue.
const STATUS_USER: u32 = 1;
const STATUS_COPY: u32 = 2;

/// A receiving socket with its ring.
#[derive(Debug)]
pub struct Ring {
    map: NonNull<u8>,
    /// The slot that is filled, or will be, before all others.
    next: usize,
    socket: Socket,
}

/// What stands in a slot that the kernel has filled.
#[derive(Clone, Copy, Debug)]
pub enum Slot<'a> {
    Frame {
        header: VnetHeader,
        /// The outer tag, when the kernel took one off.
        tag: Option<Tag>,
        bytes: &'a [u8],
    },
    /// A frame that is the first of the socket's queue.
    Queued,
    /// The socket's queue had no room for a frame.
    Lost,
}

// SAFETY: the mapping is this value's own, and what is read of it goes through `&self` and `&mut self`.
#[allow(unsafe_code)]
unsafe impl Send for Ring {}

impl Ring {
    /// What [`Socket::receiver`] gives, with a ring in front of its queue.
    pub fn receiver(name: &str, filter: &[Instruction]) -> Result<Self, Error> {
        let socket = Socket::receiver(name, filter)?;
        let request = libc::tpacket_req {
            tp_block_size: BLOCK as u32,
            tp_block_nr: (SLOTS * SLOT / BLOCK) as u32,
            tp_frame_size: SLOT as u32,
            tp_frame_nr: SLOTS as u32,
        };
        let version = libc::tpacket_versions::TPACKET_V2 as i32;
        let packet = |option, value: i32| socket.set(libc::SOL_PACKET, option, &value);
        packet(libc::PACKET_VERSION, version).map_err(failed(name, "PACKET_VERSION"))?;
        // Any but zero.
        packet(libc::PACKET_COPY_THRESH, 1).map_err(failed(name, "PACKET_COPY_THRESH"))?;
        socket
            .set(libc::SOL_PACKET, libc::PACKET_RX_RING, &request)
            .map_err(failed(name, "PACKET_RX_RING"))?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a mapping at an address of the kernel's choice touches no other memory. It is as
        // long as the ring, and is unmapped when this value goes and not before.
        // JUSTIFICATION: without the ring a look at a port is a system call, and so is every batch.
        #[allow(unsafe_code)]
        let map = unsafe {
            mmap(
                std::ptr::null_mut(),
                SLOTS * SLOT,
                protection,
                MapFlags::SHARED,
                socket.as_fd(),
                0,
            )
        };
        let map = map.map_err(|source| failed(name, "mmap")(source.into()))?;
        let map = NonNull::new(map.cast()).expect("a mapping is not at zero");
        Ok(Self { map, next: 0, socket })
    }

    /// What frames longer than a slot are received from.
    pub const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The first frame; none when there is none.
    #[inline]
    pub fn front(&self) -> Option<Slot<'_>> {
        self.filled(0)
    }

    /// How many frames from the front on stand in the socket's queue, at most `max`.
    pub fn queued(&self, max: usize) -> usize {
        let is_queued = |ahead: &usize| matches!(self.filled(*ahead), Some(Slot::Queued));
        (0..max.min(SLOTS)).take_while(is_queued).count()
    }

    /// Gives the front slot back to the kernel; it has been read.
    #[inline]
    pub fn release(&mut self) {
        self.status(self.next).store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % SLOTS;
    }

    #[inline]
    fn filled(&self, ahead: usize) -> Option<Slot<'_>> {
        let index = (self.next + ahead) % SLOTS;
        let status = self.status(index).load(Ordering::Acquire);
        if status & STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the slot lies in the mapping, is aligned as a page is, and the kernel does not write
        // to it before it is released, which takes `&mut self`.
        #[allow(unsafe_code)]
        let (header, slot) = unsafe {
            let place = self.map.add(index * SLOT);
            let header = place.cast::<libc::tpacket2_hdr>().as_ref();
            (header, std::slice::from_raw_parts(place.as_ptr(), SLOT))
        };
        if status & STATUS_COPY != 0 {
            return Some(Slot::Queued);
        }
        let (begin, length) = (usize::from(header.tp_mac), header.tp_snaplen as usize);
        let is_whole = header.tp_len == header.tp_snaplen;
        let parts = || {
            let front = begin.checked_sub(VnetHeader::LEN)?;
            let vnet = slot.get(front..begin)?.first_chunk()?;
            Some((VnetHeader::from_bytes(vnet), slot.get(begin..begin.checked_add(length)?)?))
        };
        Some(match parts() {
            Some((vnet, bytes)) if is_whole => {
                let tag = Tag::of(status, header.tp_vlan_tpid, header.tp_vlan_tci);
                Slot::Frame { header: vnet, tag, bytes }
            }
            _ => Slot::Lost,
        })
    }

    #[inline]
    fn status(&self, index: usize) -> &AtomicU32 {
        let at = index * SLOT + offset_of!(libc::tpacket2_hdr, tp_status);
        // SAFETY: a slot lies in the mapping, its status at its front and aligned; kernel and reader
        // both treat it as an atomic.
        #[allow(unsafe_code)]
        unsafe {
            AtomicU32::from_ptr(self.map.add(at).as_ptr().cast())
        }
    }
}

const _: () = assert!(BLOCK.is_multiple_of(SLOT) && size_of::<libc::tpacket2_hdr>() < SLOT);

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `receiver`, with this length, and nobody refers to it: what
        // does has borrowed `self`.
        #[allow(unsafe_code)]
        let _ = unsafe { munmap(self.map.as_ptr().cast(), SLOTS * SLOT) };
    }
}
