//! A port as the data path sees it: its MAC, its carrier, and the direct index from what a frame
//! carries outside its payload (tags or VNI) to the attachment it belongs to.

use crate::model::{AttachmentIndex, Encapsulation, PortEntry};
use crate::wire::MacAddr;

/// VLAN ids are 12 bits.
const VLANS: usize = 1 << 12;
/// No attachment. The highest index is not handed out: [`DemuxTable::insert`] refuses it.
const NONE: u16 = u16::MAX;

#[derive(Debug)]
pub struct Port {
    pub entry: PortEntry,
    pub mac: MacAddr,
    pub carrier: bool,
    pub demux: DemuxTable,
}

impl Port {
    pub fn new(entry: PortEntry) -> Self {
        Self { mac: entry.mac, entry, carrier: true, demux: DemuxTable::default() }
    }
}

/// Tags or VNI → attachment, in one or two loads. The tables of tags are made when the first
/// attachment needs them and freed with the last: 8 KiB each, one for each outer tag in use.
#[derive(Debug)]
pub struct DemuxTable {
    untagged: u16,
    single: Option<Box<Level>>,
    double: Vec<Option<Box<Level>>>,
    /// Sorted by VNI.
    vnis: Vec<(u32, AttachmentIndex)>,
}

impl Default for DemuxTable {
    fn default() -> Self {
        Self { untagged: NONE, single: None, double: Vec::new(), vnis: Vec::new() }
    }
}

impl DemuxTable {
    /// Gives the encapsulation to the attachment. False when another has it: two circuits never
    /// share a pair of tags on a port (F-05).
    #[must_use]
    pub fn insert(&mut self, encapsulation: Encapsulation, attachment: AttachmentIndex) -> bool {
        if attachment.0 == NONE || self.find(encapsulation).is_some_and(|owner| owner != attachment)
        {
            return false;
        }
        match encapsulation {
            Encapsulation::Untagged => self.untagged = attachment.0,
            Encapsulation::Dot1q(vlan) => {
                self.single.get_or_insert_default().set(vlan.get(), attachment.0);
            }
            Encapsulation::QinQ { outer, inner } => {
                self.double.resize_with(VLANS, || None);
                let inners = self.double[outer.get() as usize].get_or_insert_default();
                inners.set(inner.get(), attachment.0);
            }
            Encapsulation::Vni(vni) => {
                if let Err(at) = self.vnis.binary_search_by_key(&vni, |(vni, _)| *vni) {
                    self.vnis.insert(at, (vni, attachment));
                }
            }
        }
        true
    }

    /// Takes the encapsulation from the attachment, if it has it.
    pub fn remove(&mut self, encapsulation: Encapsulation, attachment: AttachmentIndex) {
        if self.find(encapsulation) != Some(attachment) {
            return;
        }
        match encapsulation {
            Encapsulation::Untagged => self.untagged = NONE,
            Encapsulation::Dot1q(vlan) => unset(&mut self.single, vlan.get()),
            Encapsulation::QinQ { outer, inner } => {
                unset(&mut self.double[outer.get() as usize], inner.get());
            }
            Encapsulation::Vni(vni) => self.vnis.retain(|(other, _)| *other != vni),
        }
    }

    pub fn find(&self, encapsulation: Encapsulation) -> Option<AttachmentIndex> {
        match encapsulation {
            Encapsulation::Untagged => self.untagged(),
            Encapsulation::Dot1q(vlan) => self.single(vlan.get()),
            Encapsulation::QinQ { outer, inner } => self.double(outer.get(), inner.get()),
            Encapsulation::Vni(vni) => self.vni(vni),
        }
    }

    pub fn untagged(&self) -> Option<AttachmentIndex> {
        some(self.untagged)
    }

    pub fn single(&self, vlan: u16) -> Option<AttachmentIndex> {
        some(self.single.as_ref()?.at(vlan))
    }

    pub fn double(&self, outer: u16, inner: u16) -> Option<AttachmentIndex> {
        some(self.double.get(outer as usize)?.as_ref()?.at(inner))
    }

    pub fn vni(&self, vni: u32) -> Option<AttachmentIndex> {
        let at = self.vnis.binary_search_by_key(&vni, |(vni, _)| *vni).ok()?;
        Some(self.vnis[at].1)
    }
}

fn some(slot: u16) -> Option<AttachmentIndex> {
    (slot != NONE).then_some(AttachmentIndex(slot))
}

/// Empties the slot, and gives the level back with its last one.
fn unset(level: &mut Option<Box<Level>>, vlan: u16) {
    if let Some(slots) = level {
        slots.set(vlan, NONE);
        if slots.used == 0 {
            *level = None;
        }
    }
}

/// One tag → attachment.
#[derive(Debug)]
struct Level {
    slots: [u16; VLANS],
    used: u16,
}

impl Default for Level {
    fn default() -> Self {
        Self { slots: [NONE; VLANS], used: 0 }
    }
}

impl Level {
    fn at(&self, vlan: u16) -> u16 {
        self.slots[vlan as usize % VLANS]
    }

    fn set(&mut self, vlan: u16, attachment: u16) {
        let slot = &mut self.slots[vlan as usize % VLANS];
        self.used -= u16::from(*slot != NONE);
        self.used += u16::from(attachment != NONE);
        *slot = attachment;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::VlanId;

    #[test]
    fn each_encapsulation_leads_to_its_own_attachment() {
        let vlan = |id| VlanId::new(id).unwrap();
        let all = [
            Encapsulation::Untagged,
            Encapsulation::Dot1q(vlan(10)),
            Encapsulation::QinQ { outer: vlan(10), inner: vlan(20) },
            Encapsulation::QinQ { outer: vlan(20), inner: vlan(10) },
            Encapsulation::Vni(10),
            Encapsulation::Vni(0x00ff_ffff),
        ];
        let mut table = DemuxTable::default();
        for (index, encapsulation) in all.into_iter().enumerate() {
            assert!(table.insert(encapsulation, AttachmentIndex(index as u16)));
            assert!(table.insert(encapsulation, AttachmentIndex(index as u16)));
            assert!(!table.insert(encapsulation, AttachmentIndex(100)), "{encapsulation:?}");
        }
        for (index, encapsulation) in all.into_iter().enumerate() {
            assert_eq!(table.find(encapsulation), Some(AttachmentIndex(index as u16)));
        }
        assert_eq!(table.double(10, 10), None);
        assert_eq!(table.single(20), None);
        for (index, encapsulation) in all.into_iter().enumerate() {
            table.remove(encapsulation, AttachmentIndex(100));
            assert!(table.find(encapsulation).is_some());
            table.remove(encapsulation, AttachmentIndex(index as u16));
            assert_eq!(table.find(encapsulation), None);
        }
        assert!(table.single.is_none() && table.double.iter().all(Option::is_none));
    }
}
