//! Taking records back.

use futures_util::future::BoxFuture;
use registry_core::{InstanceKey, backend::Outcome};

use super::{
    super::{
        api::Subject,
        codec::Address,
        journal::Line,
        standing::{Found, Holder, Standing},
    },
    AT_ONCE, NacosLease,
};
use crate::http::abreast;

impl NacosLease {
    /// Removes keys; with `lease` only those that still hang on it.
    pub(super) async fn remove(
        &self,
        operation: &'static str,
        mut keys: Vec<InstanceKey>,
        lease: Option<u64>,
    ) -> Vec<Outcome> {
        // Before all else: whatever comes of it, nobody beats for them any more.
        keys.retain(|key| self.journal.leave(key, lease));
        let standings = self.read(operation, keys.iter().map(|key| &key.service)).await;
        let standings = &standings;
        let remove = |key: InstanceKey| -> BoxFuture<'_, Outcome> {
            Box::pin(async move {
                match &standings[&key.service] {
                    Ok(standing) => self.remove_one(operation, &key, standing, lease).await,
                    Err(error) => Err(error.clone()),
                }
            })
        };
        abreast(keys.into_iter().map(remove).collect(), AT_ONCE).await
    }

    async fn remove_one(
        &self,
        operation: &'static str,
        key: &InstanceKey,
        standing: &Standing,
        lease: Option<u64>,
    ) -> Outcome {
        if let Some(Line { gate, .. }) = self.journal.line(key) {
            // A beat that is under way could bring it back.
            drop(gate.write().await);
        }
        let line = self.journal.line(key);
        if lease.is_some_and(|lease| line.as_ref().is_some_and(|line| line.lease != lease)) {
            return Ok(());
        }
        let mut at: Vec<Address> = match standing.holder(key, line.as_ref(), self.incarnation) {
            Holder::Other => {
                self.journal.forget(key);
                return Ok(());
            }
            // Maybe merely not listed, as an operator has disabled it.
            Holder::Nobody => Vec::new(),
            Holder::Ours(_) => {
                let found = standing.of_id(&key.id).iter().filter(|found| found.is_by(self.incarnation));
                found.map(|found| found.address.clone()).collect()
            }
        };
        // Whoever else is listed there came after us. Below an operator's edit we may stand under another's id.
        let is_its = |found: &Found| found.id == key.id || found.is_by(self.incarnation);
        let is_there = |line: &Line| line.is_recent() || standing.at(&line.address).is_none_or(is_its);
        let is_ours = |line: &Line| {
            !line.is_withdrawn && line.version.incarnation == self.incarnation && is_there(line)
        };
        at.extend(line.filter(is_ours).map(|line| line.address));
        // What nobody answered for, and no list shows yet.
        let is_free = |address: &Address| standing.is_free(address, &key.id);
        at.extend(self.journal.tried(key).into_iter().filter(is_free));
        at.sort();
        at.dedup();
        let place = self.place(&key.service);
        let ephemeral = self.is_ephemeral();
        for address in &at {
            self.session.deregister(operation, Subject { place: &place, address, ephemeral }).await?;
        }
        self.journal.withdrew(key);
        Ok(())
    }
}
