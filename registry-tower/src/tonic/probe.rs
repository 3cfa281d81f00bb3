//! Asking an instance's health service.

use ::tonic::{Code, async_trait, transport::Channel};
use registry_core::{Instance, Probe, balance::Failure};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::transport::GrpcTransport;

/// Asks the [health service](https://github.com/grpc/grpc/blob/master/doc/health-checking.md) of an instance, on a
/// connection of its own each time. Well is who answers `SERVING`, or has no health service (gRFC A17).
///
/// ```
/// use registry_core::Ejection;
/// use registry_tower::tonic::GrpcProbe;
///
/// let ejection = Ejection::new().probe(GrpcProbe::new().service("greeter.Greeter"));
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct GrpcProbe {
    transport: GrpcTransport,
    service: String,
}

impl GrpcProbe {
    /// Asks for the health of the server as a whole.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the health of one service, such as `package.Service`.
    pub fn service(mut self, name: impl Into<String>) -> Self {
        self.service = name.into();
        self
    }

    /// How to connect; best as the channel does.
    pub fn transport(mut self, transport: GrpcTransport) -> Self {
        self.transport = transport;
        self
    }

    async fn connect(&self, instance: &Instance) -> Option<Channel> {
        let transport = self.transport.to(instance, self.transport.endpoint(instance));
        transport.ok()?.connect().await.ok()
    }
}

#[async_trait]
impl Probe for GrpcProbe {
    async fn probe(&self, instance: &Instance) -> Result<(), Failure> {
        let channel = self.connect(instance).await.ok_or(Failure::Connect)?;
        let request = HealthCheckRequest { service: self.service.clone() };
        match HealthClient::new(channel).check(request).await {
            Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => Ok(()),
            Err(status) if status.code() == Code::Unimplemented => Ok(()),
            Err(status) if status.code() == Code::DeadlineExceeded => Err(Failure::Timeout),
            Ok(_) | Err(_) => Err(Failure::Server),
        }
    }
}
