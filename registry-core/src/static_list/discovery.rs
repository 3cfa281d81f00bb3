//! A view that never changes, and says so at an interval.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};

use super::{NAME, StaticRegistry};
use crate::{
    Error,
    backend::{
        Catalogue, CatalogueStream, Change, Cursor, Discovery, Event, Evidence, Listing, Read, WatchStream,
    },
    model::{ServiceName, Target},
};

/// How often an open watch gives a sign of life: a third of what the capabilities promise.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

#[async_trait]
impl Discovery for StaticRegistry {
    async fn lookup(&self, target: &Target, _read: &Read) -> Result<Listing, Error> {
        refuse_qualifiers(target, "lookup")?;
        Ok(Listing::new(self.instances(target.service()), Evidence::default()))
    }

    /// Always opens with the whole list: there is no history, so no event has a cursor.
    fn watch(&self, target: &Target, _cursor: Option<Cursor>) -> WatchStream {
        if let Err(error) = refuse_qualifiers(target, "watch") {
            return Box::pin(stream::iter([Err(error)]));
        }
        let event = |changes| Ok(Event::new(changes, None, Evidence::default()));
        let opening = event(vec![Change::Reset(self.instances(target.service()))]);
        let signs = stream::unfold((), move |()| async move {
            tokio::time::sleep(SIGN_OF_LIFE).await;
            Some((event(Vec::new()), ()))
        });
        Box::pin(stream::iter([opening]).chain(signs))
    }
}

#[async_trait]
impl Catalogue for StaticRegistry {
    async fn services(&self) -> Result<Vec<ServiceName>, Error> {
        Ok(self.services.keys().cloned().collect())
    }

    fn watch_services(&self) -> CatalogueStream {
        let services = self.services.keys().cloned().collect();
        Box::pin(stream::iter([Ok(services)]).chain(stream::pending()))
    }
}

fn refuse_qualifiers(target: &Target, operation: &'static str) -> Result<(), Error> {
    match target.qualifiers().iter().next() {
        None => Ok(()),
        Some((key, _)) => {
            let why = format!("a static list knows no qualifiers; the target has {key:?}");
            Err(Error::invalid(why).with_context(NAME, operation))
        }
    }
}
