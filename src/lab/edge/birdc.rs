//! What an operator of BIRD does to a router that runs. A session is closed and opened by a command;
//! the rest has none: it is written into a copy of the configuration, which BIRD is told to take.
//!
//! A configuration may be the customer's own. What is looked for in it are its protocols, by their
//! neighbours and routes; nothing else of BIRD's language is understood here.

use std::net::IpAddr;
use std::ops::Range;

use crate::lab::edge::Family;
use crate::model::{NeighborConfig, Prefix, RouterConfig};

/// What BIRD is told, in this order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Orders {
    /// Commands of its control socket.
    pub commands: Vec<String>,
    /// The configuration to be taken after them, where it is another; the one of the lab's file, where
    /// it is the same as that.
    pub configuration: Option<String>,
}

/// What makes a router that was told to be `told` what `config` says. `text` is its configuration by the
/// lab's file, and `read` what the lab's file says it is.
///
/// # Errors
/// The configuration has no such protocol or route, in words.
pub fn orders(
    text: &str,
    read: &RouterConfig,
    [told, config]: [&RouterConfig; 2],
) -> Result<Orders, String> {
    let source = Source::new(text);
    let mut orders = Orders::default();
    for (before, after) in sessions_of(told, config) {
        if before.enabled != after.enabled {
            let verb = if after.enabled { "enable" } else { "disable" };
            orders.commands.push(format!("{verb} {}", source.bgp(after.peer)?.0));
        }
    }
    let open = |config| source.with(read, config, false);
    if open(told)? != open(config)? {
        orders.configuration = Some(source.with(read, config, true)?);
    }
    Ok(orders)
}

/// The sessions of a router as they are in both of its configurations.
fn sessions_of<'c>(
    before: &'c RouterConfig,
    after: &'c RouterConfig,
) -> impl Iterator<Item = (&'c NeighborConfig, &'c NeighborConfig)> {
    let of = |config: &'c RouterConfig| config.vrfs.iter().flat_map(|vrf| &vrf.neighbors);
    of(after).filter_map(move |after| {
        of(before).find(|before| before.name == after.name).map(|before| (before, after))
    })
}

/// A configuration in BIRD's language.
struct Source<'t> {
    text: &'t str,
    /// As long as the text; comments and strings are blank.
    code: String,
    protocols: Vec<Protocol>,
}

struct Protocol {
    /// `bgp`, `static`.
    kind: String,
    name: Option<String>,
    /// Between its braces.
    body: Range<usize>,
}

impl<'t> Source<'t> {
    fn new(text: &'t str) -> Self {
        let code = code_of(text);
        let protocols = protocols(&code);
        Self { text, code, protocols }
    }

    /// The text for a router that is `config` and not what was `read`; sessions that are closed stay
    /// open where `closed` is false.
    fn with(
        &self,
        read: &RouterConfig,
        config: &RouterConfig,
        closed: bool,
    ) -> Result<String, String> {
        // What is taken out, and what stands in its place.
        let mut edits: Vec<(Range<usize>, &str)> = Vec::new();
        for (before, after) in sessions_of(read, config) {
            if before.bfd.is_some() && after.bfd.is_none() {
                let end = self.bgp(after.peer)?.1;
                edits.push((end..end, "  bfd off;\n"));
            }
            if closed && before.enabled && !after.enabled {
                let end = self.bgp(after.peer)?.1;
                edits.push((end..end, "  disabled yes;\n"));
            }
        }
        for network in networks_without(read, config) {
            edits.push((self.route(network)?, ""));
        }
        let mut text = self.text.to_owned();
        edits.sort_by_key(|(place, _)| place.start);
        for (place, instead) in edits.into_iter().rev() {
            text.replace_range(place, instead);
        }
        for family in [Family::Ipv4, Family::Ipv6] {
            let more = networks_without(config, read);
            let mut routes = String::new();
            for network in more.filter(|network| Family::of(network.addr()) == family) {
                routes.extend(["  route ", &network.to_string(), " blackhole;\n"]);
            }
            if !routes.is_empty() {
                let name = family.name();
                let opening = ["protocol static operator_", name, " {\n  ", name, ";\n"];
                text.extend(opening.into_iter().chain([&*routes, "}\n"]));
            }
        }
        Ok(text)
    }

    /// Name and end of the protocol of the session with a neighbour.
    fn bgp(&self, peer: IpAddr) -> Result<(&str, usize), String> {
        let is_it = |protocol: &&Protocol| {
            protocol.kind == "bgp"
                && statements(&self.code, &protocol.body).any(|(_, words)| {
                    let address = words.get(1).and_then(|word| word.split('%').next());
                    words[0] == "neighbor" && address.and_then(|it| it.parse().ok()) == Some(peer)
                })
        };
        let found = self.protocols.iter().find(is_it);
        let named = found.and_then(|found| Some((found.name.as_deref()?, found.body.end)));
        named.ok_or_else(|| {
            format!("its configuration has no `protocol bgp NAME` with `neighbor {peer}`")
        })
    }

    /// The statement that announces a network.
    fn route(&self, network: Prefix) -> Result<Range<usize>, String> {
        let fixed = self.protocols.iter().filter(|protocol| protocol.kind == "static");
        let mut routes = fixed.flat_map(|protocol| statements(&self.code, &protocol.body));
        let found = routes.find(|(_, words)| {
            words[0] == "route" && words.get(1).and_then(|word| word.parse().ok()) == Some(network)
        });
        let found = found.map(|(place, _)| place);
        found.ok_or_else(|| format!("its configuration has no `route {network}` to be withdrawn"))
    }
}

/// What the first announces as its own and the second does not.
fn networks_without<'c>(
    first: &'c RouterConfig,
    second: &'c RouterConfig,
) -> impl Iterator<Item = Prefix> + 'c {
    let of = |config: &'c RouterConfig| {
        config.vrfs.iter().flat_map(|vrf| &vrf.originated).map(|originated| originated.prefix)
    };
    of(first).filter(move |network| of(second).all(|other| other != *network))
}

/// The text with blanks for what is in comments and in quotation marks, as many as it has bytes.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let after = |start: &str, end: &str| {
            let inner = &rest[start.len()..];
            inner.find(end).map_or(rest.len(), |at| start.len() + at + end.len())
        };
        let hidden = match next {
            '#' => after("#", "\n"),
            '"' => after("\"", "\""),
            '/' if rest.starts_with("/*") => after("/*", "*/"),
            _ => 0,
        };
        if hidden == 0 {
            code.push(next);
            rest = &rest[next.len_utf8()..];
        } else {
            code.extend(std::iter::repeat_n(' ', hidden));
            rest = &rest[hidden..];
        }
    }
    code
}

/// The protocols, in order.
fn protocols(code: &str) -> Vec<Protocol> {
    let mut found = Vec::new();
    let (mut depth, mut head, mut opened) = (0_usize, 0, 0);
    for (at, c) in code.char_indices() {
        match c {
            '{' => {
                opened = if depth == 0 { at } else { opened };
                depth += 1;
            }
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    let words: Vec<_> = code[head..opened].split_whitespace().collect();
                    if let ["protocol", kind, ref rest @ ..] = words[..] {
                        let name = rest.first().filter(|word| **word != "from");
                        let (kind, name) = (kind.to_owned(), name.map(|&name| name.to_owned()));
                        found.push(Protocol { kind, name, body: opened + 1..at });
                    }
                    head = at + 1;
                }
            }
            ';' if depth == 0 => head = at + 1,
            _ => {}
        }
    }
    found
}

/// The statements in a body, those of blocks inside as well, each with its words.
fn statements<'c>(
    code: &'c str,
    body: &Range<usize>,
) -> impl Iterator<Item = (Range<usize>, Vec<&'c str>)> {
    let mut at = body.start;
    code[body.clone()].split_inclusive([';', '{', '}']).filter_map(move |statement| {
        let end = at + statement.len();
        let begin = end - statement.trim_start().len();
        at = end;
        let words: Vec<_> =
            statement.trim_end_matches([';', '{', '}']).split_whitespace().collect();
        (!words.is_empty()).then_some((begin..end, words))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::lab::edge::{Customer, Ports, bird};
    use crate::lab::sites;

    const CUSTOMERS: &str = "
router id 192.168.0.1; # { protocol bgp no { neighbor 172.16.0.2; }
template bgp azure { local as 65010; bfd on; ipv4 { import all; export all; }; }
protocol static { ipv4;
  route 192.168.0.0/22 via \"lo\"; /* route 10.0.0.0/8 blackhole; */
  route 192.168.9.0/24 reject;
}
protocol bgp 'first' from azure {
  description \"} neighbor 172.16.0.6\";
  neighbor 172.16.0.2 as 12076;
}
protocol bgp second from azure { neighbor 172.16.0.6 % 'eth2' as 12076; ipv4 { import limit 9; }; }
";

    /// A router by the lab's file, and its configuration made for it.
    fn router() -> (RouterConfig, String) {
        let path = Path::new("fixtures/edges/two-uplinks/lab.yaml");
        let lab = config::load_lab(path, &std::fs::read_to_string(path).unwrap()).unwrap();
        let mut routers = sites::compile(&lab).routers.into_iter();
        let read = routers.find(|config| config.name == "ce1").unwrap();
        let customer = Customer::of(&lab, "ce1").unwrap();
        (read, bird::configuration(&customer, Ports::Plain))
    }

    fn changed(
        config: &RouterConfig,
        change: impl FnOnce(&mut crate::model::VrfConfig),
    ) -> RouterConfig {
        let mut config = config.clone();
        change(&mut config.vrfs[0]);
        config
    }

    #[test]
    fn a_session_is_closed_and_opened_by_a_command() {
        let (read, text) = router();
        let closed = changed(&read, |vrf| vrf.neighbors[0].enabled = false);
        let told = orders(&text, &read, [&read, &closed]).unwrap();
        assert_eq!(told.commands, ["disable bgp_ams_primary_ipv4"]);
        assert_eq!(told.configuration, None);
        let told = orders(&text, &read, [&closed, &read]).unwrap();
        assert_eq!(told.commands, ["enable bgp_ams_primary_ipv4"]);
        assert_eq!(orders(&text, &read, [&closed, &closed]).unwrap(), Orders::default());
    }

    #[test]
    fn what_has_no_command_is_written_and_taken_back() {
        let (read, text) = router();
        let closed = changed(&read, |vrf| vrf.neighbors[0].enabled = false);
        let other = changed(&closed, |vrf| {
            vrf.neighbors[1].bfd = None;
            vrf.originated[0].prefix = "192.168.8.0/24".parse().unwrap();
        });
        let told = orders(&text, &read, [&closed, &other]).unwrap();
        assert!(told.commands.is_empty());
        let written = told.configuration.unwrap();
        let lines = |text: &str, part| text.lines().filter(|line| line.contains(part)).count();
        assert_eq!((lines(&text, "bfd off"), lines(&written, "bfd off")), (0, 1));
        assert_eq!(lines(&written, "disabled yes"), 1, "BIRD would open it again:\n{written}");
        assert_eq!(lines(&written, "route 192.168.0.0/22"), 0);
        assert_eq!(lines(&written, "route 192.168.8.0/24 blackhole;"), 1);
        let told = orders(&text, &read, [&other, &read]).unwrap();
        assert_eq!(told.commands, ["enable bgp_ams_primary_ipv4"]);
        assert_eq!(told.configuration, Some(text));
    }

    #[test]
    fn protocols_of_a_customers_own_configuration_are_found_by_their_neighbours() {
        let (read, _) = router();
        let other = changed(&read, |vrf| {
            vrf.neighbors[0].enabled = false;
            vrf.neighbors[1].bfd = None;
            vrf.originated.clear();
        });
        let told = orders(CUSTOMERS, &read, [&read, &other]).unwrap();
        assert_eq!(told.commands, ["disable 'first'"]);
        let expected = CUSTOMERS
            .replace(
                "  neighbor 172.16.0.2 as 12076;\n",
                "  neighbor 172.16.0.2 as 12076;\n  disabled yes;\n",
            )
            .replace("import limit 9; }; }", "import limit 9; };   bfd off;\n}")
            .replace("route 192.168.0.0/22 via \"lo\";", "");
        assert_eq!(told.configuration.unwrap(), expected);
    }

    #[test]
    fn what_a_configuration_does_not_have_is_told() {
        let (read, _) = router();
        let closed = changed(&read, |vrf| vrf.neighbors[0].enabled = false);
        let error = orders("protocol device { }", &read, [&read, &closed]).unwrap_err();
        assert!(error.contains("with `neighbor 172.16.0.2`"), "{error}");
        let withdrawn = changed(&read, |vrf| vrf.originated.clear());
        let error = orders("protocol device { }", &read, [&read, &withdrawn]).unwrap_err();
        assert!(error.contains("no `route 192.168.0.0/22`"), "{error}");
    }
}
