//! Row 7: a server that accepts and never answers, or never ends its answer.

use registry_testkit::faults::{Figure, FleetFactory, History, Violation};

use super::{
    fake::{Fake, Manner},
    rows,
    world::{Must, url},
};
use crate::live::mute::lives_with;

rows! {
    row_07_a_server_that_never_answers_costs_each_call_its_deadline = silent;
    row_07_an_endless_answer_costs_each_call_its_deadline = endless;
}

async fn silent(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let fake = Fake::start(Manner::Silent).await.must("fake server")?;
    let url = url(&[fake.address()]);
    lives_with(fake, &url, fleets, history).await
}

async fn endless(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let fake = Fake::start(Manner::Endless).await.must("fake server")?;
    let url = url(&[fake.address()]);
    lives_with(fake, &url, fleets, history).await
}
