//! Services below their protection threshold: a watch and a look say the same of the same list.

use std::sync::Mutex;

use super::*;

/// Instances as `id`, `id!` unhealthy, `id-` disabled.
fn list(all: &str, is_protected: bool) -> String {
    let entry = |name: &str| {
        let id = name.trim_end_matches(['!', '-']);
        let port = 1000 + u32::from(id.as_bytes()[0]);
        let (healthy, enabled) = (!name.ends_with('!'), !name.ends_with('-'));
        format!(
            r#"{{"ip":"10.0.0.7","port":{port},"healthy":{healthy},"enabled":{enabled},"metadata":{{"sr.id":"{id}"}}}}"#
        )
    };
    let hosts: Vec<String> = all.split_whitespace().map(entry).collect();
    format!(
        r#"{{"name":"DEFAULT_GROUP@@orders","hosts":[{}],"reachProtectionThreshold":{is_protected}}}"#,
        hosts.join(",")
    )
}

fn follow(view: &mut Vec<String>, event: &Event) {
    for change in &event.changes {
        match change {
            Change::Reset(all) => *view = all.iter().map(|one| one.id().to_string()).collect(),
            Change::Upsert(one) => {
                view.retain(|id| id != one.id().as_str());
                view.push(one.id().to_string());
            }
            Change::Remove(key) => view.retain(|id| id != key.id.as_str()),
            other => panic!("{other:?}"),
        }
    }
    view.sort();
}

#[tokio::test]
async fn a_watch_and_a_look_say_the_same_of_every_list_whatever_came_before() {
    let current = Arc::new(Mutex::new(String::new()));
    let answer = Arc::clone(&current);
    let fake = Fake::start(move |_| Reply::ok(answer.lock().unwrap().clone())).await;
    let backend = connect(&fake, "?api=v1&poll=1s&push=false").await;
    let discovery = backend.discovery.as_ref().unwrap();
    let lists = [
        ("a b c", false),
        ("a b c!", false),
        ("a b c", true),
        ("a b c d e-", true),
        ("a b! c! d", false),
        ("a b c! d!", true),
        ("a b c d", true),
    ];
    let mut running: Option<WatchStream> = None;
    let mut view = Vec::new();
    for (all, is_protected) in lists {
        *current.lock().unwrap() = list(all, is_protected);
        let expected: Vec<_> =
            all.split_whitespace().filter(|one| !one.ends_with(['!', '-'])).map(str::to_owned).collect();
        let running = running.get_or_insert_with(|| discovery.watch(&target(), None));
        follow(&mut view, &event(running).await);
        assert_eq!(view, expected, "a watch that has seen what came before: {all}");
        let mut fresh = Vec::new();
        follow(&mut fresh, &event(&mut discovery.watch(&target(), None)).await);
        assert_eq!(fresh, expected, "a watch that begins: {all}");
        let looked = lookup(&backend).await.unwrap().instances;
        let mut looked: Vec<_> = looked.iter().map(|one| one.id().to_string()).collect();
        looked.sort();
        assert_eq!(looked, expected, "a look: {all}");
    }
}
