//! What instances share, and that sharing keeps nothing alive.

use std::sync::{Arc, Weak};

use super::*;
use crate::model::shape::Shape;

fn shape(version: &str) -> Shape {
    Shape { version: Some(version.into()), keys: Box::new(["team".into()]), ..Shape::default() }
}

#[test]
fn equal_shapes_are_held_once() {
    let one = shape("1").share();
    assert!(Arc::ptr_eq(&one, &shape("1").share()));
    assert!(!Arc::ptr_eq(&one, &shape("2").share()));
    assert!(Arc::ptr_eq(&one, &shape("1").share()), "another shape doesn't push it out");
}

#[test]
fn a_shape_ends_with_the_last_instance_that_has_it() {
    let one = shape("1").share();
    let watched = Arc::downgrade(&one);
    drop(one);
    assert!(watched.upgrade().is_none());
    assert_eq!(*shape("1").share(), shape("1"), "and can be had again");
}

#[test]
fn thousands_of_shapes_leave_no_more_than_the_table_behind() {
    let shapes: Vec<_> = (0..5_000).map(|version| shape(&version.to_string()).share()).collect();
    assert!(shapes.iter().all(|shape| Arc::strong_count(shape) == 1));
    let remembered = shapes.iter().filter(|shape| Arc::weak_count(shape) > 0).count();
    assert!((1..=512).contains(&remembered), "{remembered}");
    let watched: Vec<Weak<Shape>> = shapes.iter().map(Arc::downgrade).collect();
    drop(shapes);
    assert!(watched.iter().all(|shape| shape.upgrade().is_none()));
}

#[test]
#[cfg(target_pointer_width = "64")]
fn an_instance_is_88_bytes_and_an_endpoint_16() {
    assert_eq!(size_of::<Endpoint>(), 16);
    // With the counters of its `Arc` this is one block of 112 bytes in most allocators; 8 bytes more would make it 128.
    assert_eq!(size_of::<Instance>(), 88);
}
