//! What a reflector promises. D4, the algebra of changes, is asked by the bench itself, and D2 at the end of a path.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::{
    super::secs,
    choice::Choice,
    world::{Checked, Truth},
};
use crate::{ErrorKind, backend::Change, reflector::status::Loaded};

impl Checked {
    /// D1: what leaves the view was deleted, or lacked by a list that didn't lack all, or held for long enough.
    pub(super) fn never_wiped(
        &self,
        choice: &Choice,
        before: &BTreeMap<String, u32>,
        asked: Option<Instant>,
        listed: Option<&Truth>,
    ) {
        let after = self.view();
        let now = self.bench.now.mono;
        let deleted: BTreeSet<_> = match (choice, self.delivered()) {
            (Choice::Next, Some(at)) => match self.change(at) {
                Change::Remove(key) => [key.id.to_string()].into(),
                _ => BTreeSet::new(),
            },
            _ => BTreeSet::new(),
        };
        for id in before.keys().filter(|id| !after.contains_key(*id)) {
            let since = self.held.get(id).copied();
            let over = since.is_some_and(|since| since + secs(30) <= now);
            let agreed = since.zip(asked).is_some_and(|(since, asked)| since + secs(15) <= asked);
            let small = listed.is_some_and(|list| !list.is_empty() && !list.contains_key(id.as_str()));
            let refused = matches!(choice, Choice::Refused) && since.is_some();
            let why = deleted.contains(id) || over || (agreed && listed.is_some()) || small || refused;
            assert!(why, "D1: {id} left the view by {choice:?}, held since {:?}", since.map(|s| now - s));
        }
    }

    /// D1: only a list or a removal makes an instance doubtful; no error and no time does.
    pub(super) fn doubts_nobody_without_a_word(&self, choice: &Choice) {
        if matches!(choice, Choice::List | Choice::Next | Choice::Answer | Choice::Lie) {
            return;
        }
        let new = self.bench.suspects.iter().find(|id| !self.held.contains_key(*id));
        assert!(new.is_none(), "D1: {new:?} is held because of {choice:?}");
    }

    /// D3: within a source revisions only grow.
    pub(super) fn never_goes_back(&mut self) {
        let guard = &self.bench.state.guard;
        let Some((source, revision)) = guard.source().zip(guard.revision()) else { return };
        if let Some((known, reached)) = &self.reached
            && *known == source.as_str()
        {
            assert!(*reached <= revision, "D3: from revision {reached} back to {revision}");
        }
        self.reached = Some((source.as_str().to_owned(), revision));
    }

    /// D5: what isn't held is what the registry held at the revision that the view is said to be of.
    pub(super) fn is_the_truth_of_its_revision(&self) {
        let Some((source, revision)) = &self.reached else { return };
        if self.lied || self.bench.state.status().loaded != Loaded::Registry {
            return;
        }
        let source: usize = source.parse().unwrap();
        let truth = &self.past[source][usize::try_from(*revision).unwrap()];
        let mut view = self.view();
        view.retain(|id, _| !self.bench.suspects.contains(id));
        let told: BTreeMap<_, _> = truth.iter().map(|(id, weight)| ((*id).to_owned(), *weight)).collect();
        assert_eq!(view, told, "D5: the view is not what the registry held at {:?}", self.reached);
    }

    /// D5: a session goes on where the last one came to, which the view has reached.
    pub(super) fn resumes_where_it_stands(&mut self) {
        if self.opened == self.bench.opened.len() {
            return;
        }
        self.opened = self.bench.opened.len();
        if let Some(resumes) = self.resumes {
            let how = if resumes {
                "not resumed after a mere loss of contact"
            } else {
                "resumed where it can't be"
            };
            assert_eq!(self.cursor().is_some(), resumes, "D5: the session is {how}");
        }
        if let Some(cursor) = self.cursor() {
            assert_eq!(cursor, self.told, "D5: resumed elsewhere than the last session came to");
            let stands = self.reached.as_ref().map(|(source, revision)| (source.as_str(), *revision));
            let (source, revision) = (cursor.0.to_string(), cursor.1 as u64);
            assert!(stands.is_some_and(|s| s.0 == source && s.1 >= revision), "D5: resumed beyond the view");
        }
    }

    /// What a choice says of the next session: after a mere loss of contact it goes on, with the history gone it lists.
    pub(super) fn expect_resumption(&mut self, choice: &Choice) {
        match choice {
            Choice::Break(ErrorKind::Compacted) | Choice::Compacted => self.resumes = Some(false),
            Choice::Break(_) | Choice::End | Choice::Wipe(true) if self.delivered().is_some() => {
                self.resumes = Some(true);
            }
            Choice::List | Choice::Resume => self.resumes = None,
            _ => {}
        }
    }
}
