//! Row 11: tokens end, rights change, a password is wrong.

use std::time::Duration;

use registry_testkit::{
    Etcd,
    faults::{
        Figure, FleetFactory, History, Invariant, Losses, Policy, Violation, r4_callback_discipline,
        s1_no_secrets, x2_cold_start,
    },
};
use service_registry::{ErrorKind, Phase, Start};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use super::{
    rows,
    truth::Truth,
    world::{Must, SERVICE, Stage, World, call, ensure, instance, key, outage, url_of},
};

rows! {
    row_11_tokens_that_end_every_two_seconds_stop_nobody = tokens;
    row_11_rights_that_change_all_the_time_stop_nobody = rights;
    row_11_a_wrong_password_is_named_never_shown_and_not_tried_in_a_loop = wrong_password;
}

/// An etcd with a user `app`; tokens live 2 s after their last use.
async fn guarded() -> Result<Etcd, Violation> {
    let etcd = Etcd::builder().auth(Duration::from_secs(2)).start().await.must("etcd")?;
    etcd.ctl().add_user("app", "hunter2", "/stories/").await.must("a user")?;
    Ok(etcd)
}

async fn world<'a>(
    etcd: &Etcd,
    fleets: &dyn FleetFactory,
    history: &'a History,
) -> Result<World<'a>, Violation> {
    Stage::new(&url_of("app:hunter2", etcd.address()), Truth::of_guarded(etcd)).open(fleets, history).await
}

async fn tokens(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = guarded().await?;
    let world = world(&etcd, fleets, history).await?;
    // Four lives of a token; the reader's is not used meanwhile.
    outage(Instant::now(), Duration::from_secs(8)).await;
    history.usable("all the time");
    let figure = world.recovers(Losses::None).await?;
    s1_no_secrets(history, &["hunter2"])?;
    Ok(figure)
}

/// Each change raises the auth revision, which makes every token of an older one useless for a moment.
async fn rights(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = guarded().await?;
    let world = world(&etcd, fleets, history).await?;
    let ctl = etcd.ctl();
    for round in 0..12 {
        ctl.add_user(&format!("u{round}"), "x", "/other/").await.must("another user")?;
        ctl.run(&["role", "grant-permission", "app", "read", &format!("/other/{round}")])
            .await
            .must("a right")?;
        history.mark("rights changed");
        outage(Instant::now(), Duration::from_millis(300)).await;
    }
    history.usable("all the time");
    world.recovers(Losses::None).await
}

async fn wrong_password(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = guarded().await?;
    let url = url_of("app:hunter3", etcd.address());
    let fleet = fleets.open("intruder", &url, history).await.must("opening")?;
    drop(call(history, "register", fleet.register(instance("a"), Policy::default())).await);
    drop(call(history, "discover", fleet.discover("r", SERVICE)).await);
    // Said at once, not after a timeout.
    let named = x2_cold_start(history, "register", ErrorKind::Unauthenticated, Duration::from_secs(2))?;
    let before = calls(&etcd).await.must("metrics")?;
    let background = Policy::default().start(Start::Background);
    fleet.register(instance("b"), background).await.must("registering in the background")?;
    // The time during which the calls are counted.
    outage(Instant::now(), Duration::from_secs(5)).await;
    let made = calls(&etcd).await.must("metrics")? - before;
    let phase = fleet.phase(&key("b"));
    ensure(phase == Some(Phase::Blocked), format!("phase {phase:?} with a wrong password"))?;
    if !(1..=10).contains(&made) {
        return Err(Violation::new(Invariant::H1, format!("{made} calls in 5 s with a wrong password")));
    }
    r4_callback_discipline(history)?;
    fleet.close().await;
    s1_no_secrets(history, &["hunter3"])?;
    Ok(named.and("calls in 5 s", made))
}

/// How many calls etcd has begun to serve, of all kinds, as it counts them itself.
async fn calls(etcd: &Etcd) -> std::io::Result<u64> {
    let mut stream = TcpStream::connect(etcd.address()).await?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).await?;
    let counts: Vec<u64> = metrics
        .lines()
        .filter(|line| line.starts_with("grpc_server_started_total{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    if counts.is_empty() {
        return Err(std::io::Error::other("etcd counts no calls"));
    }
    Ok(counts.iter().sum())
}
