//! A provider whose pace is known: what a record and the metrics tell of time.
//!
//! Never does: expect anything to be fast; a busy machine makes all of it longer, and none of it shorter.

use std::time::Duration;

use ai_gateway::demo::Script;

use super::*;

over_all_pairs! { the_record_and_the_metrics_tell_the_providers_pace }

/// Before the head.
const DELAY: Duration = Duration::from_millis(150);
/// Between two events.
const GAP: Duration = Duration::from_millis(20);

async fn the_record_and_the_metrics_tell_the_providers_pace(pair: Pair) {
    let world = world(pair, "").await;
    world.provider.script(Script { words: Some(30), delay: DELAY, gap: Some(GAP), ..Script::default() });
    let answer = world.client().await.post(CHAT, &streamed(question("Where does it go?"))).await;
    let record = record_of(&world, &answer).await;
    let micros =
        |name: &str| Duration::from_micros(record[name].as_u64().unwrap_or_else(|| panic!("{name}: {record}")));
    let [upstream, first, all, overhead] = ["upstream_us", "first_token_us", "duration_us", "overhead_us"].map(micros);
    let text = answer.text();
    let events = u32::try_from(text.matches("data: ").count()).expect("some");
    assert!(events > 30 && text.ends_with("data: [DONE]\n\n"), "{text}");
    let gaps = GAP * (events - 1);
    assert!(upstream >= DELAY && first >= upstream && all >= DELAY + gaps && all > first, "{record}");
    assert!(overhead + DELAY <= all, "what the provider takes is not the gateway's: {record}");

    let metrics = world.metrics().await;
    let told =
        |name: &str, of: &str| metric(&metrics, &format!(r#"{name}_{of}{{model="gpt-4o-mini",provider="openai"}}"#));
    let (to_first, between) = ("gateway_time_to_first_token_seconds", "gateway_inter_token_seconds");
    assert_eq!((told(to_first, "count"), told(between, "count")), (1.0, 1.0));
    // The record leaves out what is less than a microsecond.
    assert!((told(to_first, "sum") - first.as_secs_f64()).abs() < 2e-6, "{metrics}");
    // The mean of many gaps. That the first event alone was late by half of them all is no machine's habit.
    let content = text.matches("\"content\":\"").count() - text.matches("\"content\":\"\"").count();
    let longest = (all - first).as_secs_f64() / (content - 1) as f64;
    let mean = told(between, "sum");
    assert!((GAP.as_secs_f64() / 2.0..=longest + 1e-6).contains(&mean), "{mean} {longest}");
}

#[tokio::test]
async fn what_is_no_stream_has_no_pace() {
    let world = world(Pair::default(), "").await;
    world.provider.script(Script::delayed(DELAY));
    let answer = world.post(CHAT, &question("hello").to_string()).await;
    let record = record_of(&world, &answer).await;
    assert!(record["upstream_us"].as_u64() >= Some(150_000) && record["first_token_us"].is_null(), "{record}");
    let metrics = world.metrics().await;
    assert!(!metrics.contains("gateway_time_to_first_token_seconds_count{"), "{metrics}");
    assert!(!metrics.contains("gateway_inter_token_seconds_count{"), "{metrics}");
}
