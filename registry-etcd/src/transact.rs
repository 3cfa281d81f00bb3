//! Putting and deleting many records, each guarded, in few transactions, several of which are under way at a time.
//!
//! ```text
//!            all compares hold
//!   guess ───────────────────────▶ done
//!     │ one fails: the same answer carries what stands under every key
//!     ▼
//!   judge ── identical, or another's ──▶ settled without writing
//!     │ the rest, guarded by the revision seen
//!     ▼
//!   transact ── somebody was quicker ──▶ judge again, at most ROUNDS times, then each record alone
//! ```
//!
//! The guess is that a record to put is absent and that one to delete hangs on our lease. A repeated transaction
//! (the first answer was lost) finds its own writing and settles, which makes all of it repeatable.

use std::collections::{HashSet, VecDeque};

use etcd_client::{
    Compare, CompareOp, PutOptions, Txn, TxnOp,
    proto::{PbKeyValue, PbTxnOpResponse},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use registry_core::{
    Error, ErrorKind, Incarnation, InstanceKey, OnDuplicate, backend::Outcome, model::RecordVersion,
};

use crate::{
    codec::Layout,
    error::{Fault, is_too_large},
    session::Session,
};

/// Most bytes of keys and values in one transaction: two thirds of the server's default request limit.
const MAX_BYTES: usize = 1024 * 1024;
/// How often a set of records is judged anew before its members go on alone, and how often those are.
const ROUNDS: usize = 3;
/// Transactions of one call that may be under way at a time: while the server applies one it reads the next.
const IN_FLIGHT: usize = 64;

pub(crate) struct Transactor<'a> {
    pub(crate) session: &'a Session,
    pub(crate) layout: &'a dyn Layout,
    pub(crate) lease: i64,
    pub(crate) incarnation: Incarnation,
    pub(crate) operation: &'static str,
}

/// What is to become of a record.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    Put { value: Vec<u8>, on_duplicate: OnDuplicate },
    Delete,
}

/// What stands under a key.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) value: Vec<u8>,
    pub(crate) lease: i64,
    revision: i64,
}

impl From<PbKeyValue> for Found {
    fn from(kv: PbKeyValue) -> Self {
        Self { value: kv.value, lease: kv.lease, revision: kv.mod_revision }
    }
}

#[derive(Clone, Debug)]
struct Job {
    /// Of its outcome.
    at: usize,
    name: InstanceKey,
    key: Vec<u8>,
    wish: Wish,
    guard: Guard,
}

/// What has to hold for the wish to be carried out.
#[derive(Clone, Copy, Debug)]
enum Guard {
    OnOurLease,
    /// 0: the key is absent.
    Revision(i64),
}

enum Verdict {
    Settled(Outcome),
    Try(Guard),
}

/// The version of a record, if it says who wrote it.
pub(crate) fn owner_of(layout: &dyn Layout, key: &InstanceKey, value: &[u8]) -> Option<RecordVersion> {
    layout.decode(key, value).ok()?.record_version()
}

impl Transactor<'_> {
    /// Carries the wishes out; one outcome each, in order.
    pub(crate) async fn fulfil(&self, wishes: Vec<Result<(InstanceKey, Wish), Error>>) -> Vec<Outcome> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; wishes.len()];
        let mut queue = VecDeque::new();
        for (at, wish) in wishes.into_iter().enumerate() {
            match wish {
                Ok((name, wish)) => {
                    let guard = match wish {
                        Wish::Put { .. } => Guard::Revision(0),
                        Wish::Delete => Guard::OnOurLease,
                    };
                    queue.push_back(Job { at, key: self.layout.key(&name), name, wish, guard });
                }
                Err(error) => outcomes[at] = Some(Err(error)),
            }
        }
        let mut alone = 0_usize;
        // A key that occurs twice has its turns in order.
        let mut busy = HashSet::new();
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < IN_FLIGHT {
                let most = if alone > 0 { 1 } else { self.session.txn_ops() };
                let jobs = self.take_chunk(&mut queue, most, &mut busy);
                if jobs.is_empty() {
                    break;
                }
                alone = alone.saturating_sub(jobs.len());
                running.push(Box::pin(self.settle(jobs)));
            }
            let Some(Settled { keys, done, end }) = running.next().await else { break };
            for key in &keys {
                busy.remove(key);
            }
            for (at, outcome) in done {
                outcomes[at] = Some(outcome);
            }
            let many = keys.len() > 1;
            let (mut failed, error) = match end {
                End::Done => continue,
                End::Contended(jobs) if many => {
                    alone += jobs.len();
                    jobs.into_iter().rev().for_each(|job| queue.push_front(job));
                    continue;
                }
                End::Contended(jobs) => {
                    let error = Fault::unavailable("the record kept changing").into_error(self.operation);
                    (jobs, error)
                }
                End::Failed(jobs, error) if many && is_too_large(&error) => {
                    self.session.shrink_txn_ops(jobs.len());
                    jobs.into_iter().rev().for_each(|job| queue.push_front(job));
                    continue;
                }
                // One record may be the reason; it must not fail the others.
                End::Failed(jobs, error) if many && is_about_one(&error) => {
                    alone += jobs.len();
                    jobs.into_iter().rev().for_each(|job| queue.push_front(job));
                    continue;
                }
                End::Failed(jobs, error) => (jobs, error),
            };
            if !is_about_one(&error) && error.kind() != ErrorKind::Conflict {
                // The registry is at fault, not a record: asking for the rest would fail the same way, slowly.
                failed.extend(queue.drain(..));
            }
            for job in failed {
                outcomes[job.at] = Some(Err(error.clone()));
            }
        }
        outcomes.into_iter().map(|outcome| outcome.expect("every job was settled")).collect()
    }

    /// Reads what stands under each key, at one revision per transaction.
    pub(crate) async fn read(&self, names: &[InstanceKey]) -> Result<Vec<Option<Found>>, Error> {
        let mut found = Vec::with_capacity(names.len());
        let mut left = names;
        while !left.is_empty() {
            let (chunk, rest) = left.split_at(left.len().min(self.session.txn_ops()));
            let gets: Vec<TxnOp> = chunk.iter().map(|n| TxnOp::get(self.layout.key(n), None)).collect();
            match self.transact(Txn::new().and_then(gets), chunk.len()).await {
                Ok(Reply::Found(all)) => found.extend(all),
                Ok(Reply::Written) => {
                    return Err(Fault::protocol("a read was answered as a write").into_error("inspect"));
                }
                Err(error) if chunk.len() > 1 && is_too_large(&error) => {
                    self.session.shrink_txn_ops(chunk.len());
                    continue;
                }
                Err(error) => return Err(error),
            }
            left = rest;
        }
        Ok(found)
    }

    /// As many jobs as fit one transaction, up to the first whose key is busy; theirs become busy.
    fn take_chunk(&self, queue: &mut VecDeque<Job>, most: usize, busy: &mut HashSet<Vec<u8>>) -> Vec<Job> {
        let mut chunk = Vec::new();
        let mut bytes = 0;
        while let Some(job) = queue.front() {
            let size = job.key.len() * 3
                + match &job.wish {
                    Wish::Put { value, .. } => value.len(),
                    Wish::Delete => 0,
                };
            let full = chunk.len() >= most || bytes + size > MAX_BYTES;
            if busy.contains(&job.key) || (full && !chunk.is_empty()) {
                break;
            }
            bytes += size;
            busy.insert(job.key.clone());
            chunk.extend(queue.pop_front());
        }
        chunk
    }

    async fn settle(&self, jobs: Vec<Job>) -> Settled {
        let keys = jobs.iter().map(|job| job.key.clone()).collect();
        let mut done = Vec::with_capacity(jobs.len());
        let end = self.try_all(jobs, &mut done).await;
        Settled { keys, done, end }
    }

    async fn try_all(&self, mut jobs: Vec<Job>, done: &mut Vec<(usize, Outcome)>) -> End {
        for _ in 0..ROUNDS {
            let mut compares = Vec::with_capacity(jobs.len());
            let mut writes = Vec::with_capacity(jobs.len());
            let mut reads = Vec::with_capacity(jobs.len());
            for job in &jobs {
                compares.push(match job.guard {
                    Guard::OnOurLease => Compare::lease(job.key.clone(), CompareOp::Equal, self.lease),
                    Guard::Revision(at) => Compare::mod_revision(job.key.clone(), CompareOp::Equal, at),
                });
                writes.push(match &job.wish {
                    Wish::Put { value, .. } => {
                        let on_lease = PutOptions::new().with_lease(self.lease);
                        TxnOp::put(job.key.clone(), value.clone(), Some(on_lease))
                    }
                    Wish::Delete => TxnOp::delete(job.key.clone(), None),
                });
                reads.push(TxnOp::get(job.key.clone(), None));
            }
            let txn = Txn::new().when(compares).and_then(writes).or_else(reads);
            let found = match self.transact(txn, jobs.len()).await {
                Ok(Reply::Written) => {
                    done.extend(jobs.iter().map(|job| (job.at, Ok(()))));
                    return End::Done;
                }
                Ok(Reply::Found(found)) => found,
                Err(error) => return End::Failed(jobs, error),
            };
            let mut left = Vec::with_capacity(jobs.len());
            for (mut job, found) in jobs.into_iter().zip(found) {
                match self.judge(&job, found.as_ref()) {
                    Verdict::Settled(outcome) => done.push((job.at, outcome)),
                    Verdict::Try(guard) => {
                        job.guard = guard;
                        left.push(job);
                    }
                }
            }
            if left.is_empty() {
                return End::Done;
            }
            jobs = left;
        }
        End::Contended(jobs)
    }

    fn judge(&self, job: &Job, found: Option<&Found>) -> Verdict {
        let owner = found.and_then(|found| owner_of(self.layout, &job.name, &found.value));
        let ours = owner.is_some_and(|version| version.incarnation == self.incarnation);
        match (&job.wish, found) {
            (Wish::Delete, None) => Verdict::Settled(Ok(())),
            (Wish::Delete, Some(found)) if ours => Verdict::Try(Guard::Revision(found.revision)),
            // A successor's: the record that we were to remove is gone.
            (Wish::Delete, Some(_)) => Verdict::Settled(Ok(())),
            (Wish::Put { .. }, None) => Verdict::Try(Guard::Revision(0)),
            (Wish::Put { value, .. }, Some(found)) if found.lease == self.lease && found.value == *value => {
                Verdict::Settled(Ok(()))
            }
            (Wish::Put { on_duplicate, .. }, Some(found)) => {
                if ours || *on_duplicate == OnDuplicate::TakeOver {
                    return Verdict::Try(Guard::Revision(found.revision));
                }
                let message = format!("another client has registered {}", job.name);
                let error = Error::new(ErrorKind::Conflict, message);
                Verdict::Settled(Err(error.with_context(crate::NAME, self.operation)))
            }
        }
    }

    async fn transact(&self, txn: Txn, keys: usize) -> Result<Reply, Error> {
        let answer = self
            .session
            .call(self.session.call_of(self.operation), |lane| {
                let txn = txn.clone();
                async move { Reply::read(lane.kv.clone().txn(txn).await?, keys) }
            })
            .await?;
        Ok(answer.value)
    }
}

/// What became of one chunk.
struct Settled {
    keys: Vec<Vec<u8>>,
    /// The outcomes that are certain, by their place.
    done: Vec<(usize, Outcome)>,
    end: End,
}

enum End {
    Done,
    /// Others kept writing the same keys.
    Contended(Vec<Job>),
    Failed(Vec<Job>, Error),
}

enum Reply {
    Written,
    Found(Vec<Option<Found>>),
}

impl Reply {
    /// Not `op_responses`, which panics on an empty union and clones everything.
    fn read(answer: etcd_client::TxnResponse, keys: usize) -> Result<Self, Fault> {
        let responses = answer.0.responses;
        if responses.len() != keys {
            return Err(Fault::protocol("the transaction has another number of answers than of operations"));
        }
        let mut found = Vec::with_capacity(keys);
        for response in responses {
            match response.response {
                Some(PbTxnOpResponse::ResponseRange(range)) => {
                    found.push(range.kvs.into_iter().next().map(Found::from));
                }
                Some(PbTxnOpResponse::ResponsePut(_) | PbTxnOpResponse::ResponseDeleteRange(_))
                    if answer.0.succeeded => {}
                _ => return Err(Fault::protocol("the transaction has an answer of another kind")),
            }
        }
        match found.len() {
            0 => Ok(Self::Written),
            all if all == keys => Ok(Self::Found(found)),
            _ => Err(Fault::protocol("the transaction has answers of both kinds")),
        }
    }
}

/// Whether one record of many can be the reason, so that the others are worth a try of their own.
fn is_about_one(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidArgument)
}
