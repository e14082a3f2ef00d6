//! Conformance: a folder a case in `fixtures/bgp`, steps numbered `NN-input.jsonl`,
//! `NN-output.jsonl`. `UPDATE_FIXTURES=1` rewrites the outputs; the diff is for review.
//!
//! An input line is one of
//!
//! ```text
//! {"session": {"local_asn": 12076, "peer_asn": 65010, …}}      first of all; also starts it
//! {"connected": 1, "direction": "outgoing"}                    {"closed": 1}
//! {"connect_failed": true}                                     {"advance_ms": 5000}
//! {"receive": 1, "open": {…}}  "keepalive": true  "notification": {…}  "refresh": "request"
//! {"receive": 1, "update": {"withdrawn": hex, "attributes": [hex, …], "nlri": hex}}
//! {"receive": 1, "open": {"asn": 65010, "add_path": [["ipv4", 3]]}}   Send/Receive of RFC 7911
//! {"receive": 1, "hex": "ff …"}
//! {"stop": {"reason": "admin_shutdown", "text": "…"}}          {"start": true}   {"restarting": true}
//! {"send": {"announced": ["10.1.0.0/16"], "path": [12076], "next_hop": "10.0.0.1"}}
//! ```

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::control::bgp::codec::Context;
use crate::control::route::{AsPath, Attributes, Origin, Update};
use crate::model::{Asn, GracefulRestart, Instant, Prefix};

#[test]
fn every_fixture_comes_out_as_written() {
    let mut cases: Vec<_> =
        fs::read_dir("fixtures/bgp").unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 20, "{} cases", cases.len());
    let failed: Vec<_> = cases.iter().filter_map(|case| run_case(case).err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn run_case(case: &Path) -> Result<(), String> {
    let mut replay = None;
    for step in 1.. {
        let input = case.join(format!("{step:02}-input.jsonl"));
        if !input.exists() {
            assert!(step > 1, "{} has no steps", case.display());
            break;
        }
        let mut output = String::new();
        for line in fs::read_to_string(&input).unwrap().lines() {
            let line: Value = serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{}: {error}: {line}", input.display()));
            let replay = replay.get_or_insert_with(|| Replay::new(&line["session"]));
            replay.apply(&line);
            replay.collect(&mut output);
        }
        let path = case.join(format!("{step:02}-output.jsonl"));
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            fs::write(&path, &output).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if output != expected {
            let path = path.display();
            return Err(format!("{path}\n--- expected\n{expected}--- found\n{output}"));
        }
    }
    Ok(())
}

struct Replay {
    now: Instant,
    session: Session,
    context: Context,
    state: State,
}

impl Replay {
    fn new(given: &Value) -> Self {
        let asn = |key: &str| Asn::new(given[key].as_u64().unwrap() as u32).unwrap();
        let family = if given["family"] == "ipv6" { Family::Ipv6 } else { Family::Ipv4 };
        let router_id = given["router_id"].as_str().unwrap_or("10.0.0.2").parse().unwrap();
        let mut config = SessionConfig::new(asn("local_asn"), asn("peer_asn"), router_id, family);
        config.passive = given["passive"] == true;
        config.add_path = given["add_path"] == true;
        config.graceful_restart = match given["graceful_restart"].as_str() {
            None => GracefulRestart::Off,
            Some("helper") => GracefulRestart::Helper,
            Some("full") => GracefulRestart::Full,
            Some(other) => panic!("unknown mode {other}"),
        };
        if let Some(hold) = given["hold"].as_u64() {
            config.hold = Duration::from_secs(hold);
        }
        let internal = config.is_internal();
        let session = Session::new(config, 1);
        let add_path = AddPath::NONE;
        let context = Context { family, four_octet: true, internal, add_path };
        Self { now: Instant::ZERO, session, context, state: State::Idle }
    }

    fn apply(&mut self, line: &Value) {
        let object = line.as_object().expect("a line is an object");
        let (key, value) = object.iter().next().expect("a line says something");
        let id = ConnectionId(value.as_u64().unwrap_or_default() as u32);
        match key.as_str() {
            "session" | "start" => self.session.start(self.now),
            "restarting" => self.session.set_restarting(value == true),
            "connected" => {
                let incoming = line["direction"] == "incoming";
                let direction = if incoming { Direction::Incoming } else { Direction::Outgoing };
                self.session.handle_connected(id, direction, self.now);
            }
            "closed" => self.session.handle_closed(id, self.now),
            "connect_failed" => self.session.handle_connect_failed(self.now),
            "advance_ms" => self.advance(Duration::from_millis(value.as_u64().unwrap())),
            "receive" => {
                let bytes = self.bytes_of(line);
                self.session.handle_bytes(id, &bytes, self.now);
            }
            "stop" => self.session.stop(self.now, stop_reason(value)),
            "send" => self.session.send_update(&update_of(value), self.now).unwrap(),
            other => panic!("unknown input {other}"),
        }
    }

    fn advance(&mut self, span: Duration) {
        let until = self.now + span;
        while self.session.poll_timeout() <= until {
            self.now = self.now.max(self.session.poll_timeout());
            self.session.handle_timeout(self.now);
        }
        self.now = until;
    }

    fn bytes_of(&self, line: &Value) -> Vec<u8> {
        let (kind, given) = line.as_object().unwrap().iter().nth(1).expect("what is received");
        let message = match kind.as_str() {
            "hex" => return octets(given),
            "update" => return raw_update(given),
            "open" => Message::Open(open_of(given)),
            "keepalive" => Message::Keepalive,
            "notification" => Message::Notification(Notification {
                code: given["code"].as_u64().unwrap() as u8,
                subcode: given["subcode"].as_u64().unwrap() as u8,
                data: octets(&given["data"]),
            }),
            "refresh" => Message::RouteRefresh(match given.as_str().unwrap() {
                "begin" => RouteRefresh::Begin(self.context.family),
                "end" => RouteRefresh::End(self.context.family),
                _ => RouteRefresh::Request(self.context.family),
            }),
            other => panic!("unknown message {other}"),
        };
        let mut bytes = Vec::new();
        codec::encode(&message, self.context, &mut bytes).unwrap();
        bytes
    }

    /// Writes down what the session wants and says, then its state where that has changed.
    fn collect(&mut self, output: &mut String) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Connect => line(output, json!({"connect": true})),
                Action::Close(id) => line(output, json!({"close": id.0})),
                Action::Abort(id) => line(output, json!({"abort": id.0})),
                Action::Send(id, bytes) => self.sent(id, &bytes, output),
            }
        }
        while let Some(event) = self.session.poll_event() {
            line(output, json!({"event": event_json(&event)}));
        }
        if self.state != self.session.state() {
            self.state = self.session.state();
            line(output, json!({"state": format!("{:?}", self.state)}));
        }
    }

    /// What is sent, as the peer reads it.
    fn sent(&self, id: ConnectionId, mut bytes: &[u8], output: &mut String) {
        let agreed = self.session.snapshot().agreed;
        let named = agreed.is_some_and(|agreed| agreed.add_path.send);
        let add_path = if named { AddPath::BOTH } else { AddPath::NONE };
        let context = Context { add_path, ..self.context };
        codec::tests::assert_oracle_agrees(bytes, context);
        while let Some((length, kind)) = codec::frame(bytes).unwrap() {
            let (message, later) = bytes.split_at(length);
            bytes = later;
            let (message, fault) = codec::decode(message, kind, context).unwrap();
            assert_eq!(fault, None, "what is sent is sound");
            line(output, json!({"send": id.0, "message": message_json(&message)}));
        }
    }
}

fn line(output: &mut String, value: Value) {
    writeln!(output, "{value}").unwrap();
}

fn octets(hex: &Value) -> Vec<u8> {
    let digits: Vec<_> =
        hex.as_str().unwrap_or_default().chars().filter(|c| !c.is_whitespace()).collect();
    let octet = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(octet).collect()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        write!(text, "{octet:02x}").unwrap();
        text
    })
}

fn raw_update(given: &Value) -> Vec<u8> {
    let withdrawn = octets(&given["withdrawn"]);
    let list = given["attributes"].as_array().cloned().unwrap_or_default();
    let attributes: Vec<_> = list.iter().flat_map(octets).collect();
    let nlri = octets(&given["nlri"]);
    let length = 23 + withdrawn.len() + attributes.len() + nlri.len();
    let mut message = vec![0xff; 16];
    message.extend((length as u16).to_be_bytes());
    message.push(Kind::Update as u8);
    message.extend((withdrawn.len() as u16).to_be_bytes());
    message.extend(withdrawn);
    message.extend((attributes.len() as u16).to_be_bytes());
    message.extend(attributes);
    message.extend(nlri);
    message
}

fn open_of(given: &Value) -> Open {
    let family = |text: &Value| if text == "ipv6" { Family::Ipv6 } else { Family::Ipv4 };
    let families = given["families"].as_array();
    Open {
        asn: given["asn"].as_u64().unwrap() as u32,
        hold: given["hold"].as_u64().unwrap_or(180) as u16,
        id: given["id"].as_str().unwrap_or("10.0.0.1").parse().unwrap(),
        families: families.map_or(vec![Family::Ipv4], |list| list.iter().map(family).collect()),
        four_octet: given["four_octet"] != false,
        route_refresh: given["route_refresh"] != false,
        enhanced_refresh: given["enhanced_refresh"] != false,
        add_path: pairs(&given["add_path"])
            .map(|(name, octet)| (family(name), AddPath::from_octet(octet).unwrap()))
            .collect(),
        graceful: graceful_of(&given["graceful"]),
    }
}

/// Of `{"restarted": true, "secs": 120, "preserved": true}`; without `preserved` no family is named.
fn graceful_of(given: &Value) -> Option<GracefulOffer> {
    let preserved = given["preserved"].as_bool();
    Some(GracefulOffer {
        restarted: given["restarted"] == true,
        restart_secs: given["secs"].as_u64()? as u16,
        families: preserved.map(|preserved| (Family::Ipv4, preserved)).into_iter().collect(),
    })
}

/// Of `[["ipv4", 3], …]`.
fn pairs(list: &Value) -> impl Iterator<Item = (&Value, u8)> {
    list.as_array().into_iter().flatten().map(|pair| (&pair[0], pair[1].as_u64().unwrap() as u8))
}

fn stop_reason(given: &Value) -> StopReason {
    let text = given["text"].as_str().unwrap_or_default().to_owned();
    match given["reason"].as_str().unwrap() {
        "admin_shutdown" => StopReason::AdminShutdown(text),
        "admin_reset" => StopReason::AdminReset(text),
        "max_prefixes" => {
            StopReason::MaxPrefixes { limit: given["limit"].as_u64().unwrap() as u32 }
        }
        "bfd_down" => StopReason::BfdDown,
        "peer_deconfigured" => StopReason::PeerDeconfigured,
        "config_change" => StopReason::ConfigChange,
        other => panic!("unknown reason {other}"),
    }
}

fn update_of(given: &Value) -> Update {
    let prefixes = |key: &str| -> Vec<Prefix> {
        let list = given[key].as_array().cloned().unwrap_or_default();
        list.iter().map(|text| text.as_str().unwrap().parse().unwrap()).collect()
    };
    let path = given["path"].as_array().map(|list| {
        AsPath::sequence(list.iter().map(|asn| Asn::new(asn.as_u64().unwrap() as u32).unwrap()))
    });
    let next_hop = given["next_hop"].as_str().map(|text| text.parse::<IpAddr>().unwrap());
    Update {
        withdrawn: prefixes("withdrawn"),
        announced: prefixes("announced"),
        attributes: path.map(|as_path| {
            Arc::new(Attributes {
                origin: Origin::Igp,
                as_path,
                next_hop: next_hop.unwrap_or(Ipv4Addr::new(10, 0, 0, 2).into()),
                med: None,
                local_preference: None,
                communities: Vec::new(),
                large_communities: Vec::new(),
            })
        }),
        end_of_rib: given["end_of_rib"] == true,
        path_id: given["path_id"].as_u64().unwrap_or_default() as u32,
    }
}

fn message_json(message: &Message) -> Value {
    match message {
        Message::Open(open) => json!({"open": open_json(open)}),
        Message::Update(updates) => match &updates[..] {
            [update] => json!({"update": update_json(update)}),
            several => panic!("{several:?}: an update is of one path"),
        },
        Message::Notification(notification) => json!({"notification": {
            "code": notification.code,
            "subcode": notification.subcode,
            "data": hex(&notification.data),
            "words": codec::describe(notification),
        }}),
        Message::Keepalive => json!("keepalive"),
        Message::RouteRefresh(refresh) => json!({"refresh": format!("{refresh:?}")}),
    }
}

fn open_json(open: &Open) -> Value {
    let mut value = json!({
        "asn": open.asn,
        "hold": open.hold,
        "id": open.id.to_string(),
        "families": open.families.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>(),
        "four_octet": open.four_octet,
    });
    if !open.add_path.is_empty() {
        let offer = |(family, offer): &(Family, AddPath)| format!("{family:?}: {}", ways(*offer));
        value["add_path"] = open.add_path.iter().map(offer).collect();
    }
    if let Some(GracefulOffer { restarted, restart_secs, families }) = &open.graceful {
        let family =
            |(family, preserved): &(Family, bool)| json!([format!("{family:?}"), preserved]);
        let families: Vec<_> = families.iter().map(family).collect();
        value["graceful"] =
            json!({"restarted": restarted, "secs": restart_secs, "families": families});
    }
    value
}

fn ways(add_path: AddPath) -> &'static str {
    match (add_path.send, add_path.receive) {
        (false, false) => "none",
        (false, true) => "receive",
        (true, false) => "send",
        (true, true) => "both",
    }
}

fn update_json(update: &Update) -> Value {
    let texts = |prefixes: &[Prefix]| prefixes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut value = json!({});
    if !update.withdrawn.is_empty() {
        value["withdrawn"] = json!(texts(&update.withdrawn));
    }
    if !update.announced.is_empty() {
        value["announced"] = json!(texts(&update.announced));
    }
    if let Some(attributes) = &update.attributes {
        value["attributes"] = json!({
            "origin": format!("{:?}", attributes.origin),
            "path": attributes.as_path.to_string(),
            "next_hop": attributes.next_hop.to_string(),
            "med": attributes.med,
            "local_preference": attributes.local_preference,
            "communities": attributes.communities,
        });
    }
    if update.path_id != 0 {
        value["path_id"] = json!(update.path_id);
    }
    if update.end_of_rib {
        value["end_of_rib"] = json!(true);
    }
    value
}

fn established_json(agreed: &Established) -> Value {
    let mut value = json!({
        "peer_id": agreed.peer_id.to_string(),
        "hold_s": agreed.hold.as_secs(),
        "keepalive_ms": agreed.keepalive.as_millis() as u64,
        "four_octet": agreed.four_octet,
    });
    if agreed.add_path != AddPath::NONE {
        value["add_path"] = json!(ways(agreed.add_path));
    }
    if let Some(Graceful { restarted, preserved, keep }) = agreed.graceful {
        let keep = keep.map(|keep| keep.as_secs());
        value["graceful"] = json!({"restarted": restarted, "preserved": preserved, "keep_s": keep});
    }
    value
}

fn event_json(event: &SessionEvent) -> Value {
    match event {
        SessionEvent::Established(agreed) => json!({"established": established_json(agreed)}),
        SessionEvent::Update(update) => json!({"update": update_json(update)}),
        SessionEvent::RefreshRequested => json!("refresh_requested"),
        SessionEvent::RefreshBegins => json!("refresh_begins"),
        SessionEvent::RefreshEnds => json!("refresh_ends"),
        SessionEvent::Malformed(fault) => json!({"malformed": {
            "disposition": format!("{:?}", fault.disposition),
            "subcode": fault.subcode,
            "why": fault.why,
        }}),
        SessionEvent::Down(reason) => {
            let mut value = json!({"down": {
                "orderly": reason.orderly,
                "cause": format!("{:?}", reason.cause),
                "text": reason.text,
            }});
            if let Some(keep) = reason.keep {
                value["down"]["keep_s"] = json!(keep.as_secs());
            }
            value
        }
    }
}
