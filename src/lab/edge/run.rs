//! How FRR and BIRD are run as a router of a lab: files, mounts, commands, and what tells that they
//! are ready. Plain data; who starts processes and makes namespaces does the rest.
//!
//! A router has a network namespace and a mount namespace of its own. Its daemons find their files
//! where a packaged installation has them (`/etc/frr`, `/run/frr`, `/run/bird`), so `vtysh` and
//! `birdc` work there without an option. Nothing of it needs root: inside a user namespace the
//! daemons are told to stay the user they are (`-u root -g root`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::config::lab::{Lab, RouterKind};
use crate::lab::edge::{Customer, INTERFACE_NAME_LEN_MAX, Link, Ports, bird, birdc, frr};
use crate::model::{Encapsulation, Prefix};

pub use birdc::{Orders, orders};
pub use frr::lines_between;

/// A daemon that did not end this long after SIGTERM is killed.
pub const STOP_WITHIN: Duration = Duration::from_secs(2);
/// A command that is not ready after this long has failed; its log says why.
pub const READY_WITHIN: Duration = Duration::from_secs(10);

/// Settings of the kernel in the router's namespace, below `/proc/sys`, to be written before
/// interfaces are there: new ones take the defaults. A router forwards, may answer by another link
/// than it was asked on, spreads flows over equal paths by their ports too, and uses an IPv6 address
/// at once, without asking whether it is taken.
pub const SETTINGS: &[(&str, &str)] = &[
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv6/conf/default/forwarding", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv4/fib_multipath_hash_policy", "1"),
    ("net/ipv6/fib_multipath_hash_policy", "1"),
];

/// What it takes to run a router. In this order: [`SETTINGS`] are written, interfaces moved in,
/// directories and files made, mounts made, commands started one after another.
///
/// To end it, SIGTERM to the daemons in reverse order, and SIGKILL after [`STOP_WITHIN`]: bgpd and
/// BIRD close their sessions before they end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Launch {
    /// `FRR`, `BIRD`.
    pub name: &'static str,
    /// The program that says its version when it is asked `--version`.
    pub versioned: PathBuf,
    /// Relative to the router's private directory.
    pub directories: Vec<PathBuf>,
    /// Relative to the router's private directory, with the text.
    pub files: Vec<(PathBuf, String)>,
    pub interfaces: Vec<Interface>,
    /// In the router's own mount namespace, in order.
    pub binds: Vec<Bind>,
    pub commands: Vec<Command>,
    pub console: Console,
}

/// How a router that runs is told something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Console {
    /// FRR's, a program: it takes lines of [`lines_between`], each behind a `-c`.
    Vtysh(PathBuf),
    /// BIRD's, a socket that takes [`Orders`], of a router with this configuration.
    Birdc(String),
}

/// BIRD's control socket, relative to the router's private directory.
pub const BIRD_SOCKET: &str = "run/bird/bird.ctl";
/// A configuration for BIRD to take: relative to the private directory, and as BIRD finds it.
pub const BIRD_OTHER: [&str; 2] = ["run/bird/operator.conf", "/run/bird/operator.conf"];

/// An interface of the router's namespace: one end of a veth pair.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// As the compiled lab's links call the port.
    pub port: String,
    pub name: String,
    /// What the other end puts on frames that come from here, and takes off those that go here.
    pub tag: Encapsulation,
    /// To be set by the lab; the router sets others itself.
    pub addresses: Vec<Prefix>,
    /// On the link without being in the subnet of an address, each with the address at its place.
    pub on_link: Vec<Prefix>,
}

/// A bind mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bind {
    pub from: BindFrom,
    pub over: &'static str,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BindFrom {
    /// Relative to the router's private directory.
    Private(&'static str),
    /// A path as earlier binds left it, which may hide the private directory.
    Mounted(&'static str),
}

/// A program in the router's namespaces, its standard output and error going to a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// Name of a file in the folder of the router's logs; kept when it is over.
    pub log: String,
    pub ready: Ready,
}

/// When the next command may start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ready {
    /// A daemon: once this is there, relative to the router's private directory.
    Exists(PathBuf),
    /// It has to end by itself, with success.
    Ended,
}

/// Why a router cannot be run.
#[derive(Debug, Error)]
pub enum LaunchError {
    #[error(
        "{node} is `kind: {kind}`, and there is no {looked_for} on this host; install it: \
         sudo apt-get install {package}"
    )]
    NotInstalled { node: String, kind: &'static str, looked_for: String, package: &'static str },
    #[error("{node}: config: {}: {error}", path.display())]
    Config { node: String, path: PathBuf, error: io::Error },
    #[error(
        "{node}: `{name}` is too long for an interface of Linux ({INTERFACE_NAME_LEN_MAX} \
         characters); give the uplink a shorter port:"
    )]
    InterfaceName { node: String, name: String },
    #[error("{0} is no site router of `kind: frr` or `kind: bird`")]
    NotRun(String),
}

/// Makes the paths of given configurations, which are relative to the lab's file, relative to where
/// this process is.
pub fn find_configurations(lab: &mut Lab, file: &Path) {
    let folder = file.parent().unwrap_or(Path::new(""));
    let routers = lab.sites.iter_mut().flat_map(|site| &mut site.routers);
    for config in routers.filter_map(|router| router.config.as_mut()) {
        *config = folder.join(&*config).to_string_lossy().into_owned();
    }
}

/// Whether `node` is a site router that is a program of somebody else's, to be run by the lab.
pub fn is_run(lab: &Lab, node: &str) -> bool {
    let router = lab.site_router(node);
    router.is_some_and(|(_, router)| matches!(router.kind, RouterKind::Frr | RouterKind::Bird))
}

/// The interfaces of a router that the lab runs, whether or not its programs are installed.
pub fn interfaces_of(lab: &Lab, node: &str) -> Result<Vec<Interface>, LaunchError> {
    let not_run = || LaunchError::NotRun(node.to_owned());
    let (_, router) = lab.site_router(node).ok_or_else(not_run)?;
    let customer = Customer::of(lab, node).ok_or_else(not_run)?;
    let given = router.config.as_ref().map(|path| read(node, Path::new(path))).transpose()?;
    interfaces(&customer, &router.kind, given.as_deref())
}

/// How to run the router `node` of a lab, with its given configuration or one made for it.
pub fn launch(lab: &Lab, node: &str) -> Result<Launch, LaunchError> {
    launch_with(lab, node, &Installed::on_this_host())
}

fn launch_with(lab: &Lab, node: &str, installed: &Installed) -> Result<Launch, LaunchError> {
    let not_run = || LaunchError::NotRun(node.to_owned());
    let (_, router) = lab.site_router(node).ok_or_else(not_run)?;
    let customer = Customer::of(lab, node).ok_or_else(not_run)?;
    let given = router.config.as_ref().map(|path| read(node, Path::new(path))).transpose()?;
    let interfaces = |given: Option<&str>| interfaces(&customer, &router.kind, given);
    match router.kind {
        RouterKind::Frr => {
            let interfaces = interfaces(given.as_deref())?;
            let text = given.unwrap_or_else(|| frr::configuration(&customer, Ports::Plain));
            Ok(frr_launch(installed.frr(node)?, interfaces, text))
        }
        RouterKind::Bird => {
            let interfaces = interfaces(given.as_deref())?;
            let text = given.unwrap_or_else(|| bird::configuration(&customer, Ports::Plain));
            Ok(bird_launch(installed.bird(node)?, interfaces, text))
        }
        RouterKind::BuiltIn | RouterKind::Attach(_) => Err(not_run()),
    }
}

fn read(node: &str, path: &Path) -> Result<String, LaunchError> {
    let failed =
        |error| LaunchError::Config { node: node.to_owned(), path: path.to_owned(), error };
    fs::read_to_string(path).map_err(failed)
}

/// Where the programs are; none where they are not.
#[derive(Clone, Debug, Default)]
struct Installed {
    /// The folder of zebra, bgpd and bfdd, and vtysh.
    frr: Option<(PathBuf, PathBuf)>,
    bird: Option<PathBuf>,
}

/// Debian's and Fedora's.
const FRR_FOLDERS: &[&str] = &["/usr/lib/frr", "/usr/libexec/frr"];
const VTYSH: &[&str] = &["/usr/bin/vtysh", "/bin/vtysh"];
const BIRD: &[&str] = &["/usr/sbin/bird", "/usr/local/sbin/bird"];

impl Installed {
    fn on_this_host() -> Self {
        let first = |paths: &[&str]| paths.iter().map(PathBuf::from).find(|path| path.exists());
        let complete = |folder: &PathBuf| FRR_DAEMONS.iter().all(|name| folder.join(name).exists());
        let folder = first(FRR_FOLDERS).filter(complete);
        Self { frr: folder.zip(first(VTYSH)), bird: first(BIRD) }
    }

    fn frr(&self, node: &str) -> Result<&(PathBuf, PathBuf), LaunchError> {
        self.frr.as_ref().ok_or_else(|| LaunchError::NotInstalled {
            node: node.to_owned(),
            kind: "frr",
            looked_for: format!("FRR ({}/zebra, {})", FRR_FOLDERS[0], VTYSH[0]),
            package: "frr",
        })
    }

    fn bird(&self, node: &str) -> Result<&PathBuf, LaunchError> {
        self.bird.as_ref().ok_or_else(|| LaunchError::NotInstalled {
            node: node.to_owned(),
            kind: "bird",
            looked_for: format!("BIRD 2 ({})", BIRD[0]),
            package: "bird2",
        })
    }
}

/// In the order they are started: the others speak to zebra, and bgpd to bfdd. staticd is there for
/// the static routes of a given configuration.
const FRR_DAEMONS: &[&str] = &["zebra", "staticd", "bfdd", "bgpd"];

/// vtysh gives the one file to all daemons, as a packaged installation does at boot; bfdd would
/// refuse to read a file that is also for others.
fn frr_launch(
    (folder, vtysh): &(PathBuf, PathBuf),
    interfaces: Vec<Interface>,
    configuration: String,
) -> Launch {
    let check = Command {
        program: vtysh.clone(),
        arguments: words(&["-C", "-f", "/etc/frr/frr.conf"]),
        log: "check.log".to_owned(),
        ready: Ready::Ended,
    };
    let daemons = FRR_DAEMONS.iter().map(|name| frr_daemon(folder, name));
    let boot = Command {
        program: vtysh.clone(),
        arguments: words(&["-b"]),
        log: "configuration.log".to_owned(),
        ready: Ready::Ended,
    };
    Launch {
        name: "FRR",
        versioned: folder.join("bgpd"),
        directories: ["etc", "run/frr", "run/var-tmp"].map(PathBuf::from).to_vec(),
        files: vec![
            ("etc/frr.conf".into(), configuration),
            ("etc/vtysh.conf".into(), "service integrated-vtysh-config\n".to_owned()),
            ("group".into(), "root:x:0:root\nfrrvty:x:0:root\n".to_owned()),
        ],
        interfaces,
        binds: vec![
            Bind { from: BindFrom::Private("etc"), over: "/etc/frr" },
            Bind { from: BindFrom::Private("group"), over: "/etc/group" },
            Bind { from: BindFrom::Private("run"), over: "/run" },
            Bind { from: BindFrom::Mounted("/run/var-tmp"), over: "/var/tmp" },
        ],
        commands: [check].into_iter().chain(daemons).chain([boot]).collect(),
        console: Console::Vtysh(vtysh.clone()),
    }
}

fn frr_daemon(folder: &Path, name: &str) -> Command {
    let mut arguments = words(&["-u", "root", "-g", "root", "--vty_socket", "/run/frr", "-P", "0"]);
    arguments.extend(words(&["-z", "/run/frr/zserv.api", "--log", "stdout", "-i"]));
    arguments.push(format!("/run/frr/{name}.pid"));
    if name == "bfdd" {
        arguments.extend(words(&["--bfdctl", "/run/frr/bfdd.sock"]));
    }
    let ready = if name == "zebra" { "zserv.api".to_owned() } else { format!("{name}.vty") };
    Command {
        program: folder.join(name),
        arguments,
        log: format!("{name}.log"),
        ready: Ready::Exists(Path::new("run/frr").join(ready)),
    }
}

fn bird_launch(bird: &Path, interfaces: Vec<Interface>, configuration: String) -> Launch {
    const CONFIGURATION: &str = "/run/bird/bird.conf";
    let check = Command {
        program: bird.to_owned(),
        arguments: words(&["-p", "-c", CONFIGURATION]),
        log: "check.log".to_owned(),
        ready: Ready::Ended,
    };
    let files = ["-s", "/run/bird/bird.ctl", "-P", "/run/bird/bird.pid"];
    let daemon = Command {
        program: bird.to_owned(),
        arguments: [words(&["-d", "-c", CONFIGURATION]), words(&files)].concat(),
        log: "bird.log".to_owned(),
        ready: Ready::Exists(BIRD_SOCKET.into()),
    };
    Launch {
        name: "BIRD",
        versioned: bird.to_owned(),
        directories: ["run/bird"].map(PathBuf::from).to_vec(),
        files: vec![("run/bird/bird.conf".into(), configuration.clone())],
        interfaces,
        binds: vec![Bind { from: BindFrom::Private("run"), over: "/run" }],
        commands: vec![check, daemon],
        console: Console::Birdc(configuration),
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// What the lab makes for the router. FRR gives its uplinks their addresses itself, which may be
/// meant to differ from the lab's; BIRD cannot. Links inside the site and to hosts are the lab's.
fn interfaces(
    customer: &Customer,
    kind: &RouterKind,
    given: Option<&str>,
) -> Result<Vec<Interface>, LaunchError> {
    let mut interfaces = Vec::new();
    for link in &customer.links {
        let by_router = *kind == RouterKind::Frr && link.is_uplink();
        interfaces.push(Interface {
            port: link.port.clone(),
            name: name_in_lab(customer, link, given),
            tag: link.encapsulation,
            addresses: if by_router { Vec::new() } else { link.addresses.clone() },
            on_link: Vec::new(),
        });
    }
    for lan in &customer.lans {
        let own = Prefix::from(lan.address);
        if let Some(known) = interfaces.iter_mut().find(|known| known.port == lan.port) {
            known.addresses.push(own);
            known.on_link.push(lan.host);
            continue;
        }
        interfaces.push(Interface {
            port: lan.port.clone(),
            name: lan.interface.clone(),
            tag: Encapsulation::Untagged,
            addresses: vec![own],
            on_link: vec![lan.host],
        });
    }
    match interfaces.iter().find(|interface| interface.name.len() > INTERFACE_NAME_LEN_MAX) {
        None => Ok(interfaces),
        Some(Interface { name, .. }) => {
            Err(LaunchError::InterfaceName { node: customer.name.clone(), name: name.clone() })
        }
    }
}

/// The sub-interface's name; the port's own where a given configuration speaks of that alone.
fn name_in_lab(customer: &Customer, link: &Link, given: Option<&str>) -> String {
    let Some(given) = given else { return link.interface.clone() };
    let names = |name: &str| given.split(is_outside_a_name).any(|word| word == name);
    let alone = customer.links.iter().filter(|other| other.port == link.port).count() == 1;
    let name = if alone && link.is_uplink() && !names(&link.interface) && names(&link.port) {
        &link.port
    } else {
        &link.interface
    };
    name.clone()
}

const fn is_outside_a_name(c: char) -> bool {
    !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn lab(case: &str) -> Lab {
        let path = PathBuf::from(format!("fixtures/edges/{case}/lab.yaml"));
        config::load_lab(&path, &fs::read_to_string(&path).unwrap()).unwrap()
    }

    fn everything() -> Installed {
        let frr = Some(("/usr/lib/frr".into(), "/usr/bin/vtysh".into()));
        Installed { frr, bird: Some("/usr/sbin/bird".into()) }
    }

    fn names(launch: &Launch) -> Vec<&str> {
        launch.interfaces.iter().map(|interface| interface.name.as_str()).collect()
    }

    #[test]
    fn what_is_not_installed_is_said_with_the_command_that_installs_it() {
        let nothing = Installed::default();
        let said = |node| launch_with(&lab("core"), node, &nothing).unwrap_err().to_string();
        let expected = "ce1 is `kind: frr`, and there is no FRR (/usr/lib/frr/zebra, /usr/bin/vtysh) \
                        on this host; install it: sudo apt-get install frr";
        assert_eq!(said("ce1"), expected);
        assert!(said("ce2").ends_with("sudo apt-get install bird2"), "{}", said("ce2"));
    }

    #[test]
    fn the_lab_sets_the_addresses_that_the_router_does_not() {
        let lab = lab("core");
        let addresses = |node: &str, at: usize| {
            let launch = launch_with(&lab, node, &everything()).unwrap();
            launch.interfaces[at].addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(addresses("ce1", 0).is_empty(), "zebra sets them");
        assert_eq!(addresses("ce2", 0), ["172.16.0.5/30"]);
        assert_eq!(addresses("ce1", 1)[0], "100.126.0.1/30");
        let core = launch_with(&lab, "core-of-the-first-site", &everything()).unwrap();
        let lan = core.interfaces.iter().find(|interface| interface.port == "lan:erp").unwrap();
        assert_eq!(lan.addresses[0].to_string(), "192.168.0.1/32");
        assert_eq!(lan.on_link[0].to_string(), "192.168.0.10/32");
    }

    #[test]
    fn a_given_configuration_is_used_unchanged_and_names_the_interfaces() {
        let folder = std::env::temp_dir().join(format!("msee-edge-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for (text, expected) in [
            ("interface eth1.100\n", "eth1.100"),
            ("interface eth1\n ip address 172.16.0.1/30\n", "eth1"),
            ("interface eth10\n", "eth1.100"),
        ] {
            let file = folder.join("ce1.conf");
            fs::write(&file, text).unwrap();
            let mut lab = lab("two-uplinks");
            lab.sites[0].routers[0].config = Some(file.to_string_lossy().into_owned());
            let launch = launch_with(&lab, "ce1", &everything()).unwrap();
            assert_eq!(launch.files[0].1, text);
            assert_eq!(names(&launch)[0], expected);
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_configuration_that_is_not_there_and_a_name_that_is_too_long_are_refused() {
        let mut lab = lab("two-uplinks");
        lab.sites[0].routers[0].config = Some("/nowhere/ce1.conf".to_owned());
        let error = launch_with(&lab, "ce1", &everything()).unwrap_err().to_string();
        assert!(error.starts_with("ce1: config: /nowhere/ce1.conf: "), "{error}");
        lab.sites[0].routers[0].config = None;
        lab.sites[0].routers[0].uplinks[0].port = "an-uplink-port".to_owned();
        let error = launch_with(&lab, "ce1", &everything()).unwrap_err().to_string();
        assert!(error.contains("`an-uplink-port.100` is too long"), "{error}");
    }

    #[test]
    fn only_frr_and_bird_are_run() {
        let mut lab = lab("two-uplinks");
        lab.sites[0].routers[0].kind = RouterKind::BuiltIn;
        assert!(matches!(launch_with(&lab, "ce1", &everything()), Err(LaunchError::NotRun(_))));
        assert!(matches!(launch_with(&lab, "nobody", &everything()), Err(LaunchError::NotRun(_))));
    }
}
