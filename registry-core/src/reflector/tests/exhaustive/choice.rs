//! What may happen to a reflector.

use std::sync::Arc;

use super::{
    super::{key, weighted},
    world::{Checked, Seen, Truth},
};
use crate::{
    Error, ErrorKind,
    backend::{Change, Cursor, Event, Evidence, Listing, SourceId},
    model::Instance,
    reflector::signal::Input,
};

#[derive(Clone, Debug)]
pub(super) enum Choice {
    /// The session opens with a list.
    List,
    /// It opens where it was asked to.
    Resume,
    /// It can't, as the history is gone.
    Compacted,
    /// The next revision is delivered.
    Next,
    /// A lookup is carried out; its answer is on the way.
    Look,
    /// Its answer comes.
    Answer,
    Tick,
    Put(&'static str),
    Delete(&'static str),
    /// The session fails.
    Break(ErrorKind),
    End,
    /// The session says nothing any more.
    Silence,
    /// The session repeats an older revision.
    Repeat,
    /// The session lists nobody.
    Lie,
    /// The lookup fails.
    Fail,
    /// The lookup is carried out by a replica that is a revision behind.
    LookBehind,
    /// A caller is refused.
    Refused,
    /// The registry loses its data; whether its sessions end.
    Wipe(bool),
}

impl Checked {
    pub(super) fn faults(&self) -> Vec<Choice> {
        let mut faults = vec![Choice::Wipe(true), Choice::Wipe(false)];
        if self.bench.open {
            faults.extend([
                Choice::Break(ErrorKind::Unavailable),
                Choice::Break(ErrorKind::Compacted),
                Choice::End,
            ]);
            faults.extend((!self.silent).then_some(Choice::Silence));
        }
        if let Some(delivered) = self.delivered() {
            // A list that is older than the view would be a registry that was restored from a backup.
            let reached = self.reached.as_ref().filter(|(source, _)| *source == self.source().to_string());
            faults.extend(reached.is_none_or(|(_, view)| *view <= delivered as u64).then_some(Choice::Lie));
            faults.extend((delivered > 1).then_some(Choice::Repeat));
        }
        faults.extend(self.bench.suspects.contains("a").then_some(Choice::Refused));
        faults
    }

    /// What goes wrong with a lookup, at whatever time it is asked for.
    pub(super) fn lookup_faults(&self) -> Vec<Choice> {
        let mut faults = Vec::new();
        if self.asked() {
            faults.push(Choice::Fail);
            faults.extend((self.seen.is_none() && self.revision() > 0).then_some(Choice::LookBehind));
        }
        faults
    }

    pub(super) fn edits(&self) -> Vec<Choice> {
        let mut edits = vec![Choice::Put("a")];
        edits.extend(self.truth().keys().map(|id| Choice::Delete(id)));
        edits
    }

    fn evidence((source, revision): Seen) -> Evidence {
        Evidence::at(SourceId::new(source.to_string()), revision as u64)
    }

    fn event(changes: Vec<Change>, at: Seen) -> Event {
        Event::new(changes, Some(Cursor::new(format!("{}:{}", at.0, at.1))), Self::evidence(at))
    }

    fn all(truth: &Truth) -> Vec<Arc<Instance>> {
        truth.iter().map(|(id, weight)| weighted(id, *weight)).collect()
    }

    /// What a revision of the present source changed.
    pub(super) fn change(&self, revision: usize) -> Change {
        let (before, after) = (&self.past[self.source()][revision - 1], &self.past[self.source()][revision]);
        let put = after.iter().find(|(id, weight)| before.get(*id) != Some(weight));
        match put {
            Some((id, weight)) => Change::Upsert(weighted(id, *weight)),
            None => Change::Remove(key(before.keys().find(|id| !after.contains_key(*id)).unwrap())),
        }
    }

    /// Lets it happen; what a list that came with it held.
    pub(super) fn apply(&mut self, choice: &Choice) -> Option<Truth> {
        let now = (self.source(), self.revision());
        let fault = !matches!(
            choice,
            Choice::List
                | Choice::Resume
                | Choice::Compacted
                | Choice::Next
                | Choice::Look
                | Choice::Answer
                | Choice::Tick
                | Choice::Put(_)
                | Choice::Delete(_)
        );
        self.scope.faults -= u8::from(fault);
        self.scope.edits -= u8::from(matches!(choice, Choice::Put(_) | Choice::Delete(_)));
        match choice {
            Choice::List => {
                self.live = Some((self.bench.session(), now.1));
                self.lied = false;
                let truth = self.truth().clone();
                self.bench.event(Self::event(vec![Change::Reset(Self::all(&truth))], now));
                return Some(truth);
            }
            Choice::Resume => {
                let at = self.cursor().expect("a cursor");
                self.live = Some((self.bench.session(), at.1));
                self.bench.event(Self::event(vec![Change::Resumed], at));
            }
            Choice::Compacted => self.bench.fail_with(Error::new(ErrorKind::Compacted, "gone")),
            Choice::Next => {
                let at = self.delivered().expect("a live session") + 1;
                self.live = Some((self.bench.session(), at));
                self.bench.event(Self::event(vec![self.change(at)], (now.0, at)));
            }
            Choice::Look => self.seen = Some(now),
            Choice::LookBehind => self.seen = Some((now.0, now.1 - 1)),
            Choice::Answer | Choice::Fail => {
                let id = self.bench.state.lookups.asked.expect("a lookup").id;
                let seen = self.seen.take().filter(|_| matches!(choice, Choice::Answer));
                let Some(at) = seen else {
                    self.bench
                        .send(Input::Listed { id, answer: Err(Error::new(ErrorKind::Timeout, "late")) });
                    return None;
                };
                let truth = self.past[at.0][at.1].clone();
                let listing = Listing::new(Self::all(&truth), Self::evidence(at));
                self.bench.send(Input::Listed { id, answer: Ok(listing) });
                // A list of other data isn't taken, and leaves what there is.
                let taken = self.bench.state.guard.source() == Some(&SourceId::new(at.0.to_string()));
                self.lied &= at != now || !taken;
                return Some(truth);
            }
            Choice::Tick => {
                let step = self.step();
                self.bench.jump(step);
                self.bench.send(Input::Tick);
                if let Some(at) = self.delivered().filter(|_| !self.silent) {
                    self.bench.event(Self::event(Vec::new(), (now.0, at)));
                }
            }
            Choice::Put(id) => {
                let mut truth = self.truth().clone();
                *truth.entry(id).or_default() += 1;
                self.past[now.0].push(truth);
            }
            Choice::Delete(id) => {
                let mut truth = self.truth().clone();
                truth.remove(id);
                self.past[now.0].push(truth);
            }
            Choice::Break(kind) => self.bench.fail_with(Error::new(*kind, "broken")),
            Choice::End => self.bench.end(),
            Choice::Silence => self.silent = true,
            Choice::Repeat => {
                let at = self.delivered().expect("a live session") - 1;
                self.bench.event(Self::event(vec![self.change(at)], (now.0, at)));
            }
            Choice::Lie => {
                self.lied = true;
                let at = self.delivered().expect("a live session");
                self.bench.event(Self::event(vec![Change::Reset(Vec::new())], (now.0, at)));
                return Some(Truth::new());
            }
            Choice::Refused => self.bench.send(Input::Failed(key("a"))),
            Choice::Wipe(ends) => {
                self.past.push(vec![Truth::new()]);
                if *ends && self.bench.open {
                    self.bench.end();
                } else if let Some((session, _)) = self.live {
                    // The session goes on with the new data.
                    self.live = Some((session, 0));
                }
            }
        }
        // A session that is gone takes its silence along.
        self.silent &= self.bench.open;
        None
    }
}
