use super::*;

const EVERY: Duration = Duration::from_secs(30);

struct Script {
    poll: Poll,
    now: Instant,
}

impl Script {
    fn new() -> Self {
        let poll = Poll::new(EVERY, Continuity::default(), fastrand::Rng::with_seed(1));
        Self { poll, now: Instant::now() }
    }

    /// What is done, in words, about an input; time passes if it says so.
    fn step(&mut self, input: Input) -> Vec<String> {
        let actions = self.poll.step(input, self.now);
        let word = |action: &Action| match action {
            Action::FetchList => "list?".to_owned(),
            Action::FetchDelta => "delta?".to_owned(),
            Action::Wait(until) => {
                let pause = *until - self.now;
                assert!(pause > EVERY.mul_f64(0.89) && pause <= EVERY, "{pause:?}");
                "wait".to_owned()
            }
            Action::Tell(round) => match &round.news {
                News::Nothing => "nothing".to_owned(),
                News::Changes(changes) => format!("{} changes", changes.len()),
                News::List { gone } => {
                    format!("{} gone, list of {}", gone.len(), round.all.records().count())
                }
            },
        };
        actions.iter().map(word).collect()
    }

    fn after(&mut self, seconds: u64) -> Vec<String> {
        self.now += Duration::from_secs(seconds);
        self.step(Input::Due)
    }
}

fn fetched(hash: Option<&str>, items: &[(&str, &str)]) -> Fetched {
    let entries = items.iter().map(|(id, action)| {
        format!(
            r#"{{"instanceId":"{id}","status":"UP","actionType":"{action}",
                "leaseInfo":{{"registrationTimestamp":7}}}}"#
        )
    });
    let entries: Vec<_> = entries.collect();
    let hash = hash.map_or("null".to_owned(), |hash| format!("\"{hash}\""));
    let body = format!(
        r#"{{"applications":{{"apps__hashcode":{hash},"application":{{"name":"A","instance":[{}]}}}}}}"#,
        entries.join(",")
    );
    Fetched::parse(&body).unwrap()
}

fn list(server: &str, ids: &[&str]) -> Input {
    let items: Vec<_> = ids.iter().map(|id| (*id, "ADDED")).collect();
    Input::List(server.into(), fetched(Some(&format!("UP_{}_", ids.len())), &items))
}

fn delta(server: &str, hash: &str, items: &[(&str, &str)]) -> Input {
    Input::Delta(server.into(), fetched(Some(hash), items))
}

fn synced() -> Script {
    let mut script = Script::new();
    assert_eq!(script.step(Input::Due), ["list?"]);
    assert_eq!(script.step(list("s", &["a", "b"])), ["0 gone, list of 2", "wait"]);
    script
}

#[tokio::test(start_paused = true)]
async fn after_the_list_come_deltas_as_long_as_their_hash_fits() {
    let mut script = synced();
    for _ in 0..3 {
        assert_eq!(script.after(30), ["delta?"]);
        let same = delta("s", "UP_3_", &[("c", "ADDED")]);
        assert_eq!(script.step(same), ["1 changes", "wait"], "told again, for those who learnt otherwise");
    }
    assert_eq!(script.after(30), ["delta?"]);
    assert_eq!(script.step(Input::SameDelta("s".into())), ["nothing", "wait"]);
    assert_eq!(script.after(30), ["delta?"]);
    assert_eq!(script.step(delta("s", "UP_2_", &[("c", "DELETED")])), ["1 changes", "wait"]);
}

#[tokio::test(start_paused = true)]
async fn a_delta_that_doesn_t_fit_is_followed_by_the_list_and_its_removals_are_kept() {
    let mut script = synced();
    assert_eq!(script.after(30), ["delta?"]);
    let gap = delta("s", "UP_9_", &[("a", "DELETED"), ("c", "ADDED")]);
    assert_eq!(script.step(gap), ["list?"], "nobody is told of half the truth");
    assert_eq!(script.step(list("s", &["b", "c", "d"])), ["1 gone, list of 3", "wait"]);
    assert_eq!(script.after(30), ["delta?"], "and then deltas again");
    assert_eq!(script.step(Input::Delta("s".into(), fetched(None, &[]))), ["list?"], "none says nothing");
    assert_eq!(script.step(list("s", &["b"])), ["0 gone, list of 1", "wait"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_whose_own_hash_is_wrong_is_still_a_list() {
    let mut script = synced();
    script.after(601);
    let odd = Input::List("s".into(), fetched(Some("UP_9_"), &[("a", "ADDED")]));
    assert_eq!(script.step(odd), ["0 gone, list of 1", "wait"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_deltas_gives_lists_and_is_asked_again_later() {
    let mut script = synced();
    assert_eq!(script.after(30), ["delta?"]);
    assert_eq!(script.step(Input::NoDelta), ["list?"]);
    for _ in 0..19 {
        assert_eq!(script.step(list("s", &["a"])), ["0 gone, list of 1", "wait"]);
        assert_eq!(script.after(30), ["list?"]);
    }
    script.step(list("s", &["a"]));
    assert_eq!(script.after(30), ["delta?"]);
}

#[tokio::test(start_paused = true)]
async fn a_delta_of_another_server_is_not_applied() {
    let mut script = synced();
    for other in [delta("other", "UP_3_", &[("c", "ADDED")]), Input::SameDelta("other".into())] {
        script.after(30);
        assert_eq!(script.step(other), ["list?"]);
        assert_eq!(script.poll.replica.records().count(), 2);
        assert_eq!(script.step(list("s", &["a", "b"])), ["0 gone, list of 2", "wait"]);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_gap_and_now_and_then_there_is_a_list() {
    let mut script = synced();
    assert_eq!(script.after(121), ["list?"], "the delta may lack something");
    script.step(list("s", &["a", "b"]));
    for _ in 0..19 {
        assert_eq!(script.after(30), ["delta?"]);
        script.step(Input::SameDelta("s".into()));
    }
    assert_eq!(script.after(30), ["list?"], "equal counts can hide a difference");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_delta_is_news_after_a_list() {
    let mut script = synced();
    assert!(!script.poll.last.is_same(b"delta"));
    assert!(script.poll.last.is_same(b"delta"));
    script.after(601);
    script.step(list("s", &["a"]));
    assert!(!script.poll.last.is_same(b"delta"));
}

#[tokio::test(start_paused = true)]
async fn a_list_over_again_is_told_again_unless_a_delta_came_between() {
    let body = |id: &str| {
        format!(
            r#"{{"applications":{{"apps__hashcode":"UP_1_","application":[{{"name":"A",
        "instance":[{{"instanceId":"{id}","status":"UP"}}]}}]}}}}"#
        )
    };
    let mut script = Script::new();
    let first = script.poll.lists.read(&body("a")).unwrap().unwrap();
    assert_eq!(script.step(Input::List("s".into(), first)), ["0 gone, list of 1", "wait"]);
    script.after(601);
    assert!(script.poll.lists.read(&body("a")).unwrap().is_none());
    assert_eq!(script.step(Input::SameList("s".into())), ["0 gone, list of 1", "wait"]);
    assert_eq!(script.after(30), ["delta?"], "it counts as a list");
    assert_eq!(script.step(delta("s", "UP_2_", &[("b", "ADDED")])), ["1 changes", "wait"]);
    let again = script.poll.lists.read(&body("a")).unwrap().expect("it takes the delta back");
    assert_eq!(script.step(Input::List("s".into(), again)), ["0 gone, list of 1", "wait"]);
    assert_eq!(script.step(Input::SameList("other".into())), ["list?"]);
}

#[tokio::test(start_paused = true)]
async fn another_server_is_asked_for_deltas_though_the_last_one_had_none() {
    let mut script = synced();
    script.after(30);
    assert_eq!(script.step(Input::NoDelta), ["list?"]);
    script.step(list("other", &["a", "b"]));
    assert_eq!(script.after(30), ["delta?"]);
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_a_delta_is_enough_unless_it_may_lack_something_and_everything_is_told() {
    let resumed = |after: u64| {
        let mut script = synced();
        assert_eq!(script.after(30), ["delta?"]);
        script.poll = script.poll.resumed();
        let first = script.after(after);
        (script, first)
    };
    let (mut script, first) = resumed(5);
    assert_eq!(first, ["delta?"]);
    assert_eq!(script.step(delta("s", "UP_1_", &[("a", "DELETED")])), ["1 gone, list of 1", "wait"]);
    assert_eq!(script.after(30), ["delta?"]);
    assert_eq!(script.step(delta("s", "UP_2_", &[("c", "ADDED")])), ["1 changes", "wait"]);
    let (mut script, first) = resumed(5);
    assert_eq!(first, ["delta?"]);
    assert_eq!(script.step(delta("s", "UP_7_", &[("a", "DELETED")])), ["list?"], "its hash isn't ours");
    assert_eq!(script.step(list("s", &["b"])), ["1 gone, list of 1", "wait"]);
    let (mut script, _) = resumed(5);
    assert_eq!(script.step(delta("t", "UP_2_", &[])), ["list?"], "of another server");
    assert_eq!(resumed(91).1, ["list?"], "2 min after the last that was heard");
}
