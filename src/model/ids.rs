//! Indexes of things inside one running router. Configuration names things; only the forwarding
//! side and the stream of changes to it use these.

use serde::{Deserialize, Serialize};

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        pub struct $name(pub u16);

        impl $name {
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

index! {
    /// A port of a router.
    PortIndex
}
index! {
    /// An attachment: (port, encapsulation) → VRF or cross-connect.
    AttachmentIndex
}
index! {
    /// A VRF of a router.
    VrfIndex
}
index! {
    /// A limiter: one bucket, possibly shared by several attachments.
    LimiterIndex
}
index! {
    /// A group of next hops in one VRF's table. Zero is reserved: no route.
    GroupIndex
}

impl GroupIndex {
    pub const NO_ROUTE: Self = Self(0);
}
