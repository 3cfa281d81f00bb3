//! Several data centres in one watch.

use super::*;

#[tokio::test]
async fn the_next_data_centre_serves_while_the_first_is_empty() {
    let mut home = 0;
    let fake = lists(move |_, seen| {
        if seen.target.contains("dc=dc2") {
            return list(5, &[entry("far", 1)]);
        }
        home += 1;
        if home < 3 { list(5, &[]) } else { list(9, &[entry("near", 1)]) }
    })
    .await;
    let mut stream = watch(&fake, "&dc=dc1,dc2");
    assert_eq!(next(&mut stream).await, r#"=["far@n1"] @Some(5)"#);
    assert_eq!(next(&mut stream).await, "@Some(5)");
    assert_eq!(next(&mut stream).await, r#"=["near@n1"] @Some(9)"#);
}

#[tokio::test]
async fn a_preferred_data_centre_is_looked_at_while_another_one_holds_a_query_back() {
    let mut home = 0;
    let fake = lists(move |_, seen| {
        if seen.target.contains("dc=dc2") {
            let answer = list(5, &[entry("far", 1)]);
            return if seen.target.contains("index=") { Reply::Hang } else { answer };
        }
        home += 1;
        if home < 3 { list(5, &[]) } else { list(9, &[entry("near", 1)]) }
    })
    .await;
    let config = format!("consul://{}?wait=10m&poll=1s&dc=dc1,dc2", fake.address).parse().unwrap();
    let names = Names::new(&Namespace::default());
    let mut stream = ConsulDiscovery::new(Session::new(config, None), names).watch(&target(), None);
    assert_eq!(next(&mut stream).await, r#"=["far@n1"] @Some(5)"#);
    assert_eq!(next(&mut stream).await, r#"=["near@n1"] @Some(9)"#);
    let far = reads(&fake).iter().filter(|read| read.contains("dc=dc2")).count();
    assert_eq!(far, 2, "its list, and a wait: {:?}", reads(&fake));
}

#[tokio::test]
async fn a_data_centre_that_can_not_be_asked_is_not_an_empty_one() {
    let fake = lists(|_, seen| match seen.target.contains("dc=dc2") {
        true => Reply::status(500, "No path to datacenter"),
        false => list(5, &[]),
    })
    .await;
    let error = watch(&fake, "&dc=dc1,dc2").next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_data_centre_that_fills_while_all_are_empty_is_found() {
    let fake = lists(|read, seen| match seen.target.contains("dc=dc2") {
        true if read > 4 => list(9, &[entry("far", 1)]),
        _ => list(5, &[]),
    })
    .await;
    let mut stream = watch(&fake, "&dc=dc1,dc2");
    assert_eq!(next(&mut stream).await, "=[] @Some(5)");
    assert_eq!(next(&mut stream).await, "@Some(5)");
    assert_eq!(next(&mut stream).await, r#"=["far@n1"] @Some(9)"#);
}
