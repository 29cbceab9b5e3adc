//! The bench's own bounds.

use std::process::Stdio;

use onyx::bench::clouds::Cloud;
use onyx::bench::clouds::broker::FILTERS_MAX;

use crate::tools::{Bench, spawn};

#[tokio::test]
async fn one_subscribe_cannot_fill_the_memory() {
    let mut b = Bench::start(|_| {}).await;
    let mut c = b.mosquitto("mosquitto_sub", Cloud::EventGrid, "127.0.0.1", "reader");
    c.args(["-u", "reader", "-i", "r"]).stdout(Stdio::null());
    for n in 0..=FILTERS_MAX {
        c.args(["-t", &format!("exampletopics/{n}")]);
    }
    let child = spawn(&mut c);
    assert_eq!(b.refusal("bench/full").await, "connection closed");
    drop(child);
}
