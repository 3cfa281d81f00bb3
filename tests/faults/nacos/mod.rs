//! The rows on a real Nacos, which keeps ephemeral instances in memory: on the newest line here, and on the one before in
//! `nacos2`.
#![allow(clippy::future_not_send, reason = "each row has a runtime of its own, on its own thread")]

pub(crate) mod access;
mod rows;
pub(crate) mod site;
mod strangers;

use registry_testkit::NacosLine;

pub(crate) use self::rows::rows_on;

rows_on!(NacosLine::V3);
