//! What an upstream needs of whatever feeds its view.

use std::sync::Weak;

use crate::{Freshness, ViewEvents, model::InstanceKey, reflector::Reflector, view::ViewSink};

/// Feeds views; a reflector in production.
pub(crate) trait Source: Send + Sync {
    /// Tells the view everything, if anything is known yet, and from then on every change, for as long as it
    /// lives.
    fn attach(&self, view: Weak<dyn ViewSink>);

    /// A connection to this instance failed: if it is held, it is gone. Must not block.
    fn fail(&self, key: &InstanceKey);

    /// How far the view can be trusted, now.
    fn freshness(&self) -> Freshness;

    /// Whether the view may be picked from; only asked of an upstream that refuses expired views. Must not
    /// block.
    fn may_serve(&self) -> bool {
        true
    }

    /// What happens to the view from now on.
    fn events(&self) -> ViewEvents;
}

impl Source for Reflector {
    fn attach(&self, view: Weak<dyn ViewSink>) {
        self.attach(view);
    }

    fn fail(&self, key: &InstanceKey) {
        self.fail(key);
    }

    fn freshness(&self) -> Freshness {
        self.freshness()
    }

    fn may_serve(&self) -> bool {
        self.may_serve()
    }

    fn events(&self) -> ViewEvents {
        self.events()
    }
}
