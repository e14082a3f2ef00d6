//! Why a host does not let an ordinary user make namespaces, and what its owner does about it.

use std::fs;
use std::io;

use rustix::io::Errno;
use thiserror::Error;

/// The host's own setting that is in the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Denied {
    /// Ubuntu 24.04 and later: a namespace is made, its owner has no capabilities in it.
    #[error(
        "AppArmor denies user namespaces on this host: `sudo sysctl -w \
         kernel.apparmor_restrict_unprivileged_userns=0` allows them"
    )]
    AppArmor,
    /// Debian's switch.
    #[error(
        "user namespaces are switched off on this host: `sudo sysctl -w \
         kernel.unprivileged_userns_clone=1` switches them on"
    )]
    SwitchedOff,
    #[error(
        "this host allows no further user namespace: `sudo sysctl -w \
         user.max_user_namespaces=10000` allows more"
    )]
    TooMany,
    #[error(
        "this process may not make user namespaces: in a container, start it with \
         `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`, or as root with \
         `--privileged`"
    )]
    Filtered,
}

impl Denied {
    const ALL: [Self; 4] = [Self::AppArmor, Self::SwitchedOff, Self::TooMany, Self::Filtered];

    /// A byte that is no text and not zero, for another process.
    pub(super) const fn code(self) -> u8 {
        self as u8 + 1
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|denied| denied.code() == code)
    }

    /// What an error while a sandbox is made is due to, if to one of these.
    pub fn from_error(error: &io::Error) -> Option<Self> {
        let setting = |path: &str| fs::read_to_string(path).ok();
        Self::from_settings(error, setting)
    }

    fn from_settings(error: &io::Error, setting: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let is = |path: &str, value: &str| setting(path).is_some_and(|text| text.trim() == value);
        match Errno::from_io_error(error)? {
            Errno::NOSPC | Errno::USERS => Some(Self::TooMany),
            Errno::PERM | Errno::ACCESS => {
                Some(if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
                    Self::AppArmor
                } else if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
                    Self::SwitchedOff
                } else if is("/proc/sys/user/max_user_namespaces", "0") {
                    Self::TooMany
                } else {
                    Self::Filtered
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_that_is_in_the_way_is_named_and_no_other_error_is_blamed_on_one() {
        let cause = |errno: Errno, name: &'static str, value: &str| {
            let setting = |path: &str| path.ends_with(name).then(|| format!("{value}\n"));
            Denied::from_settings(&errno.into(), setting)
        };
        let app_armor = "kernel/apparmor_restrict_unprivileged_userns";
        assert_eq!(cause(Errno::PERM, app_armor, "1"), Some(Denied::AppArmor));
        assert_eq!(cause(Errno::ACCESS, app_armor, "1"), Some(Denied::AppArmor));
        assert_eq!(cause(Errno::PERM, app_armor, "0"), Some(Denied::Filtered));
        let switch = "kernel/unprivileged_userns_clone";
        assert_eq!(cause(Errno::PERM, switch, "0"), Some(Denied::SwitchedOff));
        let limit = "user/max_user_namespaces";
        assert_eq!(cause(Errno::NOSPC, limit, "7"), Some(Denied::TooMany));
        assert_eq!(cause(Errno::PERM, limit, "0"), Some(Denied::TooMany));
        assert_eq!(cause(Errno::NOENT, app_armor, "1"), None);
    }
}
