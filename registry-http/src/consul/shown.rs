//! What lists showed, so that what a later one lacks is told as gone only if it is gone, not if it is hidden.
//!
//! A list leaves out what its reader may not see. Mostly it says so by a header, not of what; one that an agent streams
//! doesn't even say so, and loses what a token may no longer see in the middle of a watch, under the same index. So a
//! streamed list that lacks somebody is read again from the leader, and who stood in the last list and not in one that was
//! filtered is asked for, of the leader (`discovery.rs`):
//!
//! 1. by node and id, in the service's list. An answer that isn't marked as filtered tells the truth. Consul 1.11 to
//!    1.20.1 applied a question's filter before rights, so that only something hidden *that was asked for* marked it; later
//!    ones, and their backports, mark it if anything of the whole list is hidden.
//! 2. then by node: who may see a node is shown it, and from whom it is hidden is told so. The agent isn't asked what may be
//!    read, as it remembers a token's rights for a while, 30 s by default, after they were narrowed.
//!
//! What is hidden stays in the view: a list that hides some is told with the keys of these as such that can't be read, and
//! the session ends with a refusal, as does each that follows until there is something else to tell. That ends when
//! rights return, when Consul tells that they are gone, or after an hour ([`HIDDEN_FOR`]): by then it is no slip of
//! whoever writes the policies, and who may not see an instance isn't meant to call it.
//!
//! A watch keeps what it was shown itself. What is shared here bridges the sessions of one target.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use foldhash::fast::FixedState;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{discovery::Told, query::quoted};

/// Most lists that are remembered. Of more, the oldest is forgotten: its next session begins as if nothing had been shown.
const MOST: usize = 1024;

/// How long a list is remembered that no session keeps: sessions that follow each other are less than that apart.
const BRIDGE: Duration = Duration::from_secs(10 * 60);

/// How long what was hidden is kept, if nobody says that it is gone: 1 h.
pub(super) const HIDDEN_FOR: Duration = Duration::from_secs(60 * 60);

/// How long a first list that hides some isn't told, if its places are those that were known: 10 min. What stands there
/// may have changed between two sessions, which places don't tell.
const UNTOLD_FOR: Duration = Duration::from_secs(10 * 60);

/// What lists showed last, by the path that asks for them.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<HashMap<String, (Noted, Instant)>>);

/// What one list showed.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    /// Also what is hidden.
    pub(super) places: Arc<Places>,
    pub(super) told: Told,
    /// What was shown before and has been hidden ever since.
    pub(super) hidden: Arc<[Hidden]>,
    /// Of the list that was told last while it hid some, so that the same isn't told anew by each session that is refused.
    pub(super) print: Option<u64>,
}

/// A place that was shown once, and since when it is hidden.
#[derive(Clone, Debug)]
pub(super) struct Hidden {
    pub(super) place: Place,
    pub(super) since: Instant,
}

impl Noted {
    /// Of a list that hides nothing.
    pub(super) fn whole(places: Arc<Places>, told: Told) -> Self {
        Self { places, told, hidden: Arc::from([]), print: None }
    }

    /// Whether a first list, of which only the places are known from before, tells anything but that some are hidden.
    pub(super) fn is_news(&self, now: &Places, hidden: &[Hidden], print: u64) -> bool {
        match self.print {
            // What was hidden and is gone by now was never in the bytes.
            Some(told) => told != print || self.hidden.iter().any(|one| !is_among(hidden, one)),
            None => {
                let Missing::Places(missing) = self.places.lacking(now) else { return true };
                let Missing::Places(new) = now.lacking(&self.places) else { return true };
                let is_overdue = |one: &Hidden| one.since.elapsed() >= UNTOLD_FOR;
                missing.len() > hidden.len() || !new.is_empty() || hidden.iter().any(is_overdue)
            }
        }
    }
}

fn is_among(hidden: &[Hidden], one: &Hidden) -> bool {
    hidden.iter().any(|other| other.place == one.place)
}

/// What tells the bytes of one list from those of another.
pub(super) fn print(body: &[u8]) -> u64 {
    FixedState::with_seed(0).hash_one(body)
}

/// Where the entries of one list stand.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// In order, each once. `None` of a long list to whose reader nothing is hidden, as far as could be told: they weren't
    /// noted.
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
    /// What the list of this path showed, if somebody watches it or did lately.
    pub(super) fn get(&self, path: &str) -> Option<Noted> {
        self.lists().get(path).filter(|(_, at)| at.elapsed() < BRIDGE).map(|(noted, _)| noted.clone())
    }

    pub(super) fn set(&self, path: &str, noted: Noted) {
        let (mut lists, now) = (self.lists(), Instant::now());
        if let Some(known) = lists.get_mut(path) {
            *known = (noted, now);
            return;
        }
        if lists.len() >= MOST
            && let Some(oldest) = lists.iter().min_by_key(|(_, (_, at))| *at).map(|(path, _)| path.clone())
        {
            lists.remove(&oldest);
        }
        lists.insert(path.to_owned(), (noted, now));
    }

    /// Remembers a list for longer, as a session that would show it anew failed.
    pub(super) fn keep(&self, path: &str) {
        if let Some((_, at)) = self.lists().get_mut(path).filter(|(_, at)| at.elapsed() < BRIDGE) {
            *at = Instant::now();
        }
    }

    fn lists(&self) -> MutexGuard<'_, HashMap<String, (Noted, Instant)>> {
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

    /// These and others.
    pub(super) fn and(&self, others: impl Iterator<Item = Place>) -> Self {
        let Some(known) = &self.known else { return Self::unnoted() };
        let mut known: Vec<Place> = known.iter().cloned().chain(others).collect();
        known.sort_unstable();
        known.dedup();
        Self { known: Some(known) }
    }

    pub(super) fn holds(&self, place: &Place) -> bool {
        self.known.as_ref().is_some_and(|known| known.binary_search(place).is_ok())
    }

    /// What was here and isn't there.
    pub(super) fn lacking(&self, now: &Self) -> Missing {
        let (Some(before), Some(now)) = (&self.known, &now.known) else { return Missing::Unknown };
        let is_missing = |place: &&Place| now.binary_search(place).is_err();
        Missing::Places(before.iter().filter(is_missing).cloned().collect())
    }
}

impl Place {
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

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
        for path in 0..2 * MOST {
            shown.set(&path.to_string(), nothing());
            shown.set(&path.to_string(), nothing());
        }
        assert_eq!(shown.lists().len(), MOST);
        assert!(shown.get(&(2 * MOST - 1).to_string()).is_some());
    }

    fn nothing() -> Noted {
        let told = Told {
            index: Some(5),
            age: Duration::ZERO,
            is_streaming: false,
            server: "agent".into(),
            bytes: 2,
            is_partial: false,
            is_led: true,
            vouched: Instant::now(),
        };
        Noted::whole(Arc::new(places("[]")), told)
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_the_one_that_nobody_watches_is_forgotten() {
        let shown = Shown::default();
        for path in 0..2 * MOST {
            shown.set("watched", nothing());
            tokio::time::advance(Duration::from_millis(1)).await;
            shown.set(&path.to_string(), nothing());
        }
        assert!(shown.get("watched").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_watches_is_forgotten_and_what_failing_sessions_ask_for_is_not() {
        let shown = Shown::default();
        shown.set("dropped", nothing());
        shown.set("failing", nothing());
        for _ in 0..3 {
            tokio::time::advance(BRIDGE * 2 / 3).await;
            shown.keep("failing");
        }
        assert!(shown.get("failing").is_some());
        shown.keep("dropped");
        assert!(shown.get("dropped").is_none());
    }
}
