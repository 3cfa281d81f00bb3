use std::time::Duration;

use crate::http::{
    fake::{Fake, Reply, closed_port},
    status_error,
};

use super::*;

fn config(servers: &[&str]) -> Common {
    Common {
        servers: servers.iter().map(|server| (*server).to_owned()).collect(),
        tls: None,
        connect_timeout: Duration::from_secs(1),
        request_timeout: Duration::from_millis(600),
        #[cfg(feature = "eureka")]
        gzip: false,
    }
}

fn servers(list: &[&str]) -> Servers {
    Servers::in_order("fake", config(list), (0..list.len()).collect())
}

async fn good(body: &'static str) -> Fake {
    Fake::start(move |_| Reply::ok(body)).await
}

#[tokio::test]
async fn a_request_arrives_as_it_was_made_and_its_answer_as_it_was_given() {
    let fake = Fake::start(|_| Reply::status(404, "no such").with("x-index", &7)).await;
    let servers = servers(&[&fake.address]);
    let call = Call::put("publish", "/v1/a%2Fb?x=1").json("{}");
    let answer = servers.call(call).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("x-index")), (404, Some("7")));
    assert_eq!(&answer.body[..], b"no such");
    let seen = fake.seen();
    assert_eq!((seen[0].method.as_str(), seen[0].target.as_str()), ("PUT", "/v1/a%2Fb?x=1"));
    assert_eq!((seen[0].header("content-type"), &seen[0].body[..]), (Some("application/json"), &b"{}"[..]));
}

#[tokio::test]
async fn a_refused_connection_is_always_followed_by_the_next_server() {
    let (dead, fake) = (closed_port().await, good("here").await);
    let servers = servers(&[&dead, &fake.address]);
    let answer = servers.call(Call::post("publish", "/")).await.unwrap();
    assert_eq!(&*answer.server, fake.address);
    assert_eq!(&*servers.preferred(), fake.address, "the dead one is quarantined");
}

#[tokio::test]
async fn only_what_may_be_repeated_is_repeated_after_silence() {
    let (mute, fake) = (Fake::start(|_| Reply::Hang).await, good("here").await);
    let error = servers(&[&mute.address, &fake.address]).call(Call::post("publish", "/")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains(&mute.address), "{error}");
    assert!(fake.seen().is_empty());
    let both = servers(&[&mute.address, &fake.address]);
    assert!(both.call(Call::get("lookup", "/")).await.is_ok());
}

#[tokio::test]
async fn a_list_whose_bytes_flow_has_all_the_time_and_one_that_stops_leaves_some_to_others() {
    /// More than half of the time, in which a silent server is given up.
    const PARTS: usize = 20;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {PARTS}\r\n\r\n").into_bytes();
    let begun = move |rest: Vec<Reply>| [vec![Reply::Raw(head.clone())], rest].concat();
    let part = Reply::After(Duration::from_millis(90), Box::new(Reply::Raw(b"7".to_vec())));
    let (flow, stop) = (begun(vec![part; PARTS]), begun(vec![Reply::Hang]));
    let flows = Fake::start(move |_| Reply::Parts(flow.clone())).await;
    let stops = Fake::start(move |_| Reply::Parts(stop.clone())).await;
    let other = good("here").await;
    let beside = |first: &Fake| {
        let mut config = config(&[&first.address, &other.address]);
        config.request_timeout = Duration::from_secs(3);
        Servers::in_order("fake", config, vec![0, 1])
    };
    let (one, two) = (beside(&flows), beside(&stops));
    let list = || Call::get("lookup", "/").list();
    let (flowed, stopped) = tokio::join!(one.call(list()), two.call(list()));
    assert_eq!(&flowed.unwrap().body[..], [b'7'; PARTS]);
    assert_eq!(&*one.preferred(), flows.address, "it isn't quarantined");
    assert_eq!(&stopped.unwrap().body[..], b"here");
}

#[tokio::test]
async fn an_answer_that_is_no_list_leaves_time_to_others_though_its_bytes_flow() {
    /// Without an end within the time of the call.
    const PARTS: usize = 1000;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {PARTS}\r\n\r\n").into_bytes();
    let part = Reply::After(Duration::from_millis(50), Box::new(Reply::Raw(b"7".to_vec())));
    let parts = [vec![Reply::Raw(head)], vec![part; PARTS]].concat();
    let drips = Fake::start(move |_| Reply::Parts(parts.clone())).await;
    let late = Reply::After(Duration::from_millis(500), Box::new(Reply::ok("here")));
    let other = Fake::start(move |_| late.clone()).await;
    for call in [Call::put("renew", "/"), Call::get("lookup", "/")] {
        let mut config = config(&[&drips.address, &other.address]);
        config.request_timeout = Duration::from_secs(4);
        let servers = Servers::in_order("fake", config, vec![0, 1]);
        assert_eq!(&servers.call(call).await.unwrap().body[..], b"here");
        assert_eq!(&*servers.preferred(), other.address, "who drips is left alone for a while");
    }
}

#[tokio::test]
async fn a_broken_server_is_followed_by_another_and_heard_if_there_is_none() {
    let (broken, fake) = (Fake::start(|_| Reply::status(500, "no leader")).await, good("here").await);
    let both = servers(&[&broken.address, &fake.address]);
    assert_eq!(both.call(Call::get("lookup", "/")).await.unwrap().status.as_u16(), 200);
    let answer = servers(&[&broken.address]).call(Call::get("lookup", "/")).await.unwrap();
    let error = status_error(&answer);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("no leader"), "{error}");
}

#[tokio::test]
async fn throttling_says_how_long_to_wait() {
    let fake = Fake::start(|_| Reply::status(429, "too many").with("retry-after", &7)).await;
    let error = status_error(&servers(&[&fake.address]).call(Call::get("lookup", "/")).await.unwrap());
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_refused_whether_announced_or_not() {
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n";
    let fake = Fake::start(move |seen| match seen.target.as_str() {
        "/chunked" => Reply::Raw(chunked.to_vec()),
        _ => Reply::ok("01234567890"),
    })
    .await;
    let servers = servers(&[&fake.address]);
    for target in ["/chunked", "/announced"] {
        let mut call = Call::get("lookup", target);
        call.limit = 10;
        let error = servers.call(call.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{target}");
        call.limit = 11;
        assert!(servers.call(call).await.is_ok(), "{target}");
    }
}

#[tokio::test]
async fn a_truncated_answer_is_an_error() {
    let fake =
        Fake::start(|_| Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n123".to_vec())).await;
    let error = servers(&[&fake.address]).call(Call::get("lookup", "/")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let fake = Fake::start(|_| Reply::status(301, "").with("location", &"/elsewhere")).await;
    let answer = servers(&[&fake.address]).call(Call::get("lookup", "/")).await.unwrap();
    assert_eq!(status_error(&answer).kind(), ErrorKind::Protocol);
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_is_replaced_once() {
    let mut broken = true;
    let flaky = Fake::start(move |_| match std::mem::take(&mut broken) {
        true => Reply::Close,
        false => Reply::ok("3"),
    })
    .await;
    let servers = servers(&[&flaky.address]);
    assert_eq!(&servers.call(Call::get("lookup", "/")).await.unwrap().body[..], b"3");
    assert_eq!(flaky.seen().len(), 2);
}

#[tokio::test]
async fn a_second_opinion_comes_from_another_server_and_a_pinned_call_from_its_own() {
    let (one, two) = (good("1").await, good("2").await);
    let servers = servers(&[&one.address, &two.address]);
    let avoid = Some(Arc::from(one.address.as_str()));
    assert_eq!(&servers.call(Call::get("lookup", "/").avoiding(avoid)).await.unwrap().body[..], b"2");
    let only = Arc::from(two.address.as_str());
    assert_eq!(&servers.call(Call::get("lookup", "/").only(only)).await.unwrap().body[..], b"2");
    let other = servers.call(Call::get("lookup", "/").only("h:1".into())).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn a_connection_that_is_turned_away_unasked_is_throttling_whoever_is_faster() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let door = tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            client.write_all(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            client.shutdown().await.unwrap();
            tokio::spawn(async move { client.read_to_end(&mut Vec::new()).await });
        }
    });
    let mut unread = 0;
    for _ in 0..200 {
        let error = match servers(&[&address]).call(Call::get("lookup", "/")).await {
            Ok(answer) => status_error(&answer),
            Err(error) => {
                unread += 1;
                error
            }
        };
        assert_eq!(error.kind(), ErrorKind::RateLimited, "{error:?}");
    }
    assert!(unread > 0, "no answer was faster than the request");
    door.abort();
}

#[tokio::test]
async fn what_does_not_speak_http_or_tls_is_told_as_such() {
    let fake = Fake::start(|_| Reply::Raw(b"SSH-2.0-OpenSSH\r\n".to_vec())).await;
    let error = servers(&[&fake.address]).call(Call::get("lookup", "/")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    let mut tls = config(&[&fake.address]);
    tls.tls = Some(registry_core::TlsFiles::default());
    let error = Servers::new("fake", tls).call(Call::get("lookup", "/")).await.unwrap_err();
    assert_eq!(error.backend(), Some("fake"));
    assert!(matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Timeout), "{error:?}");
}

#[cfg(feature = "eureka")]
#[tokio::test]
async fn a_compressed_answer_is_measured_by_what_comes_out_of_it() {
    /// A hundred times `a`.
    const GZIP: &[u8] = &[
        0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0x4b, 0x4c, 0xa4, 0x3d, 0x00, 0x00, 0x64,
        0x7a, 0x70, 0xaf, 0x64, 0x00, 0x00, 0x00,
    ];
    let fake =
        Fake::start(|_| Reply::Answer(200, vec![("content-encoding", "gzip".to_owned())], GZIP.to_vec()))
            .await;
    let mut config = config(&[&fake.address]);
    config.gzip = true;
    let servers = Servers::new("fake", config);
    let mut call = Call::get("lookup", "/");
    call.limit = 50;
    assert_eq!(servers.call(call.clone()).await.unwrap_err().kind(), ErrorKind::Protocol);
    call.limit = 100;
    let answer = servers.call(call).await.unwrap();
    assert_eq!(&answer.body[..], [b'a'; 100]);
    assert_eq!(fake.seen()[0].header("accept-encoding"), Some("gzip"));
}

#[cfg(feature = "eureka")]
#[tokio::test(start_paused = true)]
async fn a_client_that_lives_long_asks_each_of_its_servers_in_turn() {
    let every = Duration::from_secs(1200);
    let servers = servers(&["a:1", "b:1"]).rebalanced(every);
    let mut seen = std::collections::HashSet::new();
    assert_eq!(&*servers.preferred(), "a:1");
    tokio::time::advance(every / 2 - Duration::from_secs(1)).await;
    assert_eq!(&*servers.preferred(), "a:1", "not before half of the time");
    // The same may be drawn again, but hardly 40 times.
    for _ in 0..40 {
        tokio::time::advance(2 * every).await;
        seen.insert(servers.preferred());
    }
    assert_eq!(seen.len(), 2);
}
