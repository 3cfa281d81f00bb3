//! What is going to happen, drawn from one seed before anything happens.
//!
//! The same seed gives the same rounds, and a longer run begins with the rounds of a shorter one. Only what the
//! machine does in between differs, so a failure that hangs on timing may need several runs of its seed.

use std::{collections::BTreeMap, fmt, ops::Range, time::Duration};

use fastrand::Rng;

/// Registrations at the beginning, and about as many later.
pub(crate) const REGISTRATIONS: usize = 100;
/// Clients that register, each with a lease of its own.
pub(crate) const WRITERS: usize = 5;
/// Members of the cluster.
pub(crate) const MEMBERS: usize = 3;
/// What a round is expected to take beyond its faults: to recover, and to show that it lasts.
const REST: Duration = Duration::from_secs(14);

/// The whole run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What it was drawn from.
    pub(crate) seed: u64,
    /// Who registers what before the first round.
    pub(crate) first: BTreeMap<String, usize>,
    /// One after the other.
    pub(crate) rounds: Vec<Round>,
}

/// Something breaks, everybody goes on, it is repaired, and then all has to be well.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Round {
    /// While all is well: instances that another client takes over.
    pub(crate) takeovers: Vec<Takeover>,
    /// What breaks; with several, at the same time.
    pub(crate) faults: Vec<Break>,
    /// What users do meanwhile, by time.
    pub(crate) churn: Vec<Step>,
}

/// Two clients with one id: the later one wins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Takeover {
    pub(crate) id: String,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// One fault of a round.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Break {
    /// From the beginning of the round.
    pub(crate) after: Duration,
    /// Until it is repaired; nothing for what happens at once.
    pub(crate) lasts: Duration,
    pub(crate) fault: Fault,
}

/// What breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL; repaired by a start with the same data.
    Kill(Member),
    /// Two of three: nobody can decide anything.
    KillMajority,
    /// SIGSTOP, SIGCONT.
    Freeze(Member),
    /// A member without the others; clients still reach it.
    Isolate(Member),
    /// Connections reset and refused.
    Cut(Links),
    /// Open and silent, both ways.
    Hold(Links),
    /// Requests arrive, answers don't.
    HoldAnswers(Links),
    /// Each byte later, each way.
    Delay(Links, Duration),
    /// So many bytes per second.
    Trickle(Links, u64),
    /// All connections reset once.
    Reset(Links),
    /// The operator revokes the lease of a writer.
    Revoke(usize),
    /// The operator deletes records.
    Delete(Vec<String>),
    /// The history up to now is forgotten.
    Compact,
    /// Another member leads.
    MoveLeader(usize),
}

/// Which member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Member {
    /// Whoever leads at that moment.
    Leader,
    Numbered(usize),
}

/// Which of the ways between clients and members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    All,
    To(usize),
}

/// What a user does, and when.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// From the beginning of the round.
    pub(crate) after: Duration,
    pub(crate) id: String,
    pub(crate) writer: usize,
    pub(crate) act: Act,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Register,
    Update,
    Deregister,
}

impl Plan {
    /// What this seed means for so many minutes.
    pub(crate) fn draw(seed: u64, minutes: u64) -> Self {
        let mut drawing = Drawing::new(seed);
        let first = drawing.standing.clone();
        let mut left = Duration::from_secs(minutes * 60);
        let mut rounds = Vec::new();
        loop {
            let round = drawing.round();
            let Some(rest) = left.checked_sub(round.window() + REST) else { break };
            left = rest;
            rounds.push(round);
        }
        Self { seed, first, rounds }
    }
}

impl Round {
    /// Until the last fault is repaired.
    pub(crate) fn window(&self) -> Duration {
        self.faults.iter().map(|fault| fault.after + fault.lasts).max().unwrap_or_default()
    }
}

/// Kinds of faults, in the order of [`Drawing::fault`].
const KINDS: usize = 14;
/// The kinds that concern members, links and what an operator does: two of one class would mean nothing new.
const CLASSES: [Range<usize>; 3] = [0..4, 4..10, 10..KINDS];

struct Drawing {
    rng: Rng,
    /// Kinds that were not drawn since all were: a short run sees many too.
    deck: Vec<usize>,
    standing: BTreeMap<String, usize>,
    ids: usize,
}

impl Drawing {
    fn new(seed: u64) -> Self {
        let mut drawing =
            Self { rng: Rng::with_seed(seed), deck: Vec::new(), standing: BTreeMap::new(), ids: 0 };
        for number in 0..REGISTRATIONS {
            let id = drawing.fresh_id();
            drawing.standing.insert(id, number % WRITERS);
        }
        drawing
    }

    fn round(&mut self) -> Round {
        let takeovers = (0..self.rng.usize(0..3)).map(|_| self.takeover()).collect();
        let mut kinds = vec![self.kind(|_| true)];
        if self.rng.u8(0..3) == 0 {
            let class = class_of(kinds[0]);
            kinds.push(self.kind(|kind| class_of(kind) != class));
        }
        let faults: Vec<Break> = kinds.into_iter().map(|kind| self.fault(kind)).collect();
        let mut round = Round { takeovers, faults, churn: Vec::new() };
        round.churn = self.churn(round.window());
        round
    }

    fn takeover(&mut self) -> Takeover {
        let (id, from) = self.any_standing();
        let to = (from + self.rng.usize(1..WRITERS)) % WRITERS;
        self.standing.insert(id.clone(), to);
        Takeover { id, from, to }
    }

    fn kind(&mut self, fits: impl Fn(usize) -> bool) -> usize {
        if !self.deck.iter().any(|kind| fits(*kind)) {
            let mut all: Vec<usize> = (0..KINDS).collect();
            self.rng.shuffle(&mut all);
            // What is left of the old deck comes first.
            all.append(&mut self.deck);
            self.deck = all;
        }
        let last = self.deck.iter().rposition(|kind| fits(*kind)).expect("a full deck has every kind");
        self.deck.remove(last)
    }

    fn fault(&mut self, kind: usize) -> Break {
        let fault = match kind {
            0 => Fault::Kill(self.member()),
            1 => Fault::KillMajority,
            2 => Fault::Freeze(self.member()),
            3 => Fault::Isolate(self.member()),
            4 => Fault::Cut(self.links()),
            5 => Fault::Hold(self.links()),
            6 => Fault::HoldAnswers(self.links()),
            7 => Fault::Delay(self.links(), self.millis(20..300)),
            8 => Fault::Trickle(self.links(), self.rng.u64(2_000..50_000)),
            9 => Fault::Reset(self.links()),
            10 => Fault::Revoke(self.rng.usize(0..WRITERS)),
            11 => Fault::Delete((0..self.rng.usize(1..30)).map(|_| self.any_standing().0).collect()),
            12 => Fault::Compact,
            _ => Fault::MoveLeader(self.rng.usize(0..MEMBERS)),
        };
        let lasts = if fault.lasts() { self.length() } else { Duration::ZERO };
        Break { after: self.millis(100..1500), lasts, fault }
    }

    /// Shorter than half the time to live, around it, or longer.
    fn length(&mut self) -> Duration {
        match self.rng.u8(0..3) {
            0 => self.millis(100..1200),
            1 => self.millis(1500..4000),
            _ => self.millis(4000..8000),
        }
    }

    fn churn(&mut self, window: Duration) -> Vec<Step> {
        let end = u64::try_from(window.as_millis()).unwrap_or(u64::MAX) + 500;
        let mut times: Vec<u64> = (0..self.rng.usize(8..25)).map(|_| self.rng.u64(0..end)).collect();
        times.sort_unstable();
        let step = |after: u64| {
            let after = Duration::from_millis(after);
            let (id, writer) = self.any_standing();
            match self.rng.u8(0..4) {
                0 if self.standing.len() > REGISTRATIONS - 20 => {
                    self.standing.remove(&id);
                    Step { after, id, writer, act: Act::Deregister }
                }
                1 if self.standing.len() < REGISTRATIONS + 20 => {
                    let (id, writer) = (self.fresh_id(), self.rng.usize(0..WRITERS));
                    self.standing.insert(id.clone(), writer);
                    Step { after, id, writer, act: Act::Register }
                }
                _ => Step { after, id, writer, act: Act::Update },
            }
        };
        times.into_iter().map(step).collect()
    }

    fn any_standing(&mut self) -> (String, usize) {
        let at = self.rng.usize(0..self.standing.len());
        let (id, writer) = self.standing.iter().nth(at).expect("the index is below the length");
        (id.clone(), *writer)
    }

    fn fresh_id(&mut self) -> String {
        self.ids += 1;
        format!("i{:04}", self.ids)
    }

    fn member(&mut self) -> Member {
        if self.rng.bool() { Member::Leader } else { Member::Numbered(self.rng.usize(0..MEMBERS)) }
    }

    fn links(&mut self) -> Links {
        if self.rng.bool() { Links::All } else { Links::To(self.rng.usize(0..MEMBERS)) }
    }

    fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.rng.u64(range))
    }
}

fn class_of(kind: usize) -> Option<usize> {
    CLASSES.iter().position(|class| class.contains(&kind))
}

impl Fault {
    /// Whether it has to be repaired.
    fn lasts(&self) -> bool {
        !matches!(
            self,
            Self::Reset(_) | Self::Revoke(_) | Self::Delete(_) | Self::Compact | Self::MoveLeader(_)
        )
    }

    /// For counting.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Kill(_) => "kill",
            Self::KillMajority => "kill two",
            Self::Freeze(_) => "freeze",
            Self::Isolate(_) => "isolate",
            Self::Cut(_) => "cut",
            Self::Hold(_) => "hold",
            Self::HoldAnswers(_) => "hold answers",
            Self::Delay(..) => "delay",
            Self::Trickle(..) => "trickle",
            Self::Reset(_) => "reset",
            Self::Revoke(_) => "revoke",
            Self::Delete(_) => "delete",
            Self::Compact => "compact",
            Self::MoveLeader(_) => "move leader",
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {} rounds", self.seed, self.rounds.len())?;
        for (number, round) in self.rounds.iter().enumerate() {
            writeln!(f, "round {:>3}: {round}", number + 1)?;
        }
        Ok(())
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.faults.iter().enumerate() {
            let separator = if number > 0 { " and " } else { "" };
            write!(f, "{separator}{} after {:?}", fault.fault, fault.after)?;
            if !fault.lasts.is_zero() {
                write!(f, " for {:?}", fault.lasts)?;
            }
        }
        let count = |act: Act| self.churn.iter().filter(|step| step.act == act).count();
        write!(
            f,
            "; churn: {} new, {} updated, {} gone, {} taken over",
            count(Act::Register),
            count(Act::Update),
            count(Act::Deregister),
            self.takeovers.len()
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::Kill(member) | Self::Freeze(member) | Self::Isolate(member) => match member {
                Member::Leader => f.write_str(" leader"),
                Member::Numbered(number) => write!(f, " member {number}"),
            },
            Self::Cut(links) | Self::Hold(links) | Self::HoldAnswers(links) | Self::Reset(links) => {
                links.fmt(f)
            }
            Self::Delay(links, delay) => write!(f, "{links} by {delay:?}"),
            Self::Trickle(links, rate) => write!(f, "{links} at {rate} B/s"),
            Self::Revoke(writer) => write!(f, " lease of writer {writer}"),
            Self::Delete(ids) => write!(f, " {} records", ids.len()),
            Self::MoveLeader(to) => write!(f, " to member {to}"),
            Self::KillMajority | Self::Compact => Ok(()),
        }
    }
}

impl fmt::Display for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str(" all links"),
            Self::To(member) => write!(f, " links to member {member}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{Act, Plan, REGISTRATIONS, class_of};

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_one_another() {
        assert_eq!(Plan::draw(7, 10), Plan::draw(7, 10));
        assert_ne!(Plan::draw(7, 10).rounds, Plan::draw(8, 10).rounds);
    }

    #[test]
    fn a_longer_run_begins_with_the_rounds_of_a_shorter_one() {
        let (short, long) = (Plan::draw(7, 2), Plan::draw(7, 30));
        assert!(long.rounds.len() > 70, "{}", long.rounds.len());
        assert!(long.rounds.starts_with(&short.rounds));
    }

    #[test]
    fn half_an_hour_sees_every_kind_of_fault_several_times() {
        let plan = Plan::draw(1, 30);
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for fault in plan.rounds.iter().flat_map(|round| &round.faults) {
            *seen.entry(fault.fault.kind()).or_default() += 1;
        }
        assert_eq!(seen.len(), super::KINDS);
        assert!(seen.values().all(|count| *count >= 5), "{seen:?}");
    }

    #[test]
    fn two_faults_of_one_round_are_of_different_classes() {
        for round in Plan::draw(3, 30).rounds {
            assert!((1..=2).contains(&round.faults.len()));
        }
        assert_ne!(class_of(0), class_of(4));
    }

    #[test]
    fn churn_only_touches_what_stands() {
        let plan = Plan::draw(5, 30);
        let mut standing = plan.first.clone();
        let mut ever: BTreeSet<String> = standing.keys().cloned().collect();
        for round in &plan.rounds {
            for takeover in &round.takeovers {
                assert_eq!(standing.insert(takeover.id.clone(), takeover.to), Some(takeover.from));
                assert_ne!(takeover.from, takeover.to);
            }
            for step in &round.churn {
                match step.act {
                    Act::Register => {
                        assert!(ever.insert(step.id.clone()), "an id is used once");
                        standing.insert(step.id.clone(), step.writer);
                    }
                    Act::Update => assert_eq!(standing.get(&step.id), Some(&step.writer)),
                    Act::Deregister => assert_eq!(standing.remove(&step.id), Some(step.writer)),
                }
            }
            assert!((REGISTRATIONS - 25..=REGISTRATIONS + 25).contains(&standing.len()));
        }
    }
}
