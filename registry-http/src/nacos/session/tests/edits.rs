//! What operators edit in the console: servers lay it over whatever is registered at that address later.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
};

use registry_core::backend::Outcome;
use serde_json::{Value, json};

use super::*;

type Metadata = BTreeMap<String, String>;

/// What a server has: registrations by port, and edits by port that outlive them.
#[derive(Debug, Default)]
struct World {
    registered: BTreeMap<String, (f64, Metadata)>,
    edited: BTreeMap<String, (f64, bool, Metadata)>,
    /// Whether edits may be undone by us.
    is_closed: bool,
    undone: usize,
}

impl World {
    /// As a list or a question for one shows it.
    fn shown(&self, port: &str) -> Option<Value> {
        let (mut weight, mut metadata) = self.registered.get(port)?.clone();
        let mut enabled = true;
        if let Some((edited_weight, edited_enabled, edited)) = self.edited.get(port) {
            (weight, enabled) = (*edited_weight, *edited_enabled);
            metadata.extend(edited.clone());
        }
        Some(
            json!({"ip": "10.0.0.7", "port": port.parse::<u16>().unwrap(), "weight": weight, "healthy": true,
            "enabled": enabled, "clusterName": "DEFAULT", "metadata": metadata}),
        )
    }

    /// The console's switch, which sends all that is shown.
    fn switch(&mut self, port: &str, enabled: bool) {
        let shown = self.shown(port).unwrap();
        let metadata = serde_json::from_value(shown["metadata"].clone()).unwrap();
        self.edited.insert(port.to_owned(), (shown["weight"].as_f64().unwrap(), enabled, metadata));
    }

    fn answer(&mut self, request: &Seen) -> Reply {
        let query = request.target.split_once('?').map_or("", |(_, query)| query);
        let pairs = pairs(&format!("{query}&{}", String::from_utf8_lossy(&request.body)));
        let is_v3 = request.target.contains("/v3/");
        let wrapped = |data: Value| match is_v3 {
            true => Reply::ok(json!({"code": 0, "message": "success", "data": data}).to_string()),
            false => Reply::ok(data.to_string()),
        };
        let port = pairs.get("port").cloned().unwrap_or_default();
        match request.method.as_str() {
            _ if request.target.contains("/metadata/batch") => {
                self.undone += 1;
                if self.is_closed {
                    return Reply::status(403, r#"{"code":403,"message":"no rights"}"#);
                }
                assert_eq!(request.method, "DELETE");
                assert_eq!(pairs["consistencyType"], "ephemeral");
                let keys: Metadata = serde_json::from_str(&pairs["metadata"]).unwrap();
                let instances: Vec<Value> = serde_json::from_str(&pairs["instances"]).unwrap();
                assert_eq!(instances[0]["ip"], "10.0.0.7");
                let edit = self.edited.entry(instances[0]["port"].to_string()).or_insert((
                    1.0,
                    true,
                    Metadata::new(),
                ));
                edit.2.retain(|key, _| !keys.contains_key(key));
                wrapped(json!({"updated": ["10.0.0.7:80:unknown:DEFAULT:ephemeral"]}))
            }
            "GET" if request.target.contains("/list") => {
                let all = self.registered.keys().filter_map(|port| self.shown(port));
                let all: Vec<Value> = all.filter(|one| one["enabled"] == true).collect();
                if is_v3 { wrapped(json!(all)) } else { wrapped(json!({"hosts": all})) }
            }
            "GET" => match self.shown(&port) {
                Some(shown) => wrapped(shown),
                None => Reply::status(404, r#"{"code":21003,"message":"instance not found"}"#),
            },
            "DELETE" => {
                self.registered.remove(&port);
                usual(request)
            }
            "POST" if !pairs.contains_key("heartBeat") => {
                let metadata = serde_json::from_str(&pairs["metadata"]).unwrap();
                self.registered.insert(port, (pairs["weight"].parse().unwrap(), metadata));
                usual(request)
            }
            _ => usual(request),
        }
    }
}

fn pairs(query: &str) -> HashMap<String, String> {
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text).decode_utf8().unwrap().into_owned()
    };
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (decoded(key), decoded(value)))
        .collect()
}

async fn world() -> (Fake, Arc<Mutex<World>>) {
    let world: Arc<Mutex<World>> = Arc::default();
    let state = Arc::clone(&world);
    (Fake::start(move |request| state.lock().unwrap().answer(request)).await, world)
}

/// One life of a client.
struct Life {
    backend: Backend,
    lease: Arc<dyn Lease>,
    incarnation: Incarnation,
}

impl Life {
    async fn of(fake: &Fake, options: &str, number: u128) -> Self {
        let backend = connect(fake, options).await;
        let incarnation = Incarnation::from_bits(number);
        let grant = Grant::new(Duration::from_secs(15), incarnation);
        let lease = backend.registry.as_ref().unwrap().grant(&grant).await.unwrap();
        Self { backend, lease, incarnation }
    }

    fn version(&self, sequence: u64) -> RecordVersion {
        RecordVersion { incarnation: self.incarnation, epoch: 1, sequence }
    }

    async fn publish(&self, instance: &Instance, sequence: u64) -> Outcome {
        let on_duplicate = OnDuplicate::TakeOver;
        let one = Publish::new(Arc::new(instance.clone()), self.version(sequence), on_duplicate);
        self.lease.publish(&[one]).await.remove(0)
    }

    /// Once lists show what was written.
    async fn inspect(&self, id: &str) -> Presence {
        later(Duration::from_secs(3)).await;
        self.lease.inspect(&[instance(id, 80).key()]).await.unwrap().remove(0)
    }

    async fn said(&self) -> Vec<(String, Option<String>)> {
        let said =
            |one: &Arc<Instance>| (one.id().to_string(), one.metadata().get("said").map(str::to_owned));
        lookup(&self.backend).await.unwrap().instances.iter().map(said).collect()
    }
}

fn saying(id: &str, said: &str) -> Instance {
    instance(id, 80).to_builder().metadata("said", said).build().unwrap()
}

fn ours(presence: &Presence) -> RecordVersion {
    let Presence::Ours { version } = presence else { panic!("{presence:?}") };
    *version
}

#[tokio::test]
async fn what_a_record_says_after_an_edit_is_seen() {
    for options in ["?api=v1", "?api=v3"] {
        let (fake, world) = world().await;
        let life = Life::of(&fake, options, 1).await;
        life.publish(&saying("a", "old"), 1).await.unwrap();
        world.lock().unwrap().switch("80", true);
        assert_eq!(life.inspect("a").await, Presence::Ours { version: life.version(1) });
        life.publish(&saying("a", "new"), 2).await.unwrap();
        let seen = ours(&life.inspect("a").await);
        assert_ne!((seen.epoch, seen.sequence), (1, 2), "{options}: it is to be written again");
        life.publish(&saying("a", "new"), 2).await.unwrap();
        assert_eq!(life.said().await, [("a".to_owned(), Some("new".to_owned()))], "{options}");
        assert_eq!(life.inspect("a").await, Presence::Ours { version: life.version(2) });
        assert_eq!(world.lock().unwrap().undone, 1, "{options}");
    }
}

#[tokio::test]
async fn an_operators_switch_and_weight_stay_when_the_rest_of_an_edit_is_undone() {
    for options in ["?api=v1", "?api=v3"] {
        let (fake, world) = world().await;
        let life = Life::of(&fake, options, 1).await;
        life.publish(&saying("a", "old"), 1).await.unwrap();
        world.lock().unwrap().switch("80", false);
        world.lock().unwrap().edited.get_mut("80").unwrap().0 = 0.5;
        world.lock().unwrap().edited.get_mut("80").unwrap().2.insert("note".into(), "theirs".into());
        life.publish(&saying("a", "new"), 2).await.unwrap();
        let seen = ours(&life.inspect("a").await);
        assert_ne!((seen.epoch, seen.sequence), (1, 2), "{options}: hidden, it is to be written again");
        life.publish(&saying("a", "new"), 2).await.unwrap();
        assert_eq!(life.inspect("a").await, Presence::Ours { version: life.version(2) }, "{options}");
        let shown = world.lock().unwrap().shown("80").unwrap();
        assert_eq!((&shown["weight"], &shown["enabled"]), (&json!(0.5), &json!(false)), "{options}");
        assert_eq!(
            (&shown["metadata"]["said"], &shown["metadata"]["note"]),
            (&json!("new"), &json!("theirs"))
        );
    }
}

#[tokio::test]
async fn the_next_life_is_no_rival_of_an_edit_from_the_last_and_leaves_nothing_behind() {
    for (options, is_closed, next) in
        [("?api=v1", false, "a"), ("?api=v3", false, "a"), ("?api=v3", true, "a"), ("?api=v3", false, "b")]
    {
        let case = format!("{options} {is_closed} {next}");
        let (fake, world) = world().await;
        let last = Life::of(&fake, options, 1).await;
        last.publish(&saying("a", "old"), 1).await.unwrap();
        world.lock().unwrap().switch("80", true);
        world.lock().unwrap().is_closed = is_closed;
        last.lease.withdraw(&[instance("a", 80)]).await.remove(0).unwrap();

        let life = Life::of(&fake, options, 2).await;
        let mut rejecting =
            Publish::new(Arc::new(saying(next, "new")), life.version(1), OnDuplicate::TakeOver);
        rejecting.on_duplicate = OnDuplicate::Reject;
        life.lease.publish(&[rejecting]).await.remove(0).unwrap();
        ours(&life.inspect(next).await);
        life.publish(&saying(next, "new"), 1).await.unwrap();
        for _ in 0..3 {
            assert_eq!(life.inspect(next).await, Presence::Ours { version: life.version(1) }, "{case}");
            life.publish(&saying(next, "new"), 1).await.unwrap();
        }
        assert_eq!(world.lock().unwrap().undone, 1, "{case}: tried once");
        if !is_closed {
            assert_eq!(life.said().await, [(next.to_owned(), Some("new".to_owned()))], "{case}");
        }
        later(Duration::from_secs(3)).await;
        life.lease.withdraw(&[instance(next, 80)]).await.remove(0).unwrap();
        assert!(world.lock().unwrap().registered.is_empty(), "{case}");
    }
}

#[tokio::test]
async fn who_was_replaced_at_its_own_address_notices_below_an_edit_and_keeps_its_hands_off() {
    for is_edited in [true, false] {
        let (fake, world) = world().await;
        let (old, new) = (Life::of(&fake, "?api=v3", 1).await, Life::of(&fake, "?api=v3", 2).await);
        old.publish(&saying("a", "old"), 1).await.unwrap();
        if is_edited {
            world.lock().unwrap().switch("80", true);
        }
        new.publish(&saying("a", "new"), 1).await.unwrap();
        assert_eq!(old.inspect("a").await, Presence::Foreign, "{is_edited}");
        ours(&new.inspect("a").await);
        old.lease.withdraw(&[instance("a", 80)]).await.remove(0).unwrap();
        assert_eq!(world.lock().unwrap().registered.len(), 1, "it is the other's: {is_edited}");
    }
}

#[tokio::test]
async fn whoever_else_registered_at_our_address_by_now_stays_when_we_leave() {
    for options in ["?api=v1", "?api=v3"] {
        for is_revoked in [false, true] {
            let (fake, world) = world().await;
            let (old, new) = (Life::of(&fake, options, 1).await, Life::of(&fake, options, 2).await);
            old.publish(&saying("a", "old"), 1).await.unwrap();
            new.publish(&saying("b", "new"), 1).await.unwrap();
            later(Duration::from_secs(3)).await;
            match is_revoked {
                true => old.lease.revoke().await.unwrap(),
                false => old.lease.withdraw(&[instance("a", 80)]).await.remove(0).unwrap(),
            }
            let said = [("b".to_owned(), Some("new".to_owned()))];
            assert_eq!(new.said().await, said, "{options}: it is the other's");
            old.lease.renew(soon()).await.unwrap();
            assert_eq!(world.lock().unwrap().registered.len(), 1, "{options}");
        }
    }
}

#[tokio::test]
async fn who_was_replaced_keeps_nothing_alive() {
    let (fake, _) = world().await;
    let (old, new) = (Life::of(&fake, "?api=v3", 1).await, Life::of(&fake, "?api=v3", 2).await);
    old.publish(&saying("a", "old"), 1).await.unwrap();
    old.lease.publish(&[record("b", 81)]).await.remove(0).unwrap();
    new.publish(&saying("a", "new"), 1).await.unwrap();
    assert_eq!(old.inspect("a").await, Presence::Foreign);
    let beats = || {
        let seen = fake.seen().into_iter().map(|seen| String::from_utf8(seen.body).unwrap());
        seen.filter(|body| body.contains("heartBeat=true")).collect::<Vec<_>>()
    };
    let renewal = old.lease.renew(soon()).await.unwrap();
    assert_eq!((renewal.lost, renewal.missed), (vec![], vec![]));
    assert_eq!(beats().len(), 1, "{:?}", beats());
    assert!(beats()[0].contains("port=81"), "its other record lives on: {:?}", beats());

    // Nobody else is there any more.
    later(Duration::from_secs(3)).await;
    new.lease.withdraw(&[instance("a", 80)]).await.remove(0).unwrap();
    old.publish(&saying("a", "old"), 2).await.unwrap();
    old.lease.renew(soon()).await.unwrap();
    assert_eq!(beats().len(), 3, "it is kept alive anew");
}
