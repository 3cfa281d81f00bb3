//! The health service of a server that leaves.

use std::pin::Pin;

use ::tonic::{Request, Response, Status, async_trait};
use futures_core::Stream;
use futures_util::StreamExt;
use registry_core::InFlight;
use tonic_health::{
    pb::{HealthCheckRequest, HealthCheckResponse, health_server::Health},
    server::HealthService,
};

/// tonic's health service, which lets go of those who watch when new work is refused: a watch has no end of its own,
/// and would hold up the drain.
pub(super) struct LeavingHealth {
    pub(super) service: HealthService,
    pub(super) in_flight: InFlight,
}

#[async_trait]
impl Health for LeavingHealth {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.service.check(request).await
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let in_flight = self.in_flight.clone();
        let refusing = Box::pin(async move { in_flight.refusing().await });
        let answer = self.service.watch(request).await?;
        Ok(answer.map(|news| -> Self::WatchStream { Box::pin(news.take_until(refusing)) }))
    }
}
