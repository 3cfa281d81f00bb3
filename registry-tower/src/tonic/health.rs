//! The health service of a server that leaves.

use std::pin::Pin;

use ::tonic::{Request, Response, Status, async_trait};
use futures_core::Stream;
use futures_util::{FutureExt, StreamExt, stream};
use registry_core::InFlight;
use tonic_health::{
    pb::{
        HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server::Health,
    },
    server::HealthService,
};

/// tonic's health service, which says `NOT_SERVING` from the moment the server leaves, whatever the application says, and
/// lets go of those who watch when new work is refused: a watch has no end of its own, and would hold up the drain.
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
        let mut answer = self.service.check(request).await?;
        if self.in_flight.leaving().now_or_never().is_some() {
            answer.get_mut().set_status(ServingStatus::NotServing);
        }
        Ok(answer)
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (leaving, refusing) = (self.in_flight.clone(), self.in_flight.clone());
        let leaving = Box::pin(async move { leaving.leaving().await });
        let refusing = Box::pin(async move { refusing.refusing().await });
        let last = HealthCheckResponse { status: ServingStatus::NotServing.into() };
        let last = stream::iter([Ok(last)]).chain(stream::pending());
        let answer = self.service.watch(request).await?;
        Ok(answer.map(|news| -> Self::WatchStream {
            Box::pin(news.take_until(leaving).chain(last).take_until(refusing))
        }))
    }
}
