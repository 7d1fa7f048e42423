//! What a reload leaves of memory where there are many keys. Left to the allocator, it would be given back by the first thread
//! that frees something a second later, which serves calls; nobody calls meanwhile.

use std::fmt::Write as _;

use super::*;

const KEYS: usize = 40_000;
/// What the file takes while it is read, in KiB, and as much again for what it says.
const READ: u64 = 2 * 5 * 1024;
/// What the keys take that are replaced, in KiB, at least.
const RING: u64 = 6 * 1024;

fn many_keys() -> String {
    let mut file = "{\n".to_owned();
    for number in 0..KEYS {
        let entry = r#"{ "username": "one of many", "salt": "ZmFrZQ==", "scopes": [] }"#;
        writeln!(file, "\"{number:064x}\": {entry},").expect("memory");
    }
    file + KEY_FILE.trim_start().strip_prefix('{').expect("an object")
}

/// Reloads, and waits until at least so many KiB of what that took at its height are given back.
async fn given_back(service: &Service, least: u64) {
    service.process.comes_to_rest().await;
    service.process.forget_peak();
    service.process.signal("HUP");
    service.process.says("INFO configuration reloaded").await;
    let given_back = || service.process.memory("VmHWM").saturating_sub(service.process.memory("VmRSS"));
    eventually("memory is given back", async || given_back() > least).await;
}

#[tokio::test]
async fn what_the_old_keys_took_is_given_back_by_the_reload_itself() {
    let service = Service::with(Setup { key_file: Some(many_keys()), ..Setup::default() }).await;
    given_back(&service, READ + RING).await;
    assert_eq!(service.status(KEY, "/openai/v1/models").await, 200);
}

#[tokio::test]
async fn a_stream_that_holds_the_old_keys_holds_no_more_than_them() {
    let service = Service::with(Setup { key_file: Some(many_keys()), ..Setup::default() }).await;
    service.provider.script(slow(2, 60_000));
    let stream = begin_stream(service.connect().await, &chat_stream("x")).await;
    given_back(&service, READ).await;
    let held = service.process.memory("VmRSS");
    drop(stream);
    let given_back = || held.saturating_sub(service.process.memory("VmRSS"));
    eventually("the old keys are gone, too", async || given_back() > RING).await;
}
