//! What lists showed, so that what a later one lacks is told as gone only if it is gone, not if it is hidden.
//!
//! A list leaves out what its reader may not see. Mostly it says so by a header, not of what; one that an agent streams
//! doesn't even say so, and loses what a token may no longer see in the middle of a watch, under the same index. So who
//! stood in the last list and not in this is asked for by node and id, of the leader: Consul applies a question's filter
//! before rights, and therefore tells of something hidden exactly if what was asked for is there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::query::quoted;

/// Most lists that are remembered. Of more, some are forgotten: sessions of these begin as if nothing had been shown.
const MOST: usize = 1024;

/// What lists showed last, by the path that asks for them.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<HashMap<String, Arc<Places>>>);

/// Where the entries of one list stand.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// In order, each once. `None` of a list with entries to whose reader nothing is hidden, as far as could be told:
    /// they weren't noted.
    known: Option<Vec<Place>>,
}

/// A service at a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    node: Box<str>,
    id: Box<str>,
}

/// What of a list would be missed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Places(Vec<Place>),
    /// It can't be told.
    Unknown,
}

impl Shown {
    /// What the list of this path showed, if it was asked for.
    pub(super) fn get(&self, path: &str) -> Option<Arc<Places>> {
        self.lists().get(path).cloned()
    }

    pub(super) fn set(&self, path: &str, places: &Arc<Places>) {
        let mut lists = self.lists();
        if let Some(known) = lists.get_mut(path) {
            *known = Arc::clone(places);
            return;
        }
        if lists.len() >= MOST
            && let Some(any) = lists.keys().next().cloned()
        {
            lists.remove(&any);
        }
        lists.insert(path.to_owned(), Arc::clone(places));
    }

    fn lists(&self) -> MutexGuard<'_, HashMap<String, Arc<Places>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    /// Those of a body that is known to be a list. `None` if nobody is to be missed, which costs nothing.
    pub(super) fn of(body: &[u8], is_noted: bool) -> Self {
        if !is_noted {
            return Self::unnoted();
        }
        let entries = serde_json::from_slice::<Option<Vec<Entry>>>(body).map(Option::unwrap_or_default);
        // Entries that are none are left alone.
        let entries = entries.unwrap_or_else(|_| each(body));
        let mut places: Vec<Place> = entries.into_iter().map(Entry::place).collect();
        places.sort_unstable();
        places.dedup();
        Self { known: Some(places) }
    }

    pub(super) fn unnoted() -> Self {
        Self { known: None }
    }

    /// What was here and isn't there.
    pub(super) fn lacking(&self, now: &Self) -> Missing {
        let (Some(before), Some(now)) = (&self.known, &now.known) else { return Missing::Unknown };
        let is_missing = |place: &&Place| now.binary_search(place).is_err();
        Missing::Places(before.iter().filter(is_missing).cloned().collect())
    }
}

impl Place {
    /// A question for any of these.
    pub(super) fn filter(places: &[Self]) -> String {
        let one = |place: &Self| {
            format!("(Node.Node == {} and Service.ID == {})", quoted(&place.node), quoted(&place.id))
        };
        places.iter().map(one).collect::<Vec<_>>().join(" or ")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(default)]
    node: Option<Node>,
    service: Service,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(default)]
    node: Option<Box<str>>,
}

#[derive(Deserialize)]
struct Service {
    #[serde(rename = "ID")]
    id: Box<str>,
}

impl Entry {
    fn place(self) -> Place {
        Place { node: self.node.and_then(|node| node.node).unwrap_or_default(), id: self.service.id }
    }
}

fn each(body: &[u8]) -> Vec<Entry> {
    let raw = serde_json::from_slice::<Vec<&RawValue>>(body).unwrap_or_default();
    raw.into_iter().filter_map(|entry| serde_json::from_str(entry.get()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(list: &str) -> Places {
        Places::of(list.as_bytes(), true)
    }

    #[test]
    fn what_a_list_lacks_is_told_by_node_and_id() {
        let before = places(
            r#"[{"Node":{"Node":"n1","X":{"Node":7}},"Service":{"ID":"a"}},{"Service":{"ID":"b"}},
                {"Node":{"Node":"n2"},"Service":{"ID":"a"}},7,"[",{"Service":{"ID":"say \"hi\\"}}]"#,
        );
        let now = places(r#"[{"Node":{"Node":"n1"},"Service":{"ID":"a"}}]"#);
        let Missing::Places(missing) = before.lacking(&now) else { panic!("it can be told") };
        assert_eq!(
            Place::filter(&missing),
            r#"(Node.Node == "" and Service.ID == "b") or (Node.Node == "" and Service.ID == "say \x22hi\\") or (Node.Node == "n2" and Service.ID == "a")"#
        );
        assert_eq!(now.lacking(&before), Missing::Places(Vec::new()));
        assert_eq!(places("null").lacking(&now), Missing::Places(Vec::new()));
        assert_eq!(Places::unnoted().lacking(&now), Missing::Unknown);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let shown = Shown::default();
        let nothing = Arc::new(places("[]"));
        for path in 0..2 * MOST {
            shown.set(&path.to_string(), &nothing);
            shown.set(&path.to_string(), &nothing);
        }
        assert_eq!(shown.lists().len(), MOST);
        assert!(shown.get(&(2 * MOST - 1).to_string()).is_some());
    }
}
