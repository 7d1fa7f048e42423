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

/// A book with a price of input alone, in millionths of a dollar a token.
fn book(micros: &str) -> String {
    let head = "\"as_of\": \"2026-11\", \"currency\": \"USD\", \"unit\": \"per 1,000,000 tokens, decimal strings\"";
    let price = format!("{{ \"usd_per_million_tokens\": {{ \"input\": \"{micros}\", \"output\": \"0\" }} }}");
    format!("{{ {head}, \"providers\": {{ \"openai\": {{ \"gpt-4o-mini\": {price} }} }} }}")
}

#[tokio::test]
async fn a_reload_reads_the_file_of_prices_again_and_a_broken_one_changes_nothing() {
    let files = vec![("book.json".to_owned(), book("1"))];
    let sections = "prices: { file: book.json }\n".to_owned();
    let service = Service::with(Setup { files, sections, ..setup(Pair::default(), "") }).await;
    let call = async || {
        let answer = service.connect().await.post(CHAT, &question("hello").to_string()).await;
        assert_eq!(answer.status, 200);
        let record = record(service.admin, answer.header("x-request-id").expect("an id")).await;
        let input = record["tokens"]["input"].as_u64().expect("a count");
        let cost: f64 = record["cost_usd"].as_str().expect("a cost").parse().expect("a number");
        let version = record["prices"].as_str().expect("a version").to_owned();
        ((cost * 1e6).round(), input as f64, version)
    };
    let write = |text: &str| std::fs::write(service.folder.path().join("book.json"), text).expect("written");
    let before = call().await;
    assert_eq!(before.0, before.1, "a millionth a token");
    write(&book("3"));
    assert_eq!(call().await, before, "nobody asked for it");
    service.process.signal("HUP");
    service.process.says("INFO configuration reloaded").await;
    let after = call().await;
    assert_eq!(after.0, 3.0 * after.1);
    assert_ne!(after.2, before.2);
    for (times, broken) in [book("-1"), book("9").replace("USD", "EUR"), "{".to_owned()].iter().enumerate() {
        write(broken);
        service.process.signal("HUP");
        let refusals = || {
            let refused = |message: &&String| message.starts_with("ERROR the configuration was not reloaded");
            service.process.messages().iter().filter(refused).count()
        };
        eventually("it is refused", async || refusals() == times + 1).await;
        assert_eq!(call().await, after, "{broken}");
    }
    assert!(service.process.messages().iter().any(|message| message.contains("book.json")), "it names the file");
}
