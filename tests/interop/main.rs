//! Applications of other frameworks and ours find and call each other on the registries that both know.
#![cfg(unix)]

mod service;
mod spring;
