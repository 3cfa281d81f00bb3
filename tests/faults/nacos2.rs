//! The rows of `nacos` on the line before the newest, which has the APIs v1 and v2.
#![allow(clippy::future_not_send, reason = "each row has a runtime of its own, on its own thread")]

use registry_testkit::NacosLine;

crate::nacos::rows_on!(NacosLine::V2);
