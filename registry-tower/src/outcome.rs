//! Outcomes for clients that pick by themselves.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use registry_core::{OpenPick, Picked};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    BoxError,
    body::Until,
    classify::{Classify, ClassifyHttp},
    service::OpenAnswer,
};

/// A layer for clients that pick by themselves: the service takes the pick with the request, holds it until the end
/// of the response's body, and reports how it went.
///
/// Nothing is retried and the request isn't changed: see [`Balanced`](crate::Balanced) for both.
///
/// ```
/// # use http::{Request, Response};
/// # use http_body_util::Empty;
/// # use registry_core::Upstream;
/// # use registry_tower::{BoxError, OutcomeLayer};
/// # use tower::{Layer, Service, ServiceExt};
/// # type Body = Empty<&'static [u8]>;
/// # async fn example<S>(http: S, orders: Upstream) -> Result<(), BoxError>
/// # where
/// #     S: Service<Request<Body>, Response = Response<Body>, Error = BoxError> + Clone + Send + 'static,
/// #     S::Future: Send,
/// # {
/// let mut http = OutcomeLayer::new().layer(http);
/// let picked = orders.pick()?;
/// let request = Request::get(format!("{}/lines", picked.endpoint())).body(Empty::new())?;
/// let answer = http.ready().await?.call((picked, request)).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct OutcomeLayer {
    classify: Arc<dyn Classify>,
}

/// The service of an [`OutcomeLayer`].
#[derive(Clone, Debug)]
pub struct Reporting<S> {
    inner: S,
    classify: Arc<dyn Classify>,
}

impl OutcomeLayer {
    /// Under the [rules for HTTP](ClassifyHttp).
    #[must_use]
    pub fn new() -> Self {
        Self { classify: Arc::new(ClassifyHttp) }
    }

    /// Other rules for what counts as failed. What they want retried is not.
    #[must_use]
    pub fn classify(mut self, classify: impl Classify) -> Self {
        self.classify = Arc::new(classify);
        self
    }
}

impl Default for OutcomeLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for OutcomeLayer {
    type Service = Reporting<S>;

    fn layer(&self, inner: S) -> Reporting<S> {
        Reporting { inner, classify: Arc::clone(&self.classify) }
    }
}

impl<S, A, B> Service<(Picked, Request<A>)> for Reporting<S>
where
    S: Service<Request<A>, Response = Response<B>, Error: Into<BoxError>, Future: Send + 'static>,
    B: Body,
{
    type Response = Response<Until<B, OpenAnswer>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, (picked, request): (Picked, Request<A>)) -> Self::Future {
        let open = OpenPick::begin(picked);
        let classify = Arc::clone(&self.classify);
        let (head, body) = request.into_parts();
        let answer = self.inner.call(Request::from_parts(head.clone(), body));
        Box::pin(async move {
            match answer.await {
                Ok(response) => {
                    let (answer_head, body) = response.into_parts();
                    let failure = classify.response(&head, &answer_head).failure();
                    let guard = OpenAnswer::new(open, failure, classify, &answer_head);
                    Ok(Response::from_parts(answer_head, Until::new(body, guard)))
                }
                Err(error) => {
                    let error = error.into();
                    match classify.error(&head, &error).failure() {
                        Some(failure) => open.fail(failure),
                        None => drop(open),
                    }
                    Err(error)
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use registry_core::balance::Failure;
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::{NotSent, world::World};

    #[tokio::test(start_paused = true)]
    async fn a_pick_made_by_hand_is_reported_at_the_end_of_the_answer() {
        let world = World::with(1).await;
        let http =
            OutcomeLayer::new().layer(service_fn(async |request: Request<()>| match request.uri().path() {
                "/refused" => Err(NotSent::new("refused").into()),
                "/broken" => Ok(Response::builder().status(500).body(Full::<Bytes>::from("sorry")).unwrap()),
                _ => Ok::<_, BoxError>(Response::new(Full::<Bytes>::from("answer"))),
            }));
        let call = |path: &str| {
            let request = Request::get(path).body(()).unwrap();
            http.clone().oneshot((world.upstream.pick().unwrap(), request))
        };
        let answer = call("/").await.unwrap();
        assert_eq!(world.ledger.open(), 1);
        answer.into_body().collect().await.unwrap();
        drop(call("/broken").await.unwrap());
        assert!(call("/refused").await.is_err());
        assert_eq!(world.ledger.verdicts(), [Ok(()), Err(Failure::Server), Err(Failure::Connect)]);
    }
}
