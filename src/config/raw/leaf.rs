//! Values of one scalar: names, numbers, durations, rates, addresses, words.

use std::fmt::Display;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value as JsonValue, json};

use crate::config::drill::{
    Amount, Cause, Compared, Convergence, Directions, Families, Only, SessionState,
};
use crate::config::error::nearest;
use crate::config::lab::{BillingFamily, GatewaySku, PeeringType, Tier, Uni};
use crate::config::raw::{Raw, Reader};
use crate::config::tree::{Kind, Node, Scalar, Value};
use crate::model::{Asn, Bandwidth, FlowHash, GracefulRestart, LinkRole, Prefix, VlanId};

/// A value of one scalar.
pub trait Leaf: Sized {
    /// As in "allowed: …".
    const EXPECTED: &'static str;

    fn parse(scalar: &Scalar) -> Result<Self, Complaint>;
    /// As in the file.
    fn text(&self) -> String;
    fn schema() -> JsonValue;
}

/// Why a scalar does not fit. `allowed` and `rule` default to the type's and the row's.
#[derive(Debug, Default)]
pub struct Complaint {
    found: String,
    allowed: Option<String>,
    rule: Option<&'static str>,
}

impl Complaint {
    fn new(found: impl Into<String>) -> Self {
        Self { found: found.into(), allowed: None, rule: None }
    }

    fn allowed(self, allowed: impl Into<String>) -> Self {
        Self { allowed: Some(allowed.into()), ..self }
    }

    fn rule(self, rule: &'static str) -> Self {
        Self { rule: Some(rule), ..self }
    }
}

impl<T: Leaf> Raw for T {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let complaint = match &node.value {
            Value::Scalar(scalar) => match T::parse(scalar) {
                Ok(value) => return Some(value),
                Err(complaint) => complaint,
            },
            Value::List(_) | Value::Map(_) => misplaced(node),
        };
        let allowed = complaint.allowed.unwrap_or_else(|| T::EXPECTED.to_owned());
        let at = reader.at(node.spot);
        reader.refuse(&at, complaint.found, allowed, complaint.rule);
        None
    }

    fn schema() -> JsonValue {
        <T as Leaf>::schema()
    }

    fn inline(&self) -> Option<String> {
        Some(self.text())
    }
}

/// A list or map where one value belongs. `{ a: fd00:: }` makes a map of an address's last colon.
fn misplaced(node: &Node) -> Complaint {
    let complaint = Complaint::new(format!("{} instead of a value", node.describe()));
    let Value::Map(entries) = &node.value else { return complaint };
    let address =
        |key: &str| !key.is_empty() && key.chars().all(|c| c.is_ascii_hexdigit() || c == ':');
    match entries.first() {
        Some(entry) if entry.key.contains(':') && address(&entry.key) => complaint.allowed(
            format!("quote an IPv6 address that stands in {{ }} or [ ]: \"{}:\"", entry.key),
        ),
        _ => complaint,
    }
}

/// The scalar's text, where YAML takes it for text.
fn text_of(scalar: &Scalar) -> Result<&str, Complaint> {
    match scalar.kind() {
        Kind::Text => Ok(&scalar.text),
        kind => {
            let what = match kind {
                Kind::Integer | Kind::Float => "a number",
                Kind::Bool => "a truth value",
                Kind::Null | Kind::Text => "nothing",
            };
            let found = format!("YAML reads {} as {what}", scalar.text);
            Err(Complaint::new(found).allowed(format!("quote it: \"{}\"", scalar.text)))
        }
    }
}

fn integer_of(scalar: &Scalar) -> Result<u64, Complaint> {
    let text = &scalar.text;
    let digits = scalar.plain && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits {
        let found = format!("`{text}` is not a whole number");
        let quoted = !scalar.plain && text.parse::<u64>().is_ok();
        let hint = quoted.then(|| format!("a number without quotes: {text}"));
        return Err(Complaint { found, allowed: hint, rule: None });
    }
    if text.len() > 1 && text.starts_with('0') {
        let found = format!("`{text}` has a leading zero, which older YAML reads as octal");
        let plain = text.trim_start_matches('0');
        return Err(Complaint::new(found).allowed(if plain.is_empty() { "0" } else { plain }));
    }
    text.parse().map_err(|_| Complaint::new(format!("{text} is too large")))
}

/// A word in quotes where YAML would not read it as plain text.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let safe = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(plain)
        && Scalar { text: text.to_owned(), plain: true }.kind() == Kind::Text;
    if safe { text.to_owned() } else { json!(text).to_string() }
}

/// The name of something: no character that places and hosts are written with.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Name(pub String);

const NAME_LEN_MAX: usize = 80;

impl Leaf for Name {
    const EXPECTED: &'static str =
        "letters, digits, - and _, at most 80, the first a letter or digit";

    fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
        let text = text_of(scalar)?;
        let fits = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.len() <= NAME_LEN_MAX
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(Complaint::new(format!("`{text}` is no name")))
        }
    }

    fn text(&self) -> String {
        quoted(&self.0)
    }

    fn schema() -> JsonValue {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,79}$" })
    }
}

/// Any text on one line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Text(pub String);

const TEXT_LEN_MAX: usize = 1000;

impl Leaf for Text {
    const EXPECTED: &'static str = "a text of one line, at most 1000 bytes";

    fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
        let text = text_of(scalar)?;
        let fits =
            !text.is_empty() && text.len() <= TEXT_LEN_MAX && !text.contains(char::is_control);
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(Complaint::new("a text that is empty or too long"))
        }
    }

    fn text(&self) -> String {
        quoted(&self.0)
    }

    fn schema() -> JsonValue {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// The path of another file, as it is found from the folder of the file that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilePath(pub String);

impl Raw for FilePath {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let Text(written) = Text::read(node, reader)?;
        Some(Self(reader.path_from_first(&written, node.spot)))
    }

    fn schema() -> JsonValue {
        <Text as Raw>::schema()
    }

    fn inline(&self) -> Option<String> {
        Some(quoted(&self.0))
    }
}

impl Leaf for bool {
    const EXPECTED: &'static str = "true or false";

    fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
        match (scalar.plain, scalar.text.as_str()) {
            (true, "true" | "True" | "TRUE") => Ok(true),
            (true, "false" | "False" | "FALSE") => Ok(false),
            (_, text) => Err(Complaint::new(format!("`{text}` is not a truth value"))),
        }
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn schema() -> JsonValue {
        json!({ "type": "boolean" })
    }
}

/// A whole number from MIN to MAX.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Int<const MIN: u64, const MAX: u64>(pub u64);

impl<const MIN: u64, const MAX: u64> Leaf for Int<MIN, MAX> {
    const EXPECTED: &'static str = "a whole number";

    fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
        let range = || format!("{MIN}–{MAX}");
        let number = integer_of(scalar).map_err(|complaint| {
            if complaint.allowed.is_none() { complaint.allowed(range()) } else { complaint }
        })?;
        if (MIN..=MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(Complaint::new(format!("{number} is out of range")).allowed(range()))
        }
    }

    fn text(&self) -> String {
        self.0.to_string()
    }

    fn schema() -> JsonValue {
        if MAX == u64::MAX {
            return json!({ "type": "integer", "minimum": MIN });
        }
        json!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

impl Leaf for Asn {
    const EXPECTED: &'static str = "an ASN in asplain, 1–4294967295";

    fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
        if let Some(asplain) = asdot(&scalar.text) {
            let found = format!("ASN {} looks like asdot", scalar.text);
            return Err(Complaint::new(found)
                .allowed(format!("write asplain {asplain}"))
                .rule("RFC 5396"));
        }
        let number = integer_of(scalar)?;
        let number = u32::try_from(number)
            .map_err(|_| Complaint::new(format!("{number} is larger than an ASN can be")))?;
        Self::new(number).map_err(|error| Complaint::new(error.to_string()))
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn schema() -> JsonValue {
        json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX })
    }
}

fn asdot(text: &str) -> Option<u32> {
    let (high, low) = text.split_once('.')?;
    let (high, low): (u16, u16) = (high.parse().ok()?, low.parse().ok()?);
    Some(u32::from(high) << 16 | u32::from(low))
}

/// The ASN of a customer's side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CustomerAsn(pub Asn);

impl Leaf for CustomerAsn {
    const EXPECTED: &'static str = "an ASN in asplain, 1–4294967295, not 65515–65520 and not 12076";

    fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
        let asn = Asn::parse(scalar)?;
        if asn.is_reserved_by_azure() {
            return Err(Complaint::new(format!("ASN {asn} is reserved by Azure")).rule("L-09"));
        }
        if asn == Asn::MICROSOFT {
            return Err(Complaint::new(format!("ASN {asn} is Microsoft's own")).rule("L-08"));
        }
        Ok(Self(asn))
    }

    fn text(&self) -> String {
        self.0.to_string()
    }

    fn schema() -> JsonValue {
        <Asn as Leaf>::schema()
    }
}

impl Leaf for VlanId {
    const EXPECTED: &'static str = "1–4094";

    fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
        Self::new(integer_of(scalar)?).map_err(|error| Complaint::new(error.to_string()))
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn schema() -> JsonValue {
        json!({ "type": "integer", "minimum": 1, "maximum": 4094 })
    }
}

/// `bandwidthInMbps`: a step of the ladder (L-01).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LadderMbps(pub u64);

const LADDER_MBPS: [u64; 8] = [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

impl Leaf for LadderMbps {
    const EXPECTED: &'static str = "50, 100, 200, 500, 1000, 2000, 5000 or 10000";

    fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
        let mbps = integer_of(scalar)?;
        if LADDER_MBPS.contains(&mbps) {
            return Ok(Self(mbps));
        }
        Err(Complaint::new(format!("no circuit has {mbps} Mbps")).rule("L-01"))
    }

    fn text(&self) -> String {
        self.0.to_string()
    }

    fn schema() -> JsonValue {
        json!({ "enum": LADDER_MBPS })
    }
}

impl LadderMbps {
    pub const fn bandwidth(self) -> Bandwidth {
        Bandwidth::from_mbps(self.0)
    }
}

/// The provider's throttle, Mbps, or none of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Throttle(pub Option<u64>);

/// As `rateInMbps` of a lab's provider.
type ThrottleMbps = Int<1, 400_000>;

impl Leaf for Throttle {
    const EXPECTED: &'static str = "1–400000, or none";

    fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
        if scalar.text == "none" {
            return Ok(Self(None));
        }
        let Int(mbps) =
            ThrottleMbps::parse(scalar).map_err(|complaint| complaint.allowed(Self::EXPECTED))?;
        Ok(Self(Some(mbps)))
    }

    fn text(&self) -> String {
        self.0.map_or_else(|| "none".to_owned(), |mbps| mbps.to_string())
    }

    fn schema() -> JsonValue {
        json!({ "oneOf": [<ThrottleMbps as Leaf>::schema(), { "const": "none" }] })
    }
}

/// Units of time, largest first, and their nanoseconds.
const TIME_UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Longest span a file may name.
const SPAN_MAX_NS: u64 = 1_000 * TIME_UNITS[0].1;

impl Leaf for Duration {
    const EXPECTED: &'static str =
        "a number and its unit: 500us, 300ms, 1s, 10m, 1h (at most 1000h)";

    fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
        if scalar.kind() == Kind::Integer {
            let found = format!("{} has no unit", scalar.text);
            return Err(Complaint::new(found).allowed(format!("{0}ms, {0}s or {0}m", scalar.text)));
        }
        quantity(&scalar.text, &TIME_UNITS)
            .filter(|ns| *ns <= SPAN_MAX_NS)
            .map(Self::from_nanos)
            .ok_or_else(|| Complaint::new(format!("`{}` is no duration", scalar.text)))
    }

    fn text(&self) -> String {
        let ns = u64::try_from(self.as_nanos()).unwrap_or(u64::MAX);
        // Up to ten minutes people say seconds: 180s.
        let fits = |(name, unit): &&(&str, u64)| {
            ns.is_multiple_of(*unit) && (ns / unit >= 10 || !matches!(*name, "h" | "m"))
        };
        match TIME_UNITS.iter().find(fits) {
            _ if ns == 0 => "0s".to_owned(),
            Some((name, unit)) => format!("{}{name}", ns / unit),
            None => format!("{ns}ns"),
        }
    }

    fn schema() -> JsonValue {
        json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(ns|us|ms|s|m|h)$" })
    }
}

/// `12.5ms` by the units given, exactly; None when it is something else or does not fit.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let unit = units.iter().find(|(name, _)| *name == unit)?.1;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let fraction_digits =
        u32::try_from(fraction.len()).ok().filter(|digits| (1..=9).contains(digits))?;
    let scale = 10_u64.pow(fraction_digits);
    let parts = fraction.parse::<u64>().ok()?.checked_mul(unit)?;
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    parts.is_multiple_of(scale).then_some(parts / scale)?.checked_add(whole)
}

/// Units of rate, largest first, and their bits a second.
const RATE_UNITS: [(&str, u64); 4] =
    [("Gbps", 1_000_000_000), ("Mbps", 1_000_000), ("kbps", 1_000), ("bps", 1)];

/// Highest rate a file may name, bits a second.
const RATE_MAX_BPS: u64 = 1_000_000_000_000;

impl Leaf for Bandwidth {
    const EXPECTED: &'static str =
        "a number and its unit: 500kbps, 75Mbps, 1Gbps (at most 1000Gbps)";

    fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
        quantity(&scalar.text, &RATE_UNITS)
            .filter(|bps| (1..=RATE_MAX_BPS).contains(bps))
            .map(Self::from_bps)
            .ok_or_else(|| Complaint::new(format!("`{}` is no rate", scalar.text)))
    }

    fn text(&self) -> String {
        let bps = self.bps();
        let fits = |(_, unit): &&(&str, u64)| bps.is_multiple_of(*unit);
        let (name, unit) = RATE_UNITS.iter().find(fits).copied().unwrap_or(("bps", 1));
        format!("{}{name}", bps / unit)
    }

    fn schema() -> JsonValue {
        json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(k|M|G)?bps$" })
    }
}

/// Rate of probe traffic: packets, or bits of IP packets with their headers, a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrafficRate {
    PacketsPerSecond(u64),
    Bits(Bandwidth),
}

/// Fastest probe, packets a second.
const PPS_MAX: u64 = 10_000_000;

impl Leaf for TrafficRate {
    const EXPECTED: &'static str =
        "packets a second (2000pps, 2kpps, at most 10000kpps) or IP bits a second (75Mbps)";

    fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
        match quantity(&scalar.text, &[("kpps", 1_000), ("pps", 1)]) {
            Some(pps) if (1..=PPS_MAX).contains(&pps) => Ok(Self::PacketsPerSecond(pps)),
            Some(_) => Err(Complaint::new(format!("`{}` is out of range", scalar.text))),
            None => Bandwidth::parse(scalar).map(Self::Bits).map_err(|c| Complaint::new(c.found)),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::PacketsPerSecond(pps) => format!("{pps}pps"),
            Self::Bits(bandwidth) => bandwidth.text(),
        }
    }

    fn schema() -> JsonValue {
        json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(k?pps|(k|M|G)?bps)$" })
    }
}

/// A share in parts of a million, written in percent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Percent(pub u32);

impl Leaf for Percent {
    const EXPECTED: &'static str = "0%–100%, as in 1% or 0.01%";

    fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
        quantity(&scalar.text, &[("%", 10_000)])
            .and_then(|ppm| u32::try_from(ppm).ok())
            .filter(|ppm| *ppm <= 1_000_000)
            .map(Self)
            .ok_or_else(|| Complaint::new(format!("`{}` is no percentage", scalar.text)))
    }

    fn text(&self) -> String {
        let fraction = format!("{:04}", self.0 % 10_000);
        match fraction.trim_end_matches('0') {
            "" => format!("{}%", self.0 / 10_000),
            fraction => format!("{}.{fraction}%", self.0 / 10_000),
        }
    }

    fn schema() -> JsonValue {
        json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?%$" })
    }
}

impl Leaf for Amount {
    const EXPECTED: &'static str = "a number, or a share: 12 or 40%";

    fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
        if scalar.text.ends_with('%') {
            return Percent::parse(scalar).map(|percent| Self::Share(percent.0));
        }
        integer_of(scalar).map(Self::Count)
    }

    fn text(&self) -> String {
        match self {
            Self::Count(count) => count.to_string(),
            Self::Share(ppm) => Percent(*ppm).text(),
        }
    }

    fn schema() -> JsonValue {
        json!({ "oneOf": [<Int<0, { u64::MAX }> as Leaf>::schema(), <Percent as Leaf>::schema()] })
    }
}

impl Leaf for IpAddr {
    const EXPECTED: &'static str = "an IPv4 or IPv6 address";

    fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
        scalar.text.parse().map_err(|_| Complaint::new(format!("`{}` is no address", scalar.text)))
    }

    fn text(&self) -> String {
        quoted_address(self)
    }

    fn schema() -> JsonValue {
        json!({ "type": "string", "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }] })
    }
}

fn quoted_address(address: &impl Display) -> String {
    let text = address.to_string();
    if text.contains(':') { format!("\"{text}\"") } else { text }
}

impl Leaf for Prefix {
    const EXPECTED: &'static str = "an address block: 10.1.0.0/16, \"fd00:1::/48\"";

    fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
        let text = &scalar.text;
        let prefix: Self =
            text.parse().map_err(|_| Complaint::new(format!("`{text}` is no address block")))?;
        if prefix == prefix.trunc() {
            return Ok(prefix);
        }
        let found = format!("{text} has bits set after its length");
        Err(Complaint::new(found).allowed(format!("{}", prefix.trunc())))
    }

    fn text(&self) -> String {
        quoted_address(self)
    }

    fn schema() -> JsonValue {
        json!({ "type": "string", "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$" })
    }
}

/// The subnet of a link: /30 of IPv4 or, with `V6`, /126 of IPv6 (L-22).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkSubnet<const V6: bool>(pub Prefix);

impl<const V6: bool> Leaf for LinkSubnet<V6> {
    const EXPECTED: &'static str = if V6 { "a /126" } else { "a /30" };

    fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
        let prefix = Prefix::parse(scalar)?;
        let wanted = if V6 { 126 } else { 30 };
        let family = matches!(prefix, Prefix::V6(_));
        if family == V6 && prefix.prefix_len() == wanted {
            return Ok(Self(prefix));
        }
        let complaint = Complaint::new(format!("{prefix} is not {}", Self::EXPECTED)).rule("L-22");
        if family != V6 || prefix.prefix_len() + 1 != wanted {
            return Err(complaint);
        }
        let halves: Vec<_> =
            prefix.subnets(wanted).into_iter().flatten().map(|half| half.to_string()).collect();
        Err(complaint.allowed(format!(
            "it splits into {} (primary) and {} (secondary)",
            halves[0], halves[1]
        )))
    }

    fn text(&self) -> String {
        self.0.text()
    }

    fn schema() -> JsonValue {
        <Prefix as Leaf>::schema()
    }
}

/// A TCP-MD5 key (L-23).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SharedKey(pub String);

const SHARED_KEY_LEN_MAX: usize = 25;

impl Leaf for SharedKey {
    const EXPECTED: &'static str = "1–25 letters and digits, in quotes";

    fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
        let text = text_of(scalar).map_err(|complaint| complaint.rule("L-23"))?;
        let fits = (1..=SHARED_KEY_LEN_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if fits {
            return Ok(Self(text.to_owned()));
        }
        // The key itself stays out of messages, which end up in logs.
        let found = format!("a key of {} characters that does not fit", text.chars().count());
        Err(Complaint::new(found).rule("L-23"))
    }

    fn text(&self) -> String {
        json!(self.0).to_string()
    }

    fn schema() -> JsonValue {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9]{1,25}$" })
    }
}

/// `host:port` of a UDP socket.
impl Leaf for std::net::SocketAddr {
    const EXPECTED: &'static str = "an address and a port: 127.0.0.1:10000, \"[::1]:10000\"";

    fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
        scalar
            .text
            .parse()
            .map_err(|_| Complaint::new(format!("`{}` is no UDP endpoint", scalar.text)))
    }

    fn text(&self) -> String {
        json!(self.to_string()).to_string()
    }

    fn schema() -> JsonValue {
        json!({ "type": "string" })
    }
}

/// A sequence of ASNs, as routers print it: `12076 65515`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AsPath(pub Vec<Asn>);

impl Leaf for AsPath {
    const EXPECTED: &'static str = "ASNs in asplain with spaces between them: 12076 65515";

    fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
        let one = |text: &str| Asn::parse(&Scalar { text: text.to_owned(), plain: true });
        scalar.text.split_whitespace().map(one).collect::<Result<_, _>>().map(Self)
    }

    fn text(&self) -> String {
        let asns: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        json!(asns.join(" ")).to_string()
    }

    fn schema() -> JsonValue {
        json!({ "type": ["string", "integer"] })
    }
}

/// A word of a closed list.
pub fn word<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Result<T, Complaint> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let list: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    let allowed = match nearest(text, list.iter().copied()) {
        Some(near) => format!("{}; did you mean `{near}`?", list.join(", ")),
        None => list.join(", "),
    };
    Err(Complaint::new(format!("`{text}` is not among the words here")).allowed(allowed))
}

/// Makes types leaves by their lists of words.
macro_rules! words {
    ($( $ty:ty { $( $word:literal => $value:expr ),* $(,)? } )*) => { $(
        impl $crate::config::raw::Leaf for $ty {
            const EXPECTED: &'static str = concat!("one of:" $(, " ", $word)*);

            fn parse(
                scalar: &$crate::config::tree::Scalar,
            ) -> Result<Self, $crate::config::raw::Complaint> {
                $crate::config::raw::word(&scalar.text, &[$(($word, $value)),*])
            }

            fn text(&self) -> String {
                let words: &[(&str, Self)] = &[$(($word, $value)),*];
                words.iter().find(|(_, value)| value == self).map(|(word, _)| (*word).to_owned())
                    .expect("every value has a word")
            }

            fn schema() -> serde_json::Value {
                serde_json::json!({ "enum": [$($word),*] })
            }
        }
    )* };
}

/// How a router of a site comes to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouterKindWord {
    BuiltIn,
    Frr,
    Bird,
    Attach,
}

/// `state` of a peering.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeeringState {
    Enabled,
    Disabled,
}

/// `gatewayType`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExpressRouteType;

/// `profile`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    Documented2026,
}

/// `category` of a maintenance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CategoryWord {
    AsPathPrepend,
    BgpDisconnect,
}

/// `mac` of a replaced device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewMac;

/// `in` of an expectation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EveryRun;

/// A word that stands for a map: `ideal`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ideal;

/// A word that stands for a map: `converged`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Converged;

words! {
    Tier { "Standard" => Tier::Standard, "Premium" => Tier::Premium, "Local" => Tier::Local }
    BillingFamily {
        "MeteredData" => BillingFamily::MeteredData,
        "UnlimitedData" => BillingFamily::UnlimitedData,
    }
    Uni { "dot1q" => Uni::Dot1q, "untagged" => Uni::Untagged }
    PeeringType { "AzurePrivatePeering" => PeeringType::AzurePrivatePeering }
    PeeringState { "Enabled" => PeeringState::Enabled, "Disabled" => PeeringState::Disabled }
    LinkRole { "primary" => LinkRole::Primary, "secondary" => LinkRole::Secondary }
    GracefulRestart {
        "off" => GracefulRestart::Off,
        "helper" => GracefulRestart::Helper,
        "full" => GracefulRestart::Full,
    }
    FlowHash { "asymmetric" => FlowHash::Asymmetric, "symmetric" => FlowHash::Symmetric }
    Profile { "documented-2026" => Profile::Documented2026 }
    RouterKindWord {
        "built-in" => RouterKindWord::BuiltIn,
        "frr" => RouterKindWord::Frr,
        "bird" => RouterKindWord::Bird,
        "attach" => RouterKindWord::Attach,
    }
    ExpressRouteType { "ExpressRoute" => ExpressRouteType }
    GatewaySku {
        "Standard" => GatewaySku::Standard,
        "HighPerformance" => GatewaySku::HighPerformance,
        "UltraPerformance" => GatewaySku::UltraPerformance,
        "ErGw1AZ" => GatewaySku::ErGw1AZ,
        "ErGw2AZ" => GatewaySku::ErGw2AZ,
        "ErGw3AZ" => GatewaySku::ErGw3AZ,
        "ErGwScale" => GatewaySku::ErGwScale,
    }
    Ideal { "ideal" => Ideal }
    Converged { "converged" => Converged }
    NewMac { "new" => NewMac }
    Convergence { "ideal" => Convergence::Ideal, "documented" => Convergence::Documented }
    EveryRun { "every-run" => EveryRun }
    CategoryWord {
        "ASPathPrepend" => CategoryWord::AsPathPrepend,
        "BgpDisconnect" => CategoryWord::BgpDisconnect,
    }
    Directions {
        "both" => Directions::Both,
        "to-azure" => Directions::ToAzure,
        "to-onprem" => Directions::ToOnprem,
    }
    Only { "data" => Only::Data, "control" => Only::Control }
    Families { "both" => Families::Both, "ipv4" => Families::Ipv4, "ipv6" => Families::Ipv6 }
    SessionState { "up" => SessionState::Up, "down" => SessionState::Down }
    Compared {
        "routes" => Compared::Routes,
        "paths" => Compared::Paths,
        "sessions" => Compared::Sessions,
    }
}

impl Leaf for Cause {
    const EXPECTED: &'static str = "links of a cause chain";

    fn parse(scalar: &Scalar) -> Result<Self, Complaint> {
        word(&scalar.text, &Self::ALL.map(|cause| (cause.name(), cause)))
    }

    fn text(&self) -> String {
        self.name().to_owned()
    }

    fn schema() -> JsonValue {
        json!({ "enum": Self::ALL.map(Self::name) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain<T: Leaf>(text: &str) -> Result<T, Complaint> {
        T::parse(&Scalar { text: text.to_owned(), plain: true })
    }

    #[test]
    fn durations_are_exact_and_come_back_as_written() {
        for (text, ns) in [
            ("300ms", 300_000_000),
            ("1s", 1_000_000_000),
            ("10m", 600_000_000_000),
            ("500us", 500_000),
            ("0s", 0),
            ("10h", 36_000_000_000_000),
            ("180s", 180_000_000_000),
        ] {
            let span: Duration = plain(text).unwrap();
            assert_eq!(span.as_nanos(), ns, "{text}");
            assert_eq!(span.text(), text);
        }
        assert_eq!(plain::<Duration>("1.5s").unwrap(), Duration::from_millis(1500));
        for text in ["300", "1.s", ".5s", "1 s", "-1s", "s", "1x", "0.5ns", "99999999999h", "1001h"]
        {
            assert!(plain::<Duration>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_and_shares_are_exact() {
        assert_eq!(plain::<Bandwidth>("1.5Gbps").unwrap().bps(), 1_500_000_000);
        assert_eq!(plain::<Percent>("0.01%").unwrap(), Percent(100));
        assert_eq!(Percent(100).text(), "0.01%");
        assert!(plain::<Percent>("101%").is_err());
        assert!(plain::<Bandwidth>("0bps").is_err());
        assert_eq!(plain::<TrafficRate>("2kpps").unwrap(), TrafficRate::PacketsPerSecond(2000));
    }

    #[test]
    fn asdot_is_told_its_asplain() {
        let complaint = plain::<Asn>("1.10").unwrap_err();
        assert!(complaint.found.contains("looks like asdot"));
        assert_eq!(complaint.allowed.unwrap(), "write asplain 65546");
    }

    #[test]
    fn a_wide_link_subnet_is_split() {
        let complaint = plain::<LinkSubnet<false>>("172.16.0.0/29").unwrap_err();
        let allowed = complaint.allowed.unwrap();
        assert!(
            allowed.contains("172.16.0.0/30") && allowed.contains("172.16.0.4/30"),
            "{allowed}"
        );
        assert!(plain::<LinkSubnet<false>>("fd00::/126").is_err());
        assert!(plain::<LinkSubnet<true>>("fd00::/126").is_ok());
    }

    #[test]
    fn leading_zeros_are_refused() {
        assert!(plain::<VlanId>("0100").unwrap_err().found.contains("leading zero"));
    }

    #[test]
    fn what_yaml_reads_otherwise_is_quoted() {
        assert_eq!(quoted("ce1"), "ce1");
        assert_eq!(quoted("1"), "\"1\"");
        assert_eq!(quoted("true"), "\"true\"");
        assert_eq!(quoted("a b"), "\"a b\"");
    }
}
