//! An entry of a list as servers write it, read at a glance.
//!
//! Nearly all are: nothing between the tokens, no escape but in a native record, text where text belongs. Lists have
//! thousands of them, and most of what a general reader does for each is for the others. What differs is left to that one,
//! which decides what an entry may be: nothing is read here that it would read otherwise.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::wire::{DataCenter, Info, Lease, Loose, Pairs, Port, RECORD};
use crate::json::Plain;

/// The entry that a text begins with, and its length; `None` if it takes more to read it.
pub(crate) fn info(text: &str) -> Option<(Info<'_>, usize)> {
    let mut plain = Plain::new(text);
    let (mut info, mut seen) = (Info::default(), 0_u32);
    plain.object(|key, plain| {
        let (bit, field) = match key {
            "instanceId" => (0, &mut info.instance_id),
            "hostName" => (1, &mut info.host_name),
            "app" => (2, &mut info.app),
            "appGroupName" => (3, &mut info.app_group_name),
            "ipAddr" => (4, &mut info.ip_addr),
            "status" => (5, &mut info.status),
            "overriddenStatus" => (6, &mut info.overridden_status),
            "overriddenstatus" => (7, &mut info.overridden_status_of_old),
            "vipAddress" => (8, &mut info.vip_address),
            "secureVipAddress" => (9, &mut info.secure_vip_address),
            "lastDirtyTimestamp" => (10, &mut info.last_dirty_timestamp),
            "actionType" => (11, &mut info.action_type),
            "port" => {
                info.port = port(plain)?;
                return once(&mut seen, 12);
            }
            "securePort" => {
                info.secure_port = port(plain)?;
                return once(&mut seen, 13);
            }
            "dataCenterInfo" => {
                info.data_center_info = data_center(plain)?;
                return once(&mut seen, 14);
            }
            "leaseInfo" => {
                info.lease_info = lease(plain)?;
                return once(&mut seen, 15);
            }
            "metadata" => {
                info.metadata = pairs(plain)?;
                return once(&mut seen, 16);
            }
            _ => return pass(plain),
        };
        *field = loose(plain)?;
        once(&mut seen, bit)
    })?;
    Some((info, plain.length()))
}

/// Notes a field, of which there may be one.
#[inline]
fn once(seen: &mut u32, bit: u32) -> Option<()> {
    let is_first = *seen & 1 << bit == 0;
    *seen |= 1 << bit;
    is_first.then_some(())
}

fn port(plain: &mut Plain<'_>) -> Option<Port> {
    let [mut number, mut enabled] = [Loose::default(), Loose::default()];
    if plain.next() != Some(b'{') {
        return Some(Port::of(&loose(plain)?, &enabled));
    }
    let mut seen = 0;
    plain.object(|key, plain| {
        let (bit, field) = match key {
            "$" => (0, &mut number),
            "@enabled" => (1, &mut enabled),
            _ => return pass(plain),
        };
        *field = loose(plain)?;
        once(&mut seen, bit)
    })?;
    Some(Port::of(&number, &enabled))
}

fn data_center<'a>(plain: &mut Plain<'a>) -> Option<DataCenter<'a>> {
    let (mut read, mut seen) = (DataCenter::default(), 0);
    plain.object(|key, plain| match key {
        "metadata" => {
            read.metadata = pairs(plain)?;
            once(&mut seen, 0)
        }
        _ => pass(plain),
    })?;
    Some(read)
}

fn lease(plain: &mut Plain<'_>) -> Option<Lease> {
    let (mut registered, mut seen) = (Loose::default(), 0);
    plain.object(|key, plain| match key {
        "registrationTimestamp" => {
            registered = loose(plain)?;
            once(&mut seen, 0)
        }
        _ => pass(plain),
    })?;
    Some(Lease::of(&registered))
}

fn pairs<'a>(plain: &mut Plain<'a>) -> Option<Pairs<'a>> {
    let (mut read, mut quoted) = (Pairs::room(), None);
    plain.object(|key, plain| {
        match key {
            RECORD => {
                // There is one, and it says something.
                let is_text = plain.next() == Some(b'"');
                let raw = plain.general::<&'a RawValue>()?.get();
                let is_one = quoted.is_none() && is_text && raw.len() > 2;
                quoted = is_one.then_some(raw);
                return quoted.map(|_| ());
            }
            "@class" => drop(loose(plain)?),
            _ => read.push((Cow::Borrowed(key), loose(plain)?)),
        }
        Some(())
    })?;
    Some(Pairs::read(read, quoted))
}

/// What is in one piece, as far as its text is what stands there.
#[inline]
fn loose<'a>(plain: &mut Plain<'a>) -> Option<Loose<'a>> {
    let text = match plain.next()? {
        b'"' => Some(plain.quoted()?),
        b'0'..=b'9' => Some(plain.integer()?),
        b'n' => plain.null().map(|()| None)?,
        _ => Some(if plain.flag()? { "true" } else { "false" }),
    };
    Some(Loose::borrowed(text))
}

/// Passes over a value that nobody reads.
#[inline]
fn pass(plain: &mut Plain<'_>) -> Option<()> {
    match plain.next()? {
        b'"' | b'0'..=b'9' => plain.skip(),
        _ => plain.general::<IgnoredAny>().map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::leading;

    const OURS: &str = r#"{"actionType":"ADDED","app":"ORDERS","countryId":1,"dataCenterInfo":{"@class":"c","name":"MyOwn"},"hostName":"10.0.0.7","instanceId":"orders:a1","ipAddr":"10.0.0.7","isCoordinatingDiscoveryServer":"false","lastDirtyTimestamp":"1780000000000","leaseInfo":{"durationInSecs":30,"evictionTimestamp":0,"registrationTimestamp":1780000000001},"metadata":{"rack":"r1","sdk-record":"{\"service\":\"orders\",\"id\":\"a1\"}","zone":"z1"},"overriddenStatus":"UNKNOWN","port":{"$":8080,"@enabled":"true"},"securePort":{"$":443,"@enabled":"false"},"secureVipAddress":"orders","status":"UP","vipAddress":"orders"}"#;
    const OTHERS: &str = r#"{"instanceId":"h:app:80","hostName":"h","app":"APP","ipAddr":"10.0.0.8","status":"DOWN","overriddenstatus":"UP","port":80,"securePort":"443","countryId":-1.5,"dataCenterInfo":{"name":"Amazon","metadata":{"instance-id":"i-1","availability-zone":"z"}},"leaseInfo":{"registrationTimestamp":"7","more":[{}]},"metadata":{"@class":"m","a":null,"b":true,"c":"","d":12,"ä":"€","sdk-namespace":"p"},"homePageUrl":"http://h/","appGroupName":null,"vipAddress":"","x":[1,{"y":"]"}],"z":false}"#;

    /// Both readers' word on a text.
    fn both(text: &str) -> [Option<String>; 2] {
        let say = |read: Option<(Info<'_>, usize)>| read.map(|read| format!("{read:?}"));
        [say(info(text)), say(leading::<Info<'_>>(text))]
    }

    #[test]
    fn what_servers_write_is_read_as_by_the_general_reader() {
        let unread = r#"{"a":0.5,"b":12345678901234567890123.0,"c":0,"d":12345678901234567890}"#;
        for text in
            [OURS, OTHERS, unread, "{}", r#"{"metadata":{},"port":{},"leaseInfo":{},"dataCenterInfo":{}}"#]
        {
            for text in [text.to_owned(), format!("{text},{text}]")] {
                let [at_a_glance, general] = both(&text);
                assert!(at_a_glance.is_some(), "{text}");
                assert_eq!(at_a_glance, general, "{text}");
            }
        }
    }

    #[test]
    fn what_is_odd_is_left_to_the_general_reader() {
        for text in [
            "",
            "7",
            "null",
            "[]",
            "{",
            r#"{"app":"A""#,
            r#"{ "app":"A"}"#,
            r#"{"app":"A\"B"}"#,
            r#"{"app":"A","app":"A"}"#,
            r#"{"app":["A"]}"#,
            r#"{"app":-1}"#,
            r#"{"app":01}"#,
            r#"{"app":1.5}"#,
            r#"{"app":99999999999999999999}"#,
            r#"{"app":nul}"#,
            r#"{"x":01}"#,
            r#"{"x":1.}"#,
            r#"{"x":1.5e1}"#,
            "{\"app\":\"\n\"}",
            r#"{"port":{"$":1,"$":2}}"#,
            r#"{"port":[1]}"#,
            r#"{"metadata":"none"}"#,
            r#"{"metadata":{"sdk-record":""}}"#,
            r#"{"metadata":{"sdk-record":"a","sdk-record":"b"}}"#,
            r#"{"metadata":{"sdk-record":null}}"#,
            r#"{"leaseInfo":null}"#,
            r#"{"dataCenterInfo":"x"}"#,
            r#"{"app":"A",}"#,
            r#"{"app" :"A"}"#,
            r#"{"app":"A"]"#,
        ] {
            assert!(info(text).is_none(), "{text}");
        }
    }

    #[test]
    fn whatever_is_read_at_a_glance_the_general_reader_reads_alike() {
        let mut rng = fastrand::Rng::with_seed(5);
        let marks = br#""\{}[]:,0159-+.eEtfn $@ax"#;
        let mut read = 0;
        for round in 0..60_000 {
            let mut text = if round % 2 == 0 { OURS } else { OTHERS }.as_bytes().to_vec();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(0..text.len());
                let mark = marks[rng.usize(0..marks.len())];
                match rng.u8(0..4) {
                    0 => text[at] = mark,
                    1 => text.insert(at, mark),
                    2 => drop(text.remove(at)),
                    _ => {
                        // A piece twice, or elsewhere.
                        let end = (at + rng.usize(1..40)).min(text.len());
                        let piece = text[at..end].to_vec();
                        let to = rng.usize(0..text.len());
                        text.splice(to..to, piece);
                    }
                }
            }
            let Ok(text) = String::from_utf8(text) else { continue };
            let [at_a_glance, general] = both(&text);
            if at_a_glance.is_some() {
                read += 1;
                assert_eq!(at_a_glance, general, "{text}");
            }
        }
        assert!(read > 10_000, "{read}");
    }
}
