//! What the model accepts, and what it answers to bad input, word by word.

use super::*;
use crate::{Error, ErrorKind};

mod endpoint;
mod instance;
mod name;
mod property;
mod record;
mod shape;

/// The message of a refusal that is the caller's to mend.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.expect_err("this must be refused");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    error.to_string()
}
