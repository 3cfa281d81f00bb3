//! Row 30: register, update, deregister and drop, each given up after every possible number of polls, at every moment
//! of what the keeper is doing meanwhile, with and without faults. The registry's calls take a millisecond each way,
//! so half-millisecond steps reach every await of the keeper as well.
//!
//! A bystander under the same lease sees none of it.

use std::{future::poll_fn, task::Poll, time::Duration};

use registry_core::{
    Client, Deregistration, ErrorKind, MemoryRegistry, Phase, RegisterOptions, Registration,
    RegistrationEvent, Weight, memory::Operation,
};
use tokio::time::{Instant, sleep};

use super::{
    scripted::{Fate, Link},
    support::{EventLog, client_with, figure, instance, log_of, millis, secs},
};

const TTL: Duration = secs(3);
/// Half of the shortest stretch between two awaits.
const STEP: Duration = Duration::from_micros(500);
/// No call of the public API is polled more often than this in these scripts.
const MOST_POLLS: usize = 64;

/// One thing that is done to the key, and how often its future is polled before it is given up.
#[derive(Clone, Copy, Debug)]
enum Act {
    Register(usize),
    Update(usize),
    Deregister(usize),
    Drop,
    Fault(Fault),
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Down,
    Frozen,
    AnswersLost,
    LeasesForgotten,
    RecordDeleted,
    Healed,
}

const FAULTS: [Fault; 6] = [
    Fault::Down,
    Fault::Frozen,
    Fault::AnswersLost,
    Fault::LeasesForgotten,
    Fault::RecordDeleted,
    Fault::Healed,
];

/// Polls at most so often, then drops. Whether it came to its end is all that counts.
async fn polled<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    if polls == 0 {
        return None;
    }
    let mut future = Box::pin(future);
    let mut left = polls;
    poll_fn(|context| {
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// One run of one script.
struct Run {
    registry: MemoryRegistry,
    client: Client,
    slot: Option<Registration>,
    /// The logs of all registrations of the key that came about.
    logs: Vec<EventLog>,
    bystander: Registration,
    silent: EventLog,
    weight: u32,
    /// Set once the registry confirmed that the record is gone, until it is wanted again.
    gone: bool,
    disturbed: bool,
    script: Vec<(Act, Duration)>,
}

impl Run {
    async fn new(seed: u64) -> Self {
        fastrand::seed(seed);
        let registry = MemoryRegistry::new();
        let link =
            Link::new(&registry, |_| Fate { request: millis(1), answer: millis(1), ..Fate::default() });
        let client = client_with(link.backend(), |builder| builder.ttl(TTL)).await;
        let bystander = client.register(instance("orders", "z")).await.unwrap();
        let silent = log_of(&bystander);
        Self {
            registry,
            client,
            slot: None,
            logs: Vec::new(),
            bystander,
            silent,
            weight: 100,
            gone: false,
            disturbed: false,
            script: Vec::new(),
        }
    }

    /// Carries one act out; whether its future came to its end.
    async fn act(&mut self, act: Act) -> bool {
        match act {
            Act::Register(polls) => {
                self.gone = false;
                let instance = instance("orders", "a").to_builder().weight(self.weight).build().unwrap();
                let registering = self.client.register_with(instance, RegisterOptions::new());
                match polled(registering, polls).await {
                    Some(Ok(registration)) => {
                        assert!(self.slot.is_none(), "the same key twice");
                        self.logs.push(log_of(&registration));
                        self.slot = Some(registration);
                    }
                    Some(Err(error)) if error.kind() == ErrorKind::Conflict => {
                        assert!(self.slot.is_some(), "{error:#}");
                    }
                    Some(Err(error)) => assert!(self.disturbed, "{error:#}"),
                    None => return false,
                }
                true
            }
            Act::Update(polls) => {
                let Some(registration) = &self.slot else { return true };
                self.weight += 1;
                registration.set_weight(Weight::new(self.weight).unwrap()).unwrap();
                match polled(registration.updated(secs(4)), polls).await {
                    Some(Ok(())) => true,
                    Some(Err(error)) => {
                        assert!(self.disturbed, "{error:#}");
                        true
                    }
                    None => false,
                }
            }
            Act::Deregister(polls) => {
                let Some(registration) = self.slot.take() else { return true };
                match polled(registration.deregister(), polls).await {
                    Some(Deregistration::Confirmed) => {
                        self.gone = true;
                        self.check();
                        true
                    }
                    Some(_) => {
                        assert!(self.disturbed, "a healthy registry confirms");
                        true
                    }
                    None => false,
                }
            }
            Act::Drop => {
                self.slot = None;
                true
            }
            Act::Fault(fault) => {
                self.disturbed = true;
                let faults = self.registry.faults();
                match fault {
                    Fault::Down => faults.unavailable(true),
                    Fault::Frozen => faults.hang(true),
                    Fault::AnswersLost => faults.lose_answers(true),
                    Fault::LeasesForgotten => faults.forget_leases(),
                    Fault::RecordDeleted => drop(faults.delete(&instance("orders", "a").key())),
                    Fault::Healed => faults.heal(),
                }
                true
            }
        }
    }

    fn stored(&self) -> Option<u32> {
        let stored = self.registry.snapshot_of("orders");
        stored.iter().find(|instance| instance.id().as_str() == "a").map(|instance| instance.weight().get())
    }

    /// R2 and R3 at this moment.
    fn check(&self) {
        assert!(!self.gone || self.stored().is_none(), "R2: a ghost after {:?}", self.script);
    }

    async fn wait(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            sleep(STEP.max(time / 40)).await;
            self.check();
        }
    }

    async fn play(&mut self, act: Act, gap: Duration) -> bool {
        self.script.push((act, gap));
        let done = self.act(act).await;
        if gap.is_zero() {
            // Not even the keeper has a turn.
            self.check();
        } else {
            self.wait(gap).await;
        }
        done
    }

    /// Lets everything come to rest, and judges.
    async fn judge(mut self) {
        self.registry.faults().heal();
        let wanted = self.slot.as_ref().map(|_| self.weight);
        let rest = Instant::now();
        // What somebody deleted is found by the next audit, all else by a call that fails.
        let deleted = self.script.iter().any(|(act, _)| matches!(act, Act::Fault(Fault::RecordDeleted)));
        let bound = if deleted { secs(80) } else { secs(10) };
        let is_back = |run: &Self| {
            let live = run.slot.as_ref().is_none_or(|registration| registration.phase() == Phase::Live);
            live && run.stored() == wanted && run.bystander.phase() == Phase::Live
        };
        while !is_back(&self) {
            assert!(
                rest.elapsed() <= bound,
                "R1: wanted {wanted:?}, stored {:?}, {:?} after {:?}",
                self.stored(),
                self.slot,
                self.script
            );
            self.wait(millis(5)).await;
        }
        // R2: nothing comes back, and what is wanted stays, for three times to live.
        let quiet = Instant::now();
        while quiet.elapsed() < 3 * TTL {
            sleep(millis(50)).await;
            assert_eq!(self.stored(), wanted, "R2: {:?} after {:?}", self.slot, self.script);
        }
        for log in &self.logs {
            log.assert_alternates();
            assert!(!self.disturbed || log.count_of(is_end) <= 1, "R4: ended twice");
        }
        if !self.disturbed {
            assert_eq!(
                self.silent.len(),
                0,
                "R7: the bystander was told {:?} by {:?}",
                self.silent,
                self.script
            );
        }
        self.silent.assert_alternates();
        drop((self.slot.take(), self.bystander));
        self.client.close().await;
    }
}

fn is_end(event: &RegistrationEvent) -> bool {
    matches!(event, RegistrationEvent::Deregistered { .. })
}

/// How many polls each call needs until it ends, when nothing disturbs it.
async fn polls_of(act: impl Fn(usize) -> Act, registered: bool) -> usize {
    for polls in 0..MOST_POLLS {
        let mut run = Run::new(30).await;
        if registered {
            run.play(Act::Register(MOST_POLLS), millis(20)).await;
        }
        let done = run.play(act(polls), millis(20)).await;
        run.judge().await;
        if done {
            return polls;
        }
    }
    panic!("a call was polled {MOST_POLLS} times without coming to its end");
}

#[tokio::test(start_paused = true)]
async fn row_30_every_call_may_be_dropped_at_every_await_while_the_next_one_comes_at_any_moment() {
    let register = polls_of(Act::Register, false).await;
    let update = polls_of(Act::Update, true).await;
    let deregister = polls_of(Act::Deregister, true).await;
    let all = |most: usize, act: fn(usize) -> Act| (0..=most).map(act).collect::<Vec<_>>();
    let registers = all(register, Act::Register);
    let others = [all(update, Act::Update), all(deregister, Act::Deregister), vec![Act::Drop]].concat();
    let any = [registers.clone(), others.clone()].concat();
    // From no time at all to longer than a grant and a publication take.
    let gaps: Vec<_> = (0..=9).map(|steps| STEP * steps).collect();
    let mut runs = 0_usize;
    for first in registers.iter().chain(&others) {
        for second in &any {
            for gap in &gaps {
                let mut run = Run::new(runs as u64).await;
                if !matches!(first, Act::Register(_)) {
                    run.play(Act::Register(MOST_POLLS), Duration::ZERO).await;
                }
                run.play(*first, *gap).await;
                run.play(*second, millis(2)).await;
                run.judge().await;
                runs += 1;
            }
        }
    }
    figure(30, "interleavings, all of two calls", runs);
    figure(30, "polls until register, update, deregister end", format!("{register}, {update}, {deregister}"));
}

fn drawn(rng: &mut fastrand::Rng, faults: bool) -> Act {
    // A call that is polled to its end is as likely as one that is given up somewhere.
    let polls = if rng.bool() { MOST_POLLS } else { rng.usize(0..6) };
    match rng.u8(0..if faults { 8 } else { 6 }) {
        0 | 1 => Act::Register(polls),
        2 => Act::Update(polls),
        3 | 4 => Act::Deregister(polls),
        5 => Act::Drop,
        _ => Act::Fault(FAULTS[rng.usize(..FAULTS.len())]),
    }
}

async fn storm(seeds: std::ops::Range<u64>, faults: bool) -> usize {
    let mut acts = 0;
    for seed in seeds {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut run = Run::new(seed).await;
        for _ in 0..rng.usize(3..9) {
            let gap = match rng.u8(0..4) {
                0 => Duration::ZERO,
                1 | 2 => STEP * rng.u32(1..12),
                _ => millis(rng.u64(10..4_000)),
            };
            run.play(drawn(&mut rng, faults), gap).await;
            acts += 1;
        }
        run.judge().await;
    }
    acts
}

#[tokio::test(start_paused = true)]
async fn row_30_long_scripts_of_dropped_calls_leave_no_ghost_and_tell_in_order() {
    let acts = storm(0..600, false).await;
    figure(30, "seeds 600, acts", acts);
}

#[tokio::test(start_paused = true)]
async fn row_30_long_scripts_of_dropped_calls_and_faults_leave_no_ghost_and_tell_in_order() {
    let acts = storm(10_000..10_600, true).await;
    figure(30, "seeds 600 with faults, acts", acts);
}

#[tokio::test(start_paused = true)]
async fn row_30_a_registration_of_the_same_key_while_its_withdrawal_is_on_its_way_wins() {
    for gap in 0..12 {
        for hangs in [false, true] {
            let mut run = Run::new(gap).await;
            run.play(Act::Register(MOST_POLLS), Duration::ZERO).await;
            if hangs {
                run.disturbed = true;
                run.registry.faults().on(Operation::Withdraw).answer_late(secs(2));
            }
            run.play(Act::Deregister(1), STEP * u32::try_from(gap).unwrap()).await;
            run.play(Act::Register(MOST_POLLS), millis(3)).await;
            assert!(run.slot.is_some(), "the key is free from the first poll of `deregister` on");
            run.judge().await;
        }
    }
}
