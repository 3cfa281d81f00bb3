//! An upstream over a list that doesn't come from a registry.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use super::{Source, Upstream};
use crate::{
    Error, Freshness, ViewEvents, ViewState,
    balance::Balance,
    model::{Instance, InstanceKey, Selector, Target},
    view::{View, ViewChange, ViewSink},
};

pub(crate) struct Fixed(Vec<Arc<Instance>>);

/// A source that has nothing and never will, and why.
pub(crate) struct Nothing(pub(crate) Error);

impl Upstream {
    /// An upstream with a list that never changes: for services that no registry knows, and for tests of code
    /// that takes an [`Upstream`]. Instances of one key replace each other; the last stays.
    ///
    /// ```
    /// use registry_core::{Instance, Target, Upstream, balance::Balance};
    ///
    /// let instance = Instance::new("orders", "http://10.0.0.7:8080")?;
    /// let orders = Upstream::fixed(Target::try_from("orders")?, [instance], &Balance::default());
    /// assert_eq!(orders.pick()?.endpoint().port(), 8080);
    /// # Ok::<(), registry_core::Error>(())
    /// ```
    #[must_use]
    pub fn fixed(target: Target, instances: impl IntoIterator<Item = Instance>, balance: &Balance) -> Self {
        let fixed: Arc<dyn Source> = Arc::new(Fixed(instances.into_iter().map(Arc::new).collect()));
        let view = Arc::new(View::new(Selector::new(), balance));
        let upstream = Self::new(target, view, false, move || Arc::clone(&fixed));
        upstream.start();
        upstream
    }
}

impl Source for Nothing {
    fn attach(&self, view: Weak<dyn ViewSink>) {
        if let Some(view) = view.upgrade() {
            view.close();
        }
    }

    fn fail(&self, _: &InstanceKey) {}

    fn freshness(&self) -> Freshness {
        Freshness {
            state: ViewState::Loading,
            age: None,
            source: None,
            held: 0,
            rejected: 0,
            partial: false,
            last_error: Some(self.0.clone()),
        }
    }

    fn events(&self) -> ViewEvents {
        ViewEvents::new(None)
    }
}

impl Source for Fixed {
    fn attach(&self, view: Weak<dyn ViewSink>) {
        if let Some(view) = view.upgrade() {
            view.apply(&ViewChange { upserts: self.0.clone(), ..ViewChange::default() });
        }
    }

    fn fail(&self, _: &InstanceKey) {}

    fn freshness(&self) -> Freshness {
        Freshness {
            state: ViewState::Fresh,
            age: Some(Duration::ZERO),
            source: None,
            held: 0,
            rejected: 0,
            partial: false,
            last_error: None,
        }
    }

    fn events(&self) -> ViewEvents {
        ViewEvents::new(None)
    }
}
