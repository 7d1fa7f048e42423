//! Prices that change under the running gateway.
//!
//! Never does: restart it.

use super::*;

#[tokio::test]
async fn a_reload_changes_the_price_and_the_version_that_the_next_record_names() {
    let service = Service::with(setup(Pair::default(), "")).await;
    let call = async || {
        let answer = service.connect().await.post(CHAT, &question("hello").to_string()).await;
        assert_eq!(answer.status, 200);
        let told = answer.header("x-gateway-cost-usd").map(str::to_owned);
        let record = record(service.admin, answer.header("x-request-id").expect("an id")).await;
        assert_eq!(told.as_deref(), record["cost_usd"].as_str());
        record
    };
    let before = call().await;
    let own =
        "prices: { models: { openai: { gpt-4o-mini: { usd_per_million_tokens: { input: 1000000, output: 0 } } } } }";
    service.change("keys:", &format!("{own}\nkeys:"));
    service.process.signal("HUP");
    service.process.says("INFO configuration reloaded").await;
    let after = call().await;
    assert_eq!(tokens(&before), tokens(&after));
    assert_eq!(after["cost_usd"], after["tokens"]["input"].to_string(), "a dollar a token");
    assert_ne!(before["cost_usd"], after["cost_usd"]);
    let version = |record: &Value| record["prices"].as_str().expect("a version").to_owned();
    assert_ne!(version(&before), version(&after));
    // A book that is wrong changes nothing.
    service.change("output: 0 }", "output: -1 }");
    service.process.signal("HUP");
    service.process.says("ERROR the configuration was not reloaded").await;
    assert_eq!(version(&call().await), version(&after));
}
