//! The lists that Eureka answers with, split into their entries.
//!
//! ```json
//! {"applications":{"versions__delta":"1","apps__hashcode":"UP_2_","application":[{"name":"ORDERS","instance":[{…}]}]}}
//! ```
//!
//! Older servers write one application or one instance without its list, none as nothing at all, and the two keys in
//! front with one underscore. So there are two readers: [`scan`](super::scan) for what the servers of today write, and the
//! patient one here for everything else.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::wire::Loose;

/// The answer to a full fetch or a delta.
#[derive(Debug, Default)]
pub(crate) struct Applications<'a> {
    /// `None` if the server doesn't say.
    pub(crate) hash: Option<String>,
    /// Application names with their raw instances.
    pub(crate) apps: Vec<Application<'a>>,
}

#[derive(Debug, Default)]
pub(crate) struct Application<'a> {
    pub(crate) name: Option<Cow<'a, str>>,
    pub(crate) instances: Vec<&'a str>,
}

impl<'a> Applications<'a> {
    /// # Errors
    /// What is malformed, if the whole is.
    pub(crate) fn parse(body: &'a str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Root<'a> {
            #[serde(borrow)]
            applications: Applications<'a>,
        }
        serde_json::from_str::<Root<'a>>(body).map(|root| root.applications)
    }

    pub(crate) fn instances(&self) -> impl Iterator<Item = (Option<&str>, &'a str)> {
        self.apps.iter().flat_map(|app| app.instances.iter().map(|raw| (app.name.as_deref(), *raw)))
    }
}

impl<'a> Application<'a> {
    /// The answer to a look at one application.
    ///
    /// # Errors
    /// What is malformed, if the whole is.
    pub(crate) fn parse(body: &'a str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Root<'a> {
            #[serde(borrow)]
            application: Application<'a>,
        }
        serde_json::from_str::<Root<'a>>(body).map(|root| root.application)
    }
}

/// The answer to a look at one instance.
///
/// # Errors
/// What is malformed.
pub(crate) fn instance<'a>(body: &'a str) -> Result<&'a str, serde_json::Error> {
    #[derive(Deserialize)]
    struct Root<'a> {
        #[serde(borrow)]
        instance: &'a RawValue,
    }
    serde_json::from_str::<Root<'a>>(body).map(|root| root.instance.get())
}

/// A list, the one element of it, or nothing.
fn one_or_many(raw: &RawValue) -> Result<Vec<&RawValue>, serde_json::Error> {
    match raw.get().as_bytes().first() {
        Some(b'[') => serde_json::from_str(raw.get()),
        Some(b'{') => Ok(vec![raw]),
        _ => Ok(Vec::new()),
    }
}

/// Whether an element of the list may have instances. One that hasn't costs nobody the others.
fn is_application(raw: &&RawValue) -> bool {
    let is = raw.get().starts_with('{');
    if !is {
        tracing::debug!(bytes = raw.get().len(), "skipped an element that is no application");
    }
    is
}

impl<'de: 'a, 'a> Deserialize<'de> for Applications<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = Applications<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("applications")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = Applications::default();
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    match &*key {
                        "application" => {
                            let raw = one_or_many(map.next_value()?).map_err(de::Error::custom)?;
                            let apps = raw.into_iter().filter(is_application);
                            let apps = apps.map(|raw| serde_json::from_str(raw.get()));
                            all.apps = apps.collect::<Result<_, _>>().map_err(de::Error::custom)?;
                        }
                        key if key.starts_with("apps") => {
                            // An empty registry's is empty, which is not the same as none.
                            let hash: Option<Cow<'de, str>> = map.next_value()?;
                            all.hash = hash.map(Cow::into_owned);
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(all)
            }
        }

        deserializer.deserialize_map(Keys)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Application<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Parts<'a> {
            #[serde(borrow)]
            name: Loose<'a>,
            #[serde(borrow)]
            instance: Option<&'a RawValue>,
        }
        let parts = Parts::<'de>::deserialize(deserializer)?;
        let instances = parts.instance.map(one_or_many).transpose().map_err(de::Error::custom)?;
        Ok(Application {
            name: parts.name.text().map(|name| Cow::Owned(name.to_owned())),
            instances: instances.unwrap_or_default().into_iter().map(RawValue::get).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::scan, *};
    use crate::json::leading;

    /// The name of an application, and its raw instances.
    type App = (Option<String>, Vec<String>);

    fn split(body: &str) -> (Option<String>, Vec<App>) {
        let all = Applications::parse(body).unwrap();
        let texts = |raw: &[&str]| raw.iter().map(|raw| (*raw).to_owned()).collect();
        let apps = all.apps.iter().map(|app| (app.name.as_deref().map(str::to_owned), texts(&app.instances)));
        (all.hash.clone(), apps.collect())
    }

    /// The same by the reader of what servers write today, which tells of applications with entries only.
    fn walk(body: &str) -> Option<(String, Vec<App>)> {
        let mut apps: Vec<App> = Vec::new();
        let hash = scan::list(body, |app, rest| {
            let (raw, length) = leading::<&RawValue>(rest)?;
            match apps.last_mut() {
                Some((name, entries)) if name.as_deref() == app => entries.push(raw.get().to_owned()),
                _ => apps.push((app.map(str::to_owned), vec![raw.get().to_owned()])),
            }
            Some(length)
        })?;
        Some((hash, apps))
    }

    #[test]
    fn the_lists_of_today_are_split() {
        let body = r#"{"applications":{"versions__delta":"7","apps__hashcode":"UP_2_","application":[
            {"name":"A","instance":[{"a":1},{"b":2}]},{"name":"B","instance":[]}]}}"#;
        let (hash, apps) = split(body);
        assert_eq!(hash.as_deref(), Some("UP_2_"));
        let expected = [
            (Some("A".to_owned()), vec![r#"{"a":1}"#.to_owned(), r#"{"b":2}"#.to_owned()]),
            (Some("B".to_owned()), vec![]),
        ];
        assert_eq!(apps, expected);
        assert_eq!(walk(body), Some(("UP_2_".to_owned(), expected[..1].to_vec())));
    }

    #[test]
    fn where_the_name_stands_is_all_the_same() {
        let body = r#" { "x" : [ {} ] , "applications":{"application":[ {"instance":[ {"a":[1,"]"]} , 7 ],"name":"A","y":1}
            ,{"name":"B","instance":[]} , {"name":"","instance":[null ]}],"apps__hashcode":"","z":null } } "#;
        let raw = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let expected = vec![(Some("A".to_owned()), raw(&[r#"{"a":[1,"]"]}"#, "7"])), (None, raw(&["null"]))];
        assert_eq!(walk(body), Some((String::new(), expected)));
    }

    #[test]
    fn what_servers_don_t_write_today_is_left_to_the_patient_reader() {
        let app = r#"{"name":"A","instance":[{"a":1}]}"#;
        for body in [
            format!(r#"{{"applications":{{"application":[{app}]}}}}"#),
            format!(r#"{{"applications":{{"apps__hashcode":null,"application":[{app}]}}}}"#),
            format!(r#"{{"applications":{{"apps__hashcode":"","application":{app}}}}}"#),
            format!(r#"{{"applications":{{"apps__hashcode":"","application":[{app},null]}}}}"#),
            format!(r#"{{"applications":{{"apps__hashcode":"","application":[{app},{{"name":"B"}}]}}}}"#),
            format!(r#"{{"applications":{{"apps__hashcode":"","application":[{app}],"application":[]}}}}"#),
            format!(
                r#"{{"applications":{{"apps__hashcode":"","application":[{app}],"apps__hashcode":""}}}}"#
            ),
            format!(
                r#"{{"applications":{{"apps__hashcode":"","application":[{app}]}},"applications":{{}}}}"#
            ),
            format!(r#"{{"applications":{{"apps__hashcode":"","application":[{app},]}}}}"#),
            format!(r#"{{"applications":{{"apps__hashcode":"","application":[{app}]}}}}x"#),
            format!(r#"{{"applications":{{"apps__hashcode":"","application":[{app}]}}"#),
            r#"{"applications":{"apps__hashcode":""}}"#.to_owned(),
            "[]".to_owned(),
            String::new(),
        ] {
            assert_eq!(walk(&body), None, "{body}");
        }
    }

    #[test]
    fn one_without_a_list_is_a_list_of_one() {
        let body = r#"{"applications":{"versions_delta":1,"apps_hashcode":"UP_1_",
            "application":{"name":"A","instance":{"a":1}}}}"#;
        let (hash, apps) = split(body);
        assert_eq!(hash.as_deref(), Some("UP_1_"));
        assert_eq!(apps, [(Some("A".to_owned()), vec![r#"{"a":1}"#.to_owned()])]);
    }

    #[test]
    fn an_empty_registry_has_an_empty_hash_and_maybe_no_list() {
        for body in [
            r#"{"applications":{"versions__delta":"1","apps__hashcode":"","application":[]}}"#,
            r#"{"applications":{"versions__delta":"1","apps__hashcode":""}}"#,
            r#"{"applications":{"apps__hashcode":"","application":null}}"#,
        ] {
            assert_eq!(split(body), (Some(String::new()), vec![]), "{body}");
        }
        assert_eq!(split(r#"{"applications":{"apps__hashcode":null}}"#), (None, vec![]));
    }

    #[test]
    fn what_is_no_application_is_skipped() {
        let body = r#"{"applications":{"apps__hashcode":"UP_1_","application":
            [null,{"name":"A","instance":[{"a":1}]},"B",7,[],{"name":"C","instance":"D"}]}}"#;
        let expected =
            [(Some("A".to_owned()), vec![r#"{"a":1}"#.to_owned()]), (Some("C".to_owned()), vec![])];
        assert_eq!(split(body), (Some("UP_1_".to_owned()), expected.to_vec()));
    }

    #[test]
    fn both_readers_read_the_same() {
        let body = r#"{"applications":{"versions__delta":"7","apps__hashcode":"UP_2_","application":[
            {"name":"A","instance":[{"a":1},null,7]},{"name":"","instance":[]},{"instance":[],"name":"\u0042","x":[]}]}}"#;
        // What the first reader doesn't take.
        let patient = body.replace(r#""instance":[],"name""#, r#""instance":null,"name""#);
        let of_today = walk(body).unwrap();
        assert_eq!(walk(&patient), None);
        assert_eq!(split(body), split(&patient));
        let (hash, apps) = split(body);
        let with_entries = apps.into_iter().filter(|(_, entries)| !entries.is_empty()).collect::<Vec<_>>();
        assert_eq!(of_today, (hash.unwrap(), with_entries));
    }

    #[test]
    fn what_is_no_such_answer_is_an_error() {
        for body in ["", "{}", "[]", "<applications/>", r#"{"applications":[]}"#, r#"{"applications":{"a":1"#]
        {
            assert!(Applications::parse(body).is_err(), "{body}");
        }
    }
}
