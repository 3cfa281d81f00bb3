//! One entry of a list, read once: by the poll, for itself and for every watch.

use std::{
    hash::{BuildHasher, Hasher},
    sync::Arc,
};

use foldhash::quality::FixedState;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    super::{
        glance,
        said::Said,
        wire::{DataCenter, Info, Lease, Loose},
    },
    STATUSES, UNKNOWN,
};
use crate::json::leading;

/// One instance as a server has it: what the protocol needs, and what it says to readers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// In upper case.
    pub(crate) app: Arc<str>,
    pub(crate) id: Arc<str>,
    pub(super) status: &'static str,
    /// When this server took it in.
    pub(super) registered: u64,
    /// By which the registration is recognised.
    pub(super) mark: u64,
    pub(crate) said: Said,
    /// The entry as it came, if it can't be read as a whole: only what the protocol needs is known of it then.
    pub(crate) unread: Option<Box<str>>,
}

/// What a delta says of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Added or modified, which mean the same: items repeat, and a modification may come before its addition.
    Put,
    Delete,
}

/// What is done to which instance.
pub(crate) type Item = (Action, Arc<Record>);

/// Names of applications in upper case, which records in a row share.
#[derive(Debug, Default)]
pub(crate) struct AppNames {
    last: Option<(Box<str>, Arc<str>)>,
}

impl AppNames {
    fn name(&mut self, name: &str) -> Arc<str> {
        match &self.last {
            Some((last, app)) if **last == *name => Arc::clone(app),
            _ => {
                let app: Arc<str> = name.to_uppercase().into();
                self.last = Some((name.into(), Arc::clone(&app)));
                app
            }
        }
    }
}

/// An entry of a list; `None` for one that is no instance.
pub(crate) fn item(apps: &mut AppNames, app: Option<&str>, raw: &str) -> Option<Item> {
    match glance::info(raw).filter(|(_, length)| *length == raw.len()) {
        Some((info, _)) => item_of(apps, app, &info, None),
        None => match serde_json::from_str::<Info<'_>>(raw) {
            Ok(info) => item_of(apps, app, &info, None),
            Err(_) => outline(apps, app, raw),
        },
    }
}

/// The same of the entry that a text begins with; with its length. `None` if it begins with no JSON.
pub(crate) fn leading_item(
    apps: &mut AppNames,
    app: Option<&str>,
    text: &str,
) -> Option<(Option<Item>, usize)> {
    if let Some((info, length)) = glance::info(text).or_else(|| leading(text)) {
        return Some((item_of(apps, app, &info, None), length));
    }
    let (raw, length) = leading::<&RawValue>(text)?;
    Some((outline(apps, app, raw.get()), length))
}

/// An entry that can't be read as a whole, but maybe as far as the protocol needs it.
fn outline(apps: &mut AppNames, app: Option<&str>, raw: &str) -> Option<Item> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Outline<'a> {
        #[serde(borrow)]
        instance_id: Loose<'a>,
        #[serde(borrow)]
        host_name: Loose<'a>,
        #[serde(borrow)]
        app: Loose<'a>,
        #[serde(borrow)]
        status: Loose<'a>,
        #[serde(borrow)]
        vip_address: Loose<'a>,
        #[serde(borrow)]
        secure_vip_address: Loose<'a>,
        #[serde(borrow)]
        data_center_info: DataCenter<'a>,
        lease_info: Lease,
        #[serde(borrow)]
        action_type: Loose<'a>,
    }
    let outline: Outline<'_> = match serde_json::from_str(raw) {
        Ok(outline) => outline,
        Err(error) => {
            tracing::debug!(%error, "skipped an entry that is no instance");
            return None;
        }
    };
    let info = Info {
        instance_id: outline.instance_id,
        host_name: outline.host_name,
        app: outline.app,
        status: outline.status,
        vip_address: outline.vip_address,
        secure_vip_address: outline.secure_vip_address,
        data_center_info: outline.data_center_info,
        lease_info: outline.lease_info,
        action_type: outline.action_type,
        ..Info::default()
    };
    item_of(apps, app, &info, Some(raw))
}

fn item_of(apps: &mut AppNames, app: Option<&str>, info: &Info<'_>, unread: Option<&str>) -> Option<Item> {
    let Some(said) = Said::of(info) else {
        tracing::debug!("skipped an entry that is too long");
        return None;
    };
    let status = STATUSES.into_iter().find(|known| info.status.text() == Some(known));
    let app = apps.name(app.or_else(|| info.app.text()).unwrap_or_default());
    // Even one without an id counts for the hash.
    let id: Arc<str> = info.id().unwrap_or_default().into();
    let registered = info.lease_info.registered;
    let record = Record {
        mark: mark(&app, &id, registered),
        app,
        id,
        status: status.unwrap_or(UNKNOWN),
        registered,
        said,
        unread: unread.map(Box::from),
    };
    let action = if info.action_type.text() == Some("DELETED") { Action::Delete } else { Action::Put };
    Some((action, Arc::new(record)))
}

/// The same in each list, and no more than a sample is taken by it.
fn mark(app: &str, id: &str, registered: u64) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    for text in [app, id] {
        hasher.write(text.as_bytes());
        hasher.write_u8(0xff);
    }
    hasher.write_u64(registered);
    hasher.finish()
}

impl Record {
    /// Whether a vip address, of which an instance may have several, is among its own.
    pub(crate) fn has_vip(&self, vip: &str, secure: bool) -> bool {
        let own = self.said.vip(secure);
        own.is_some_and(|own| own.split(',').any(|own| own.trim().eq_ignore_ascii_case(vip)))
    }

    /// Whether this is what became of `other`.
    pub(crate) fn is_at_the_place_of(&self, other: &Self) -> bool {
        self.id == other.id && self.app == other.app
    }
}
