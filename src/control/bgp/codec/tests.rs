//! What is written is read back, and read by another implementation; what is broken is answered as
//! the RFCs ask. Whole sessions are in the fixtures.

use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::WritablePdu;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use proptest::prelude::*;

use super::*;

const EXTERNAL: Context =
    Context { family: Family::Ipv4, four_octet: true, internal: false, add_path: AddPath::NONE };
const IPV6: Context = Context { family: Family::Ipv6, ..EXTERNAL };
const PATHS: Context = Context { add_path: AddPath::BOTH, ..EXTERNAL };
const IPV6_PATHS: Context = Context { add_path: AddPath::BOTH, ..IPV6 };

fn messages(mut stream: &[u8]) -> Vec<(Kind, &[u8])> {
    let mut found = Vec::new();
    while let Some((length, kind)) = frame(stream).unwrap() {
        let (message, later) = stream.split_at(length);
        found.push((kind, message));
        stream = later;
    }
    assert!(stream.is_empty());
    found
}

/// The other implementation's, which learns of path identifiers from the receiver's OPEN.
fn oracle_context(context: Context) -> BgpParsingContext {
    let mut theirs = BgpParsingContext::asn2_default();
    theirs.set_asn4(context.four_octet);
    let offer = AddPath { send: false, receive: context.add_path.send };
    let open = Open { add_path: vec![(context.family, offer)], ..open() };
    let mut stream = Vec::new();
    encode(&Message::Open(open), context, &mut stream).unwrap();
    let Ok(BgpMessage::Open(open)) = BgpMessage::parse(&mut SliceReader::new(&stream), &mut theirs)
    else {
        panic!("{stream:02x?}")
    };
    for capability in open.capabilities() {
        theirs.update_capabilities(capability, false);
    }
    theirs
}

/// Every message parses in the other implementation and is written by it as it was.
pub(in crate::control::bgp) fn assert_oracle_agrees(stream: &[u8], context: Context) {
    for (_, message) in messages(stream) {
        let mut theirs = oracle_context(context);
        let mut reader = SliceReader::new(message);
        let parsed = BgpMessage::parse(&mut reader, &mut theirs)
            .unwrap_or_else(|error| panic!("{error:?}: {message:02x?}"));
        let mut written = Vec::new();
        parsed.write(&mut written).unwrap();
        assert_eq!(written, message, "{parsed:?}");
    }
}

/// Encodes, and reads everything back as one update, which is of one path.
fn round_trip(update: &Update, context: Context) -> Update {
    let mut stream = Vec::new();
    encode_update(update, context, &mut stream).unwrap();
    assert_oracle_agrees(&stream, context);
    let mut whole = Update::default();
    for (kind, message) in messages(&stream) {
        assert!(message.len() <= MAX_LEN);
        let (part, None) = decoded(message, kind, context).unwrap() else { panic!("{kind:?}") };
        let is_first = whole == Update::default();
        assert!(is_first || part.end_of_rib || whole.path_id == part.path_id);
        whole.path_id = if is_first { part.path_id } else { whole.path_id };
        whole.withdrawn.extend(part.withdrawn);
        whole.announced.extend(part.announced);
        whole.attributes = part.attributes.or(whole.attributes);
        whole.end_of_rib |= part.end_of_rib;
    }
    whole
}

/// What an UPDATE of one path says.
fn decoded(
    message: &[u8],
    kind: Kind,
    context: Context,
) -> Result<(Update, Option<Fault>), Notification> {
    let (Message::Update(mut updates), fault) = decode(message, kind, context)? else {
        panic!("{kind:?}")
    };
    assert!(updates.len() <= 1, "{updates:?}");
    Ok((updates.pop().unwrap_or_default(), fault))
}

fn open() -> Open {
    Open {
        asn: 4_200_000_001,
        hold: 180,
        id: Ipv4Addr::new(10, 0, 0, 1),
        families: vec![Family::Ipv4],
        four_octet: true,
        route_refresh: true,
        enhanced_refresh: true,
        add_path: Vec::new(),
        graceful: None,
    }
}

fn offer(families: &[(Family, bool)]) -> GracefulOffer {
    GracefulOffer { restarted: true, restart_secs: 120, families: families.to_vec() }
}

/// An OPEN with these capabilities, in hexadecimal.
fn open_with(capabilities: &[&str]) -> Vec<u8> {
    open_with_octets(&octets(&capabilities.concat()))
}

fn open_with_octets(capabilities: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    framed(Kind::Open, &mut out, |out| {
        out.extend([4, 0xfd, 0xf2, 0, 180, 10, 0, 0, 1]);
        out.extend([capabilities.len() as u8 + 2, 2, capabilities.len() as u8]);
        out.extend(capabilities);
    });
    out
}

fn asns(numbers: &[u32]) -> Vec<Asn> {
    numbers.iter().map(|&number| Asn::new(number).unwrap()).collect()
}

fn attributes(family: Family) -> Attributes {
    Attributes {
        origin: Origin::Igp,
        as_path: AsPath::sequence(asns(&[12076, 65010])),
        next_hop: match family {
            Family::Ipv4 => Ipv4Addr::new(10, 0, 0, 1).into(),
            Family::Ipv6 => "2001:db8::1".parse().unwrap(),
        },
        med: None,
        local_preference: None,
        communities: Vec::new(),
        large_communities: Vec::new(),
    }
}

fn blocks(family: Family, count: u32) -> Vec<Prefix> {
    let one = |i: u32| match family {
        Family::Ipv4 => net4(Ipv4Addr::from(0x0a00_0000 + (i << 8)), 24),
        Family::Ipv6 => net6(Ipv6Addr::from((0x2001_0db8_u128 << 96) | u128::from(i) << 64), 64),
    };
    (0..count).map(one).collect()
}

fn announcing(prefixes: Vec<Prefix>, attributes: Attributes) -> Update {
    let attributes = Some(Arc::new(attributes));
    Update { announced: prefixes, attributes, ..Update::default() }
}

/// An UPDATE of attributes in hexadecimal and one prefix, 10.1.0.0/16.
fn update_of(attributes: &[&str]) -> Vec<u8> {
    update_with(attributes, "10 0a 01")
}

fn update_with(attributes: &[&str], nlri: &str) -> Vec<u8> {
    let attributes = octets(&attributes.concat());
    let mut out = Vec::new();
    framed(Kind::Update, &mut out, |out| {
        out.extend([0, 0]);
        out.extend((attributes.len() as u16).to_be_bytes());
        out.extend(attributes);
        out.extend(octets(nlri));
    });
    out
}

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    let octet = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(octet).collect()
}

const ORIGIN: &str = "40 01 01 00";
const PATH: &str = "40 02 06 02 01 00 00 fd f2";
const NEXT_HOP: &str = "40 03 04 0a 00 00 01";

#[test]
fn every_kind_of_message_is_read_back() {
    let both = vec![
        (Family::Ipv4, AddPath::BOTH),
        (Family::Ipv6, AddPath { send: true, receive: false }),
        (Family::Ipv6, AddPath { send: false, receive: true }),
    ];
    for message in [
        Message::Open(Open { families: vec![Family::Ipv6], ..open() }),
        Message::Open(Open { asn: 65010, four_octet: false, ..open() }),
        Message::Open(Open { add_path: both, ..open() }),
        Message::Open(Open { graceful: Some(offer(&[])), ..open() }),
        Message::Open(Open { graceful: Some(offer(&[(Family::Ipv6, true)])), ..open() }),
        Message::Notification(Notification::with_data(6, 2, shutdown_communication("why"))),
        Message::Keepalive,
        Message::RouteRefresh(RouteRefresh::Request(Family::Ipv6)),
        Message::RouteRefresh(RouteRefresh::Begin(Family::Ipv4)),
        Message::RouteRefresh(RouteRefresh::End(Family::Ipv4)),
    ] {
        let mut stream = Vec::new();
        encode(&message, EXTERNAL, &mut stream).unwrap();
        assert_oracle_agrees(&stream, EXTERNAL);
        let [(kind, bytes)] = messages(&stream)[..] else { panic!("one message") };
        assert_eq!(decode(bytes, kind, EXTERNAL), Ok((message, None)));
    }
}

#[test]
fn a_four_octet_number_is_as_trans_in_two_octets() {
    let mut stream = Vec::new();
    encode(&Message::Open(open()), EXTERNAL, &mut stream).unwrap();
    assert_eq!(stream[20..22], 23456_u16.to_be_bytes());
}

/// RFC 4724, 3. What is malformed is not there, and never more.
#[test]
fn a_restart_is_offered_by_a_capability_of_the_right_length() {
    let cases: [(&[&str], Option<GracefulOffer>); 9] = [
        (&["40 02 80 78"], Some(offer(&[]))),
        (&["40 06 80 78 0001 01 80"], Some(offer(&[(Family::Ipv4, true)]))),
        (&["40 06 f0 78 0002 01 7f"], Some(offer(&[(Family::Ipv6, false)]))),
        (
            &["40 0a 80 78 0001 01 00 0002 01 80"],
            Some(offer(&[(Family::Ipv4, false), (Family::Ipv6, true)])),
        ),
        // Families not spoken here.
        (&["40 0e 80 78 0001 02 80 0001 80 80 4004 47 80"], Some(offer(&[]))),
        // The last of several.
        (&["40 02 00 01", "40 02 80 78"], Some(offer(&[]))),
        (&["40 00"], None),
        (&["40 01 80"], None),
        (&["40 05 80 78 0001 01"], None),
    ];
    for (capabilities, expected) in cases {
        let message = open_with(capabilities);
        let Ok((Message::Open(open), None)) = decode(&message, Kind::Open, EXTERNAL) else {
            panic!("{capabilities:?}")
        };
        assert_eq!(open.graceful, expected, "{capabilities:?}");
    }
    let beyond_the_message = open_with(&["40 06 80 78"]);
    assert_eq!(decode(&beyond_the_message, Kind::Open, EXTERNAL).unwrap_err().code, code::OPEN);
}

/// RFC 4724, 2. Only an UPDATE of nothing else is the marker.
#[test]
fn the_end_of_rib_is_an_update_of_nothing() {
    let update = |withdrawn: &str, attributes: &str| {
        let (withdrawn, attributes) = (octets(withdrawn), octets(attributes));
        let mut out = Vec::new();
        framed(Kind::Update, &mut out, |out| {
            for part in [withdrawn, attributes] {
                out.extend((part.len() as u16).to_be_bytes());
                out.extend(part);
            }
        });
        out
    };
    for (context, withdrawn, attributes, expected) in [
        (EXTERNAL, "", "", true),
        (PATHS, "", "", true),
        (IPV6, "", "80 0f 03 0002 01", true),
        (IPV6_PATHS, "", "90 0f 0003 0002 01", true),
        // Of the other family.
        (IPV6, "", "", false),
        (EXTERNAL, "", "80 0f 03 0002 01", false),
        (IPV6, "", "80 0f 03 0001 01", false),
        (IPV6, "", "80 0f 03 0002 02", false),
        // With something beside it.
        (EXTERNAL, "10 0a 01", "", false),
        (EXTERNAL, "", ORIGIN, false),
        (IPV6, "", "40 01 01 00 80 0f 03 0002 01", false),
        (IPV6, "", "80 0f 08 0002 01 20 20010db8", false),
        (IPV6, "", "80 0f 02 0002", false),
    ] {
        let message = update(withdrawn, attributes);
        let marks = match decode(&message, Kind::Update, context) {
            Ok((Message::Update(updates), _)) => updates.iter().any(|update| update.end_of_rib),
            Ok(other) => panic!("{other:?}"),
            Err(_) => false,
        };
        assert_eq!(marks, expected, "{context:?} {withdrawn:?} {attributes:?}");
    }
}

/// RFC 7911, 4.
#[test]
fn several_paths_are_offered_by_a_list_that_means_something() {
    let (v4, v6) = (Family::Ipv4, Family::Ipv6);
    let receive = AddPath { send: false, receive: true };
    let send = AddPath { send: true, receive: false };
    for (list, expected) in [
        ("45 04 0001 01 03", vec![(v4, AddPath::BOTH)]),
        ("45 08 0001 01 01 0002 01 02", vec![(v4, receive), (v6, send)]),
        ("45 08 0001 80 03 0002 01 03", vec![(v6, AddPath::BOTH)]),
        // A family that the library does not know.
        ("45 08 4004 48 03 0001 01 03", vec![(v4, AddPath::BOTH)]),
        ("45 08 0001 01 03 0002 01 04", vec![]),
        ("45 04 0001 01 00", vec![]),
        ("45 05 0001 01 03 00", vec![]),
        ("45 00", vec![]),
    ] {
        let list = octets(list);
        let mut message = Vec::new();
        framed(Kind::Open, &mut message, |out| {
            out.extend(octets("04 fdf2 00b4 0a000001"));
            out.extend([list.len() as u8 + 2, 2, list.len() as u8]);
            out.extend(&list);
        });
        let (Message::Open(open), None) = decode(&message, Kind::Open, EXTERNAL).unwrap() else {
            panic!("an OPEN")
        };
        assert_eq!(open.add_path, expected, "{list:02x?}");
        let of_v4 = expected.iter().find(|(family, _)| *family == v4);
        assert_eq!(open.add_path_of(v4), of_v4.map_or(AddPath::NONE, |(_, offer)| *offer));
    }
}

#[test]
fn each_direction_of_several_paths_needs_both_ends() {
    let offer = |octet| AddPath::from_octet(octet).unwrap();
    for (own, peer, send, receive) in
        [(3, 3, true, true), (3, 1, true, false), (3, 2, false, true), (1, 1, false, false)]
    {
        assert_eq!(offer(own).agreed(offer(peer)), AddPath { send, receive });
    }
    assert_eq!(AddPath::BOTH.agreed(AddPath::NONE), AddPath::NONE);
}

/// Paths 7, 0 and 2³² − 1, mixed, in the classic fields and in attributes.
#[test]
fn each_path_of_an_update_becomes_an_update_of_its_own() {
    let [withdrawn, announced] = [
        "00000007 10 0a01  00000000 10 0a02  00000007 18 0a0300",
        "ffffffff 10 0a01  00000007 10 0a04  ffffffff 10 0a02",
    ];
    let mut classic = Vec::new();
    framed(Kind::Update, &mut classic, |out| {
        out.extend([0, 22]);
        out.extend(octets(withdrawn));
        let attributes = octets(&[ORIGIN, PATH, NEXT_HOP].concat());
        out.extend((attributes.len() as u16).to_be_bytes());
        out.extend(attributes);
        out.extend(octets(announced));
    });
    let multiprotocol = update_with(
        &[
            "90 0e 0023 0002 01 10 20010db8000000000000000000000001 00",
            "ffffffff 10 0a01  00000007 10 0a04",
            "90 0f 0018 0002 01 00000007 10 0a01 00000000 10 0a02 00000007 10 0a03",
            ORIGIN,
            PATH,
        ],
        "",
    );
    let route = |path_id, withdrawn: &[&str], announced: &[&str]| {
        let all = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        (path_id, all(withdrawn), all(announced))
    };
    let v4 = [
        route(7, &["10.1.0.0/16", "10.3.0.0/24"], &["10.4.0.0/16"]),
        route(0, &["10.2.0.0/16"], &[]),
        route(u32::MAX, &[], &["10.1.0.0/16", "10.2.0.0/16"]),
    ];
    let v6 = [
        route(u32::MAX, &[], &["a01::/16"]),
        route(7, &["a01::/16", "a03::/16"], &["a04::/16"]),
        route(0, &["a02::/16"], &[]),
    ];
    for (message, context, expected) in [(classic, PATHS, v4), (multiprotocol, IPV6_PATHS, v6)] {
        let (Message::Update(updates), None) = decode(&message, Kind::Update, context).unwrap()
        else {
            panic!("no fault")
        };
        for update in &updates {
            assert_eq!(update.attributes.is_some(), !update.announced.is_empty());
        }
        let found: Vec<(u32, Vec<Prefix>, Vec<Prefix>)> =
            updates.into_iter().map(|u| (u.path_id, u.withdrawn, u.announced)).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn identifiers_go_in_the_directions_agreed_on() {
    let mut update = announcing(blocks(Family::Ipv4, 2), attributes(Family::Ipv4));
    update.path_id = 7;
    let sending = Context { add_path: AddPath { send: true, receive: false }, ..EXTERNAL };
    let receiving = Context { add_path: AddPath { send: false, receive: true }, ..EXTERNAL };
    let unsaid = Update { path_id: 0, ..update.clone() };
    for (sender, receiver, expected) in
        [(sending, receiving, &update), (receiving, sending, &unsaid)]
    {
        let mut stream = Vec::new();
        encode_update(&update, sender, &mut stream).unwrap();
        assert_oracle_agrees(&stream, sender);
        assert_eq!(decoded(&stream, Kind::Update, receiver), Ok((expected.clone(), None)));
    }
}

#[test]
fn all_paths_of_a_malformed_update_are_withdrawn() {
    let nlri = "00000001 10 0a01  00000002 10 0a01";
    let message = update_with(&["40 01 01 05", PATH, NEXT_HOP], nlri);
    let (Message::Update(updates), Some(_)) = decode(&message, Kind::Update, PATHS).unwrap() else {
        panic!("a fault")
    };
    let withdrawn = |path_id| {
        let withdrawn = vec!["10.1.0.0/16".parse().unwrap()];
        Update { withdrawn, path_id, ..Update::default() }
    };
    assert_eq!(updates, [1, 2].map(withdrawn));
}

/// RFC 7606, 5.3.
#[test]
fn a_path_identifier_cut_short_ends_the_session() {
    for nlri in ["00", "00000007", "00000007 10 0a"] {
        let message = update_with(&[ORIGIN, PATH, NEXT_HOP], nlri);
        let answer = decode(&message, Kind::Update, PATHS).unwrap_err();
        assert_eq!((answer.code, answer.subcode), (3, 10), "{nlri}");
    }
}

#[test]
fn a_path_of_four_octets_survives_a_two_octet_session() {
    let context = Context { four_octet: false, ..EXTERNAL };
    let mut attributes = attributes(Family::Ipv4);
    attributes.as_path = AsPath::sequence(asns(&[65010, 4_200_000_001, 12076]));
    let update = announcing(blocks(Family::Ipv4, 1), attributes);
    assert_eq!(round_trip(&update, context), update);
}

#[test]
fn the_marker_is_known_in_both_families() {
    let marker = Update { end_of_rib: true, ..Update::default() };
    assert_eq!(round_trip(&marker, EXTERNAL), marker);
    assert_eq!(round_trip(&marker, IPV6), marker);
    assert_eq!(round_trip(&marker, PATHS), marker);
    assert_eq!(round_trip(&marker, IPV6_PATHS), marker);
}

#[test]
fn messages_are_filled_to_the_last_prefix() {
    for (context, announced, withdrawn) in [
        // 4,096 − 23 − 24 octets of attributes, 4 a prefix; 4,096 − 23, 4 a prefix.
        (EXTERNAL, 1012, 1018),
        // 9 octets a prefix; 25 of MP_REACH_NLRI and no NEXT_HOP; 7 of MP_UNREACH_NLRI.
        (IPV6, 447, 451),
        // Four octets more a prefix.
        (PATHS, 506, 509),
        (IPV6_PATHS, 310, 312),
    ] {
        let attributes = attributes(context.family);
        for extra in [0, 1] {
            let prefixes = blocks(context.family, announced + extra);
            let mut stream = Vec::new();
            let update = announcing(prefixes, attributes.clone());
            encode_update(&update, context, &mut stream).unwrap();
            assert_eq!(messages(&stream).len() as u32, 1 + extra, "{context:?}");
            assert_eq!(round_trip(&update, context), update);

            let prefixes = blocks(context.family, withdrawn + extra);
            let update = Update { withdrawn: prefixes, ..Update::default() };
            stream.clear();
            encode_update(&update, context, &mut stream).unwrap();
            assert_eq!(messages(&stream).len() as u32, 1 + extra, "{context:?}");
            assert_eq!(round_trip(&update, context), update);
        }
    }
}

#[test]
fn what_cannot_be_said_is_refused_whole() {
    let mut long = attributes(Family::Ipv4);
    long.communities = vec![1; 1100];
    let mut with_set = attributes(Family::Ipv4);
    with_set.as_path.0.push(Segment::Set(asns(&[1, 2])));
    let missing = Update { announced: blocks(Family::Ipv4, 1), ..Update::default() };
    for (update, expected) in [
        (announcing(blocks(Family::Ipv4, 1), long), "path attributes of 4428 octets"),
        (announcing(blocks(Family::Ipv4, 1), with_set), "path attributes cannot be encoded"),
        (announcing(blocks(Family::Ipv6, 1), attributes(Family::Ipv4)), "2001:db8:: is not of"),
        (announcing(blocks(Family::Ipv4, 1), attributes(Family::Ipv6)), "2001:db8::1 is not of"),
        (missing, "announced routes without"),
    ] {
        let mut out = vec![7];
        let update = Update { withdrawn: blocks(Family::Ipv4, 2), ..update };
        let error = encode_update(&update, EXTERNAL, &mut out).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
        assert_eq!(out, [7]);
    }
}

#[test]
fn headers_are_checked_before_anything_else() {
    let header = |length: u16, kind: u8| {
        let mut header = vec![0xff; 16];
        header.extend(length.to_be_bytes());
        header.push(kind);
        header
    };
    let mut skewed = header(19, 4);
    skewed[3] = 0;
    let answer = |code, subcode, data: &[u8]| Err(Notification::with_data(code, subcode, data));
    for (bytes, expected) in [
        (header(19, 4)[..18].to_vec(), Ok(None)),
        (header(19, 4), Ok(Some((19, Kind::Keepalive)))),
        (header(4096, 2), Ok(Some((4096, Kind::Update)))),
        (skewed, answer(1, 1, &[])),
        (header(18, 4), answer(1, 2, &[0, 18])),
        (header(4097, 2), answer(1, 2, &[16, 1])),
        (header(20, 4), answer(1, 2, &[0, 20])),
        (header(28, 1), answer(1, 2, &[0, 28])),
        (header(22, 2), answer(1, 2, &[0, 22])),
        (header(20, 3), answer(1, 2, &[0, 20])),
        (header(19, 6), answer(1, 3, &[6])),
        (header(19, 0), answer(1, 3, &[0])),
    ] {
        assert_eq!(frame(&bytes), expected, "{bytes:02x?}");
    }
}

#[test]
fn a_refresh_of_bad_length_is_answered_by_its_subtype() {
    let refresh = |body: &[u8]| {
        let mut out = Vec::new();
        framed(Kind::RouteRefresh, &mut out, |out| out.extend(body));
        let answer = decode(&out, Kind::RouteRefresh, EXTERNAL);
        (answer, out)
    };
    let (answer, whole) = refresh(&[0, 1, 1]);
    assert_eq!(answer, Err(Notification::with_data(7, 1, whole)));
    let (answer, _) = refresh(&[0, 1, 0, 1, 9]);
    assert_eq!(answer, Err(Notification::with_data(1, 2, [0, 24])));
    for unknown in [[0, 9, 0, 1], [0, 1, 3, 1], [0, 1, 0, 2]] {
        let (answer, _) = refresh(&unknown);
        assert_eq!(answer, Ok((Message::RouteRefresh(RouteRefresh::Unknown), None)));
    }
}

#[test]
fn a_malformed_attribute_has_the_disposition_of_rfc_7606() {
    use Disposition::{AttributeDiscard, TreatAsWithdraw};
    for (what, attributes, expected) in [
        ("sound", vec![ORIGIN, PATH, NEXT_HOP], None),
        ("ORIGIN 5", vec!["40 01 01 05", PATH, NEXT_HOP], Some((TreatAsWithdraw, 6))),
        ("ORIGIN twice", vec![ORIGIN, ORIGIN, PATH, NEXT_HOP], Some((AttributeDiscard, 1))),
        ("ORIGIN optional", vec!["c0 01 01 00", PATH, NEXT_HOP], Some((TreatAsWithdraw, 4))),
        ("no ORIGIN", vec![PATH, NEXT_HOP], Some((TreatAsWithdraw, 3))),
        ("no NEXT_HOP", vec![ORIGIN, PATH], Some((TreatAsWithdraw, 3))),
        ("NEXT_HOP 0", vec![ORIGIN, PATH, "40 03 04 00 00 00 00"], Some((TreatAsWithdraw, 8))),
        (
            "NEXT_HOP of 5 octets",
            vec![ORIGIN, PATH, "40 03 05 0a 00 00 01 00"],
            Some((TreatAsWithdraw, 5)),
        ),
        (
            "segment overrun",
            vec![ORIGIN, "40 02 06 02 02 00 00 fd f2", NEXT_HOP],
            Some((TreatAsWithdraw, 11)),
        ),
        ("AS 0", vec![ORIGIN, "40 02 06 02 01 00 00 00 00", NEXT_HOP], Some((TreatAsWithdraw, 11))),
        (
            "COMMUNITIES of 5 octets",
            vec![ORIGIN, PATH, NEXT_HOP, "c0 08 05 00 00 00 00 00"],
            Some((TreatAsWithdraw, 5)),
        ),
        (
            "unknown well-known",
            vec![ORIGIN, PATH, NEXT_HOP, "40 63 01 00"],
            Some((TreatAsWithdraw, 2)),
        ),
        ("unknown optional", vec![ORIGIN, PATH, NEXT_HOP, "c0 63 01 00"], None),
        (
            "attribute overruns the list",
            vec![ORIGIN, PATH, NEXT_HOP, "c0 08 20 00"],
            Some((TreatAsWithdraw, 1)),
        ),
        (
            "AGGREGATOR of 3 octets",
            vec![ORIGIN, PATH, NEXT_HOP, "c0 07 03 00 00 00"],
            Some((AttributeDiscard, 5)),
        ),
        (
            "external LOCAL_PREF of 3 octets",
            vec![ORIGIN, PATH, NEXT_HOP, "40 05 03 00 00 00"],
            Some((AttributeDiscard, 5)),
        ),
        (
            "the stronger of two",
            vec![ORIGIN, ORIGIN, PATH, NEXT_HOP, "c0 08 05 00 00 00 00 00"],
            Some((TreatAsWithdraw, 5)),
        ),
        (
            "IPv6 routes that were not negotiated",
            vec![
                ORIGIN,
                PATH,
                NEXT_HOP,
                "80 0e 1a 00 02 01 10 20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 01 00 20 \
                 20 01 0d b8",
            ],
            Some((AttributeDiscard, 0)),
        ),
    ] {
        for (context, nlri, path_id) in [(EXTERNAL, "10 0a 01", 0), (PATHS, "00000007 10 0a 01", 7)]
        {
            let message = update_with(&attributes, nlri);
            let (update, fault) = decoded(&message, Kind::Update, context)
                .unwrap_or_else(|answer| panic!("{what}: {answer:?}"));
            let found = fault.as_ref().map(|fault| (fault.disposition, fault.subcode));
            assert_eq!(found, expected, "{what}: {fault:?}");
            let withdrawn = found.is_some_and(|(disposition, _)| disposition == TreatAsWithdraw);
            let routes: Vec<Prefix> = vec!["10.1.0.0/16".parse().unwrap()];
            assert_eq!(update.withdrawn == routes, withdrawn, "{what}");
            assert_eq!(update.announced == routes, !withdrawn, "{what}");
            assert_eq!(update.attributes.is_some(), !withdrawn, "{what}");
            assert_eq!(update.path_id, path_id, "{what}");
            assert!(!update.end_of_rib, "{what}");
        }
    }
}

#[test]
fn without_routes_to_withdraw_a_bad_attribute_ends_the_session() {
    let mut message = update_of(&["40 01 01 05", PATH, NEXT_HOP]);
    message.truncate(message.len() - 3);
    let length = (message.len() as u16).to_be_bytes();
    message[16..18].copy_from_slice(&length);
    assert_eq!(decode(&message, Kind::Update, EXTERNAL), Err(Notification::new(3, 6)));
}

/// RFC 4271, 6.3.
#[test]
fn a_multicast_prefix_is_ignored_and_its_neighbours_are_not() {
    let mut message = update_of(&[ORIGIN, PATH, NEXT_HOP]);
    message.extend([8, 224]);
    message[17] += 2;
    let (update, Some(fault)) = decoded(&message, Kind::Update, EXTERNAL).unwrap() else {
        panic!("a fault")
    };
    assert_eq!(update.announced, ["10.1.0.0/16".parse::<Prefix>().unwrap()]);
    assert_eq!(fault.disposition, Disposition::AttributeDiscard);
    assert_eq!(fault.why, "a multicast prefix was announced");
}

#[test]
fn local_preference_counts_inside_only() {
    let message = update_of(&[ORIGIN, PATH, NEXT_HOP, "40 05 04 00 00 00 c8"]);
    for (internal, expected) in [(false, None), (true, Some(200))] {
        let context = Context { internal, ..EXTERNAL };
        let (update, None) = decoded(&message, Kind::Update, context).unwrap() else {
            panic!("no fault")
        };
        assert_eq!(update.attributes.unwrap().local_preference, expected);
    }
}

prop_compose! {
    fn any_attributes(context: Context)(
        origin in prop::sample::select(vec![Origin::Igp, Origin::Egp, Origin::Incomplete]),
        path in prop::collection::vec(1_u32.., 0..300),
        next_hop in 0x0100_0000_u32..0x7e00_0000,
        med: Option<u32>,
        preference: u32,
        communities in prop::collection::vec(any::<u32>(), 0..80),
        large in prop::collection::btree_set(any::<(u32, u32, u32)>(), 0..30),
    ) -> Attributes {
        let mut as_path = AsPath::default();
        // Merging AS4_PATH loses where a path of more than one segment was divided.
        let longest = if context.four_octet { path.len() } else { path.len().min(255) };
        for &number in path[..longest].iter().rev() {
            as_path.prepend(Asn::new(number).unwrap(), 1);
        }
        Attributes {
            origin,
            as_path,
            next_hop: match context.family {
                Family::Ipv4 => Ipv4Addr::from(next_hop).into(),
                Family::Ipv6 => {
                    Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(next_hop)).into()
                }
            },
            med,
            local_preference: context.internal.then_some(preference),
            communities,
            large_communities: large.into_iter().collect(),
        }
    }
}

fn any_prefixes(family: Family) -> impl Strategy<Value = Vec<Prefix>> {
    prop::collection::vec((any::<u128>(), 0_u8..=128), 0..900).prop_map(move |parts| {
        let one = |(bits, length): (u128, u8)| match family {
            Family::Ipv4 => net4(Ipv4Addr::from(bits as u32 >> 1), length % 33),
            Family::Ipv6 => net6(Ipv6Addr::from(bits >> 1), length),
        };
        parts.into_iter().map(one).collect()
    })
}

fn any_update() -> impl Strategy<Value = (Context, Update)> {
    let context = any::<(bool, bool, bool, bool)>().prop_map(|(v4, wide, internal, paths)| {
        let family = if v4 { Family::Ipv4 } else { Family::Ipv6 };
        let add_path = if paths { AddPath::BOTH } else { AddPath::NONE };
        Context { family, four_octet: wide, internal, add_path }
    });
    context.prop_flat_map(|context| {
        let routes = (any_prefixes(context.family), any_prefixes(context.family));
        let rest = (any_attributes(context), any::<bool>(), any::<u32>());
        (Just(context), routes, rest).prop_map(
            |(context, (withdrawn, announced), (attributes, end_of_rib, path_id))| {
                let attributes = (!announced.is_empty()).then(|| Arc::new(attributes));
                let named = context.add_path.send && (withdrawn.len() + announced.len() > 0);
                let path_id = if named { path_id } else { 0 };
                (context, Update { withdrawn, announced, attributes, end_of_rib, path_id })
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_update_is_read_back_and_pleases_the_oracle((context, update) in any_update()) {
        prop_assert_eq!(round_trip(&update, context), update);
    }

    #[test]
    fn damaged_messages_are_answered(
        (context, update) in any_update(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..5),
    ) {
        let mut stream = Vec::new();
        encode_update(&update, context, &mut stream).unwrap();
        for (at, bit) in flips {
            if !stream.is_empty() {
                let at = at.index(stream.len());
                stream[at] ^= 1 << bit;
            }
        }
        let mut rest = &stream[..];
        while let Ok(Some((length, kind))) = frame(rest) {
            let Some((message, later)) = rest.split_at_checked(length) else { break };
            let _ = decode(message, kind, context);
            rest = later;
        }
    }

    #[test]
    fn any_offer_of_restarts_is_read_back_and_pleases_the_oracle(
        restarted: bool,
        restart_secs in 0..=GracefulOffer::MAX_SECS,
        ipv4: Option<bool>,
        ipv6: Option<bool>,
    ) {
        let families = [(Family::Ipv4, ipv4), (Family::Ipv6, ipv6)];
        let families = families.into_iter().filter_map(|(family, bit)| Some((family, bit?)));
        let offer = GracefulOffer { restarted, restart_secs, families: families.collect() };
        let message = Message::Open(Open { graceful: Some(offer), ..open() });
        let mut stream = Vec::new();
        encode(&message, EXTERNAL, &mut stream).unwrap();
        assert_oracle_agrees(&stream, EXTERNAL);
        prop_assert_eq!(decode(&stream, Kind::Open, EXTERNAL), Ok((message, None)));
    }

    /// Capability 64 of any length and content, and cut short.
    #[test]
    fn any_capability_of_restarts_is_taken_or_answered(
        value in prop::collection::vec(any::<u8>(), 0..40),
        said in 0_u8..48,
    ) {
        let message = open_with_octets(&[&[0x40, said], &value[..]].concat());
        if let Ok((Message::Open(open), _)) = decode(&message, Kind::Open, EXTERNAL) {
            let offer = open.graceful.as_ref();
            prop_assert!(offer.is_none_or(|offer| offer.restart_secs <= GracefulOffer::MAX_SECS));
        }
    }

    #[test]
    fn random_bodies_are_answered(
        body in prop::collection::vec(any::<u8>(), 0..500),
        kind in 1_u8..=5,
        four_octet: bool,
        paths: bool,
    ) {
        let mut message = Vec::new();
        framed(Kind::from_octet(kind).unwrap(), &mut message, |out| out.extend(&body));
        if let Ok(Some((_, kind))) = frame(&message) {
            let add_path = if paths { AddPath::BOTH } else { AddPath::NONE };
            let _ = decode(&message, kind, Context { four_octet, add_path, ..EXTERNAL });
        }
    }
}
