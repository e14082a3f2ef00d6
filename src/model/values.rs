//! Small checked values: what has a range is a type.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A value outside what ExpressRoute or the protocol allows.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValueError {
    #[error("VLAN id {0} is outside 1–4094")]
    Vlan(u64),
    #[error("ASN 0 is reserved (RFC 7607)")]
    AsnZero,
}

/// An autonomous system number, two or four octets, written asplain (RFC 5396).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Asn(u32);

impl Asn {
    /// Microsoft's side of every peering (L-08).
    pub const MICROSOFT: Self = Self(12076);
    /// VNet gateways (L-09).
    pub const GATEWAY: Self = Self(65515);
    /// What a 4-octet AS is called in 2-octet fields (RFC 6793).
    pub const TRANS: Self = Self(23456);

    pub const fn new(number: u32) -> Result<Self, ValueError> {
        if number == 0 { Err(ValueError::AsnZero) } else { Ok(Self(number)) }
    }

    pub const fn get(self) -> u32 {
        self.0
    }

    /// For private use: 64512–65534 and 4200000000–4294967294 (RFC 6996). 64496–64511 are for
    /// documentation and do not count.
    pub const fn is_private(self) -> bool {
        matches!(self.0, 64_512..=65_534 | 4_200_000_000..=4_294_967_294)
    }

    /// Reserved by Azure, so refused as a peer's ASN (L-09).
    pub const fn is_reserved_by_azure(self) -> bool {
        matches!(self.0, 65_515..=65_520)
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AS{}", self.0)
    }
}

/// A VLAN id, 1–4094 (IEEE 802.1Q; section 20).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VlanId(u16);

impl VlanId {
    pub const fn new(id: u64) -> Result<Self, ValueError> {
        if id >= 1 && id <= 4094 { Ok(Self(id as u16)) } else { Err(ValueError::Vlan(id)) }
    }

    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VLAN {}", self.0)
    }
}

/// A rate in bits a second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Bandwidth(u64);

impl Bandwidth {
    pub const fn from_bps(bits_per_second: u64) -> Self {
        Self(bits_per_second)
    }

    pub const fn from_mbps(megabits_per_second: u64) -> Self {
        Self(megabits_per_second * 1_000_000)
    }

    pub const fn bps(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] =
            [(1_000_000_000, "Gbps"), (1_000_000, "Mbps"), (1_000, "kbps")];
        for (unit, name) in UNITS {
            if self.0 >= unit {
                let whole = self.0 / unit;
                let tenths = self.0 % unit / (unit / 10);
                return match tenths {
                    0 => write!(f, "{whole} {name}"),
                    _ => write!(f, "{whole}.{tenths} {name}"),
                };
            }
        }
        write!(f, "{} bps", self.0)
    }
}

impl fmt::Debug for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The two links of a circuit, and the MSEE at the end of each. Both forward (section 1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkRole {
    Primary,
    Secondary,
}

impl LinkRole {
    pub const BOTH: [Self; 2] = [Self::Primary, Self::Secondary];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }
}

impl fmt::Display for LinkRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
