use registry_core::Namespace;
use serde_json::{Value, json};

use super::*;
use crate::consul::names::Names;

fn entry(id: &str) -> Value {
    json!({"Node": {"Node": "n1", "Address": "10.0.0.1"},
           "Service": {"ID": id, "Service": "orders", "Port": 80, "Tags": ["say \"hi\""]},
           "Checks": [{"CheckID": "c", "Status": "passing"}]})
}

/// The ids of a list, those that are new, and whether it was blank.
type Seen = (Vec<String>, Vec<String>, bool);

fn seen(relist: &mut Relist, body: &str) -> Option<Seen> {
    let (names, service) = (Names::new(&Namespace::default()), ServiceName::new("orders").unwrap());
    let reading =
        Reading { names: &names, service: &service, home: None, is_remote: false, is_prepared: false };
    let Taken { relisted, is_blank, .. } = take(relist, &reading, body.as_bytes())?;
    let ids = |list: &[Arc<Instance>]| list.iter().map(|one| one.id().to_string()).collect();
    Some((ids(&relisted.instances), ids(&relisted.changed), is_blank))
}

#[test]
fn a_first_list_is_read_as_a_later_one_is() {
    let strange = [json!({"Service": 7}), json!(7), json!("a, ]b"), json!([[]]), Value::Null, json!({})];
    let mut entries = vec![entry("a")];
    entries.extend(strange);
    entries.push(entry("b"));
    entries.push(entry("a"));
    for body in [json!(entries).to_string(), format!("\n {:#}\t", json!(entries))] {
        let mut fresh = Relist::new();
        let first = seen(&mut fresh, &body).unwrap();
        assert_eq!(first, (vec!["a@n1".to_owned(), "b@n1".to_owned()], first.0.clone(), false), "{body}");
        // The bytes of each entry are known by now: nothing is read again.
        let again = seen(&mut fresh, &body).unwrap();
        assert_eq!((again.0, again.1.len()), (first.0.clone(), 0));

        let mut other = Relist::new();
        seen(&mut other, &json!([entry("c")]).to_string()).unwrap();
        assert_eq!(seen(&mut other, &body).unwrap(), first, "by the way of later lists");
    }
}

#[test]
fn a_body_that_is_no_list_teaches_nothing() {
    let a = entry("a");
    let broken = [
        format!("[{a}"),
        format!("[{a},]"),
        format!("[{a} {a}]"),
        format!("[,{a}]"),
        format!("[{a}]]"),
        format!("[{a}] x"),
        format!("[{a},{{]"),
        "[".to_owned(),
        String::new(),
        "{}".to_owned(),
        "7".to_owned(),
        "[nul]".to_owned(),
        format!("[{a},\"b]"),
        // A form feed is no white space to JSON.
        format!("[\u{c}{a}]"),
        format!("[{a}\u{c}]"),
        format!("[{a},\u{c}{a}]"),
        format!("[{a}]\u{c}"),
        format!("\u{c}[{a}]"),
        format!("[\u{c}{a}]\u{c}"),
    ];
    for body in broken {
        let mut relist = Relist::new();
        relist.is_same(body.as_bytes());
        assert_eq!(seen(&mut relist, &body), None, "{body}");
        assert!(relist.is_new() && !relist.is_same(body.as_bytes()), "{body}");
        let whole = json!([a]).to_string();
        assert_eq!(seen(&mut relist, &whole).unwrap().1, ["a@n1"]);
        assert_eq!(seen(&mut relist, &body), None, "{body}");
        assert_eq!(seen(&mut relist, &whole).unwrap().1.len(), 0, "what was known before is known");
    }
}

#[test]
fn a_list_without_entries_is_blank_and_one_without_readable_ones_is_not() {
    for (body, is_blank) in [("[]", true), (" [ ] ", true), ("null", true), ("[7]", false), ("[{}]", false)] {
        assert_eq!(seen(&mut Relist::new(), body), Some((vec![], vec![], is_blank)), "{body}");
    }
}
