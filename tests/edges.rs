//! The customer's side of a lab: what each language's configuration says (`fixtures/edges`,
//! `UPDATE_FIXTURES=1` rewrites), and that FRR and BIRD take theirs and come up with it.

#[path = "support/skip.rs"]
mod skip;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use msee::config;
use msee::config::lab::{Lab, OwnKey, RouterKind};
use msee::lab::edge::run::{self, BindFrom, Launch, Ready};
use msee::lab::edge::{Customer, FORMATS};

const FOLDER: &str = "fixtures/edges";

#[test]
fn every_router_is_configured_as_written_beside_its_lab() {
    let update = std::env::var_os("UPDATE_FIXTURES").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let lab = lab(&case);
        for router in lab.sites.iter().flat_map(|site| &site.routers) {
            let customer = Customer::of(&lab, &router.name).unwrap();
            for format in FORMATS {
                let found = (format.configuration)(&customer);
                let beside = case.join(format!("{}.{}", router.name, format.name));
                if update {
                    fs::write(&beside, &found).unwrap();
                }
                let expected = fs::read_to_string(&beside).unwrap_or_default();
                if expected != found {
                    wrong.push(format!(
                        "{}: expected\n{expected}\nfound\n{found}",
                        beside.display()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The folders of [`FOLDER`], in order.
fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    cases.sort();
    cases
}

fn lab(case: &Path) -> Lab {
    let path = case.join("lab.yaml");
    config::load_lab(&path, &fs::read_to_string(&path).unwrap())
        .unwrap_or_else(|errors| panic!("{errors}"))
}

// Real daemons, in namespaces that a shell makes: no root, nothing of it outlives the shell.

/// The FRR that is generated comes up with a BIRD that was configured by hand.
#[test]
fn a_generated_frr_comes_up_with_a_bird_in_the_msee_s_place() {
    let Some(end) = Pair::of(RouterKind::Frr, RouterKind::Bird).run(BOTH_LINKS) else { return };
    for link in ["primary", "secondary"] {
        for session in [format!("{link}4"), format!("{link}6")] {
            end.shows("msee sessions", &[&session, "Established"]);
        }
    }
    end.shows("msee routes", &["BGP.as_path: 4200000010 4200000010 4200000010"]);
    end.shows("msee routes", &["192.168.0.0/22", "[primary4 "]);
    end.shows("msee routes", &["2001:db8:10::/64", "[primary6 "]);
    for peer in ["172.16.0.1", "172.16.0.5", "2001:db8:ffff::1", "2001:db8:ffff::5"] {
        end.shows("msee bfd", &[peer, "Up", "0.300", "0.900"]);
    }
    end.shows("ce routes", &["10.1.0.0/16", " 150 ", " 12076 i"]);
    end.shows("ce routes", &["\"2001:db8:1::/48\"", "\"locPrf\":150"]);
    end.shows("ce kernel", &["10.1.0.0/16", "proto bgp"]);
    end.shows("ce kernel", &["2001:db8:1::/48", "proto bgp"]);
    end.shows("ce announces", &["192.168.0.0/22"]);
    end.hides("ce announces", "10.1.0.0/16");
}

/// The BIRD that is generated comes up with an FRR that was configured by hand.
#[test]
fn a_generated_bird_comes_up_with_an_frr_in_the_msee_s_place() {
    let Some(end) = Pair::of(RouterKind::Bird, RouterKind::Frr).run(BOTH_LINKS) else { return };
    for link in ["primary", "secondary"] {
        for family in ["ipv4", "ipv6"] {
            end.shows("ce sessions", &[&format!("bgp_ams_{link}_{family}"), "Established"]);
        }
    }
    end.shows("msee routes", &["192.168.0.0/22", " 4200000010 4200000010 4200000010 i"]);
    end.shows("msee routes", &["\"2001:db8:10::/64\"", "\"420000001042000000104200000010\""]);
    for peer in ["172.16.0.1", "172.16.0.5", "2001:db8:ffff::1", "2001:db8:ffff::5"] {
        end.shows("msee bfd", &[peer, "up"]);
    }
    end.shows("ce routes", &["10.1.0.0/16"]);
    end.shows("ce routes", &["BGP.local_pref: 150"]);
    end.shows("ce kernel", &["10.1.0.0/16", "proto bird"]);
    end.shows("ce kernel", &["2001:db8:1::/48", "proto bird"]);
    end.shows("ce announces", &["192.168.0.0/22"]);
    end.hides("ce announces", "10.1.0.0/16");
}

/// L-23, F-46: the other link of the same pair shows that nothing else was in the way.
#[test]
fn a_link_with_another_key_stays_down() {
    let mut pair = Pair::of(RouterKind::Frr, RouterKind::Bird);
    pair.ce.sites[0].routers[0].uplinks[1].own.key = OwnKey::Other("Another1".to_owned());
    let Some(end) = pair.run(PRIMARY) else { return };
    end.shows("msee sessions", &["primary4", "Established"]);
    end.shows("msee sessions", &["secondary4"]);
    end.hides_together("msee sessions", &["secondary4", "Established"]);
    end.hides_together("msee sessions", &["secondary6", "Established"]);
}

#[test]
fn daemons_take_every_configuration_of_theirs() {
    let programs = [("frr", "vtysh", "-C -f"), ("bird", "bird", "-p -c")];
    for (format, program, arguments) in programs {
        if !is_there(program) {
            skip::skipped(&format!("{program} is not installed"));
            continue;
        }
        for case in cases() {
            for router in lab(&case).sites.iter().flat_map(|site| &site.routers) {
                let file = case.join(format!("{}.{format}", router.name));
                let command = format!("{program} {arguments} {}", file.display());
                let said = in_namespaces(&command);
                assert!(said.status.success(), "{command}: {}", text_of(&said));
            }
        }
    }
}

/// Waits until the MSEE has the networks on both links, or on the primary one.
const BOTH_LINKS: usize = 4;
const PRIMARY: usize = 2;

/// The dual-stack lab's customer edge, and another router in the place of both its MSEEs.
struct Pair {
    ce: Lab,
    msee: Lab,
}

impl Pair {
    /// The customer's prefers what it learns and prepends; the other uses a configuration that was
    /// written by hand.
    fn of(ce: RouterKind, msee: RouterKind) -> Self {
        let mut pair = [ce, msee].map(|kind| {
            let mut lab = lab(&Path::new(FOLDER).join("dual-stack"));
            lab.sites[0].routers[0].kind = kind;
            lab
        });
        let edge = &mut pair[0].sites[0].routers[0];
        edge.import.local_preference = Some(150);
        edge.export.prepend = 2;
        let router = &mut pair[1].sites[0].routers[0];
        let kind = if router.kind == RouterKind::Frr { "frr" } else { "bird" };
        router.config = Some(format!("{FOLDER}/msee.{kind}"));
        for (uplink, host) in router.uplinks.iter_mut().zip([2, 6]) {
            let addresses = [format!("172.16.0.{host}"), format!("2001:db8:ffff::{host}")];
            uplink.own.addresses = addresses.map(|address| address.parse().unwrap()).to_vec();
        }
        let [ce, msee] = pair;
        Self { ce, msee }
    }

    /// Runs both until the MSEE has `routes` of the customer's, and shows what each has then; none
    /// where the host cannot.
    fn run(&self, routes: usize) -> Option<End> {
        let launches = [&self.ce, &self.msee].map(|lab| run::launch(lab, "ce1"));
        let [ce, msee] = match launches {
            [Ok(ce), Ok(msee)] => [ce, msee],
            [Err(error), _] | [_, Err(error)] => {
                skip::skipped(&error.to_string());
                return None;
            }
        };
        if !in_namespaces("true").status.success() {
            skip::skipped("edges: this user may not make namespaces");
            return None;
        }
        let folder = Folder::new();
        let mut script = vec![SHOW.to_owned(), WAIT.to_owned(), "set -eu".to_owned()];
        script.extend(namespace("ce", &folder, &ce));
        script.extend(namespace("msee", &folder, &msee));
        for (ours, theirs) in ce.interfaces.iter().zip(&msee.interfaces).take(UPLINKS) {
            let (ours, theirs) = (&ours.name, &theirs.name);
            script.push(format!(
                "ip link add {ours} netns $ce type veth peer name {theirs} netns $msee"
            ));
        }
        script.extend(start("ce", &folder, &ce));
        script.extend(start("msee", &folder, &msee));
        script.push(format!("wait_for {routes}; show ce; show msee"));
        let shown = text_of(&in_namespaces(&script.join("\n")));
        Some(End { shown, logs: folder.logs() })
    }
}

/// Waits, at most half a minute, until the MSEE has that many routes of the customer's over both
/// families and links, and the customer's kernel has Azure's; a little later what is to stay down
/// would be up as well.
const WAIT: &str = r"
routes() {
  if [ -S $msee_folder/run/bird/bird.ctl ]; then
    in_msee birdc show route | grep -c -E '\[(primary|secondary)[46] ' || true
  else
    in_msee vtysh -c 'show bgp ipv4 unicast' -c 'show bgp ipv6 unicast' | grep -c ' 4200000010 ' || true
  fi
}
wait_for() {
  tries=0
  until [ $(routes) -ge $1 ] && in_ce ip route show | grep -q '^10.1.0.0/16 ' &&
    in_ce ip -6 route show | grep -q '^2001:db8:1::/48 '; do
    tries=$((tries+1)); [ $tries -lt 300 ] || break
    sleep 0.1
  done
  sleep 1
}";

/// What a router knows, each answer after a line `== NODE WHAT`.
const SHOW: &str = r#"
show() {
  if [ -S $(eval echo \$${1}_folder)/run/bird/bird.ctl ]; then
    echo "== $1 sessions"; in_$1 birdc show protocols
    echo "== $1 routes"; in_$1 birdc show route all
    echo "== $1 bfd"; in_$1 birdc show bfd sessions
    echo "== $1 announces"; in_$1 birdc show route export bgp_ams_secondary_ipv4 || true
  else
    echo "== $1 sessions"; in_$1 vtysh -c 'show bgp summary'
    echo "== $1 routes"; in_$1 vtysh -c 'show bgp ipv4 unicast'
    in_$1 vtysh -c 'show bgp ipv6 unicast json' | tr -d '\n '; echo
    echo "== $1 bfd"; in_$1 vtysh -c 'show bfd peers brief'
    echo "== $1 announces"; in_$1 vtysh -c 'show bgp ipv4 unicast neighbors 172.16.0.6 advertised-routes' || true
  fi
  echo "== $1 kernel"; in_$1 ip route show; in_$1 ip -6 route show
}"#;

/// Interfaces of a launch that have another end here; the others lead to hosts.
const UPLINKS: usize = 2;

/// A network and a mount namespace, with the settings and files of a launch.
fn namespace(name: &str, folder: &Folder, launch: &Launch) -> Vec<String> {
    let private = folder.0.join(name);
    fs::create_dir_all(private.join("log")).unwrap();
    for directory in &launch.directories {
        fs::create_dir_all(private.join(directory)).unwrap();
    }
    for (path, text) in &launch.files {
        fs::write(private.join(path), text).unwrap();
    }
    let mut script = vec![
        format!("unshare -n -m sleep 600 & {name}=$!"),
        format!("{name}_folder={}", private.display()),
        format!(
            "until [ \"$(readlink /proc/${name}/ns/mnt)\" != \"$(readlink /proc/$$/ns/mnt)\" ]"
        ),
        "do sleep 0.01; done".to_owned(),
        format!("in_{name}() {{ nsenter -t ${name} -n -m -- \"$@\"; }}"),
        format!("in_{name} ip link set dev lo up"),
    ];
    let write =
        |(file, value): &(&str, &str)| format!("in_{name} sh -c 'echo {value} > /proc/sys/{file}'");
    script.extend(run::SETTINGS.iter().map(write));
    script
}

/// Addresses, mounts and commands of a launch, in order.
fn start(name: &str, folder: &Folder, launch: &Launch) -> Vec<String> {
    let private = folder.0.join(name);
    let mut script = Vec::new();
    for interface in launch.interfaces.iter().take(UPLINKS) {
        script.push(format!("in_{name} ip link set dev {} up", interface.name));
        for address in &interface.addresses {
            script.push(format!("in_{name} ip address add {address} dev {}", interface.name));
        }
    }
    for bind in &launch.binds {
        let from = match bind.from {
            BindFrom::Private(path) => private.join(path).display().to_string(),
            BindFrom::Mounted(path) => path.to_owned(),
        };
        script.push(format!("in_{name} mount --bind {from} {}", bind.over));
    }
    for command in &launch.commands {
        let line = format!(
            "in_{name} {} {} > {} 2>&1",
            command.program.display(),
            command.arguments.join(" "),
            private.join("log").join(&command.log).display()
        );
        match &command.ready {
            Ready::Ended => script.push(line),
            Ready::Exists(path) => {
                script.push(format!("{line} &"));
                let there = private.join(path);
                script.push(format!("until [ -e {} ]; do sleep 0.01; done", there.display()));
            }
        }
    }
    script
}

/// What was shown at the end.
struct End {
    shown: String,
    logs: String,
}

impl End {
    /// Some line of an answer has all of `words`.
    fn shows(&self, answer: &str, words: &[&str]) {
        assert!(
            self.has(answer, words),
            "{answer}: no line with {words:?}\n{}\n{}",
            self.shown,
            self.logs
        );
    }

    fn hides(&self, answer: &str, word: &str) {
        self.hides_together(answer, &[word]);
    }

    fn hides_together(&self, answer: &str, words: &[&str]) {
        assert!(!self.has(answer, words), "{answer}: a line with {words:?}\n{}", self.shown);
    }

    fn has(&self, answer: &str, words: &[&str]) -> bool {
        let heading = format!("== {answer}");
        let lines = self.shown.lines().skip_while(|line| *line != heading).skip(1);
        lines
            .take_while(|line| !line.starts_with("== "))
            .any(|line| words.iter().all(|word| line.contains(word)))
    }
}

/// A folder that is gone with its value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("msee-edges-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn logs(&self) -> String {
        let mut logs = String::new();
        for node in ["ce", "msee"] {
            for entry in fs::read_dir(self.0.join(node).join("log")).into_iter().flatten().flatten()
            {
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                let name = entry.file_name();
                logs = [&logs, "-- ", node, " ", &name.to_string_lossy(), "\n", &text].concat();
            }
        }
        logs
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a shell in namespaces of its own; all it started ends with it.
fn in_namespaces(script: &str) -> Output {
    Command::new("unshare")
        .args(["-Urnm", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script])
        .output()
        .expect("util-linux is installed")
}

fn is_there(program: &str) -> bool {
    ["/usr/bin", "/usr/sbin"].iter().any(|folder| Path::new(folder).join(program).exists())
}

fn text_of(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{out}{err}")
}
