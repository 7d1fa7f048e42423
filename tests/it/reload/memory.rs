//! What a reload leaves of memory where there are many keys.

use std::fmt::Write as _;

use super::*;

/// More than a reload steps back for (`server/reloads.rs`).
const KEYS: usize = 40_000;
/// What the keys that were replaced took at least, in KiB.
const RING: u64 = 8 * 1024;

fn many_keys() -> String {
    let mut file = "{\n".to_owned();
    for number in 0..KEYS {
        let entry = r#"{ "username": "one of many", "salt": "ZmFrZQ==", "scopes": [] }"#;
        writeln!(file, "\"{number:064x}\": {entry},").expect("memory");
    }
    file + KEY_FILE.trim_start().strip_prefix('{').expect("an object")
}

/// Nobody calls it meanwhile: left to the allocator, it would be given back by the first thread that frees something a second
/// later, which serves calls.
#[tokio::test]
async fn what_the_old_keys_took_is_given_back_by_the_reload_itself() {
    let service = Service::with(Setup { key_file: Some(many_keys()), ..Setup::default() }).await;
    service.process.comes_to_rest().await;
    service.process.forget_peak();
    service.process.signal("HUP");
    service.process.says("INFO configuration reloaded").await;
    let held = || service.process.memory("VmHWM") - service.process.memory("VmRSS");
    eventually("memory is given back", async || held() > RING).await;
    assert_eq!(service.status(KEY, "/openai/v1/models").await, 200);
}
