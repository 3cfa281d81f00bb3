//! Of several that are hidden, one that is certainly gone is told though the others stay hidden and the list is the same.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{
    missed::filtered,
    partial::{told, with_token},
    *,
};

fn elsewhere(id: &str, node: &str) -> Value {
    let mut one = entry(id, 1);
    one["Node"]["Node"] = json!(node);
    one
}

/// `a`, `b` and `c`, each on a node of its own, of which the list shows fewer from step to step. Of nodes that it doesn't
/// show none is told to be gone, save by the step in which it is.
struct Registry {
    fake: Fake,
    step: Arc<AtomicUsize>,
}

impl Registry {
    /// By step: whom the list shows, and whose nodes are gone.
    async fn of(steps: &'static [(&'static [&'static str], &'static [&'static str])]) -> Self {
        let step = Arc::new(AtomicUsize::new(0));
        let now = Arc::clone(&step);
        let fake = lists(move |_, seen| {
            let (shown, gone) = steps[now.load(Ordering::Relaxed)];
            if seen.target.contains("Service.ID") {
                return told(6, &[], true);
            }
            if seen.target.contains("node-services") {
                let is_gone = gone.iter().any(|id| seen.target.contains(&format!("node-services/on-{id}")));
                return filtered(&json!({"Node": null, "Services": []}), !is_gone);
            }
            let entries: Vec<Value> = shown.iter().map(|id| elsewhere(id, &format!("on-{id}"))).collect();
            list(6, &entries)
                .with("X-Consul-Default-ACL-Policy", &"deny")
                .with("X-Consul-Results-Filtered-By-ACLs", &"true")
        })
        .await;
        Self { fake, step }
    }

    fn next(&self) {
        self.step.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a session begins with, and, if that isn't a refusal, that one follows.
async fn opened(discovery: &ConsulDiscovery) -> Option<String> {
    let mut stream = discovery.watch(&target(), None);
    let first = match stream.next().await.unwrap() {
        Ok(event) => Some(shown(&event)),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            return None;
        }
    };
    assert_eq!(stream.next().await.unwrap().unwrap_err().kind(), ErrorKind::PermissionDenied);
    first
}

async fn pass(minutes: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(minutes * 60)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn one_of_two_hidden_ones_that_is_really_gone_is_told_though_the_list_is_the_same() {
    let registry =
        Registry::of(&[(&["a", "b", "c"], &[]), (&["c"], &[]), (&["c"], &["a"]), (&["c"], &["a", "b"])])
            .await;
    let discovery = with_token(&registry.fake, "");
    let mut stream = discovery.watch(&target(), None);
    next(&mut stream).await;
    registry.next();
    assert_eq!(stream.next().await.unwrap().unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(opened(&discovery).await, None);
    registry.next();
    assert_eq!(opened(&discovery).await.as_deref(), Some(r#"=["c@on-c"] !b@on-b @Some(6)"#));
    assert_eq!(opened(&discovery).await, None, "it was told");
    registry.next();
    assert_eq!(next(&mut discovery.watch(&target(), None)).await, r#"=["c@on-c"] @Some(6)"#);
}

#[tokio::test]
async fn the_hour_of_each_hidden_one_is_its_own() {
    let registry = Registry::of(&[(&["a", "b", "c"], &[]), (&["b", "c"], &[]), (&["c"], &[])]).await;
    let discovery = with_token(&registry.fake, "");
    let mut stream = discovery.watch(&target(), None);
    next(&mut stream).await;
    registry.next();
    assert_eq!(stream.next().await.unwrap().unwrap_err().kind(), ErrorKind::PermissionDenied);
    for minutes in [9, 9, 9, 9, 9, 9] {
        pass(minutes).await;
        assert_eq!(opened(&discovery).await, None);
    }
    pass(5).await;
    registry.next();
    assert_eq!(opened(&discovery).await.as_deref(), Some(r#"=["c@on-c"] !a@on-a !b@on-b @Some(6)"#));
    pass(1).await;
    assert_eq!(opened(&discovery).await.as_deref(), Some(r#"=["c@on-c"] !b@on-b @Some(6)"#));
    for minutes in [9, 9, 9, 9, 9, 9] {
        pass(minutes).await;
        assert_eq!(opened(&discovery).await, None);
    }
    pass(5).await;
    assert_eq!(next(&mut discovery.watch(&target(), None)).await, r#"=["c@on-c"] @Some(6)"#);
}
