//! Limits and budgets: what they refuse, and what holds under load, crashes and reloads.

mod answers;
mod held;
mod lasting;
mod of_models;
mod refusals;
mod rush;
mod unanswered;
mod unread;

use serde_json::Value;

use crate::support::*;

const CHAT: &str = "/openai/v1/chat/completions";

/// A million tokens cost a dollar, so that a token costs a millionth.
const PRICES: &str = "prices: { models: { openai: { gpt-4o-mini: { usd_per_million_tokens: { input: 1, output: 1 }, \
                      max_input_tokens: 100000, max_output_tokens: 1000 } } } }\n";

/// A world with these `limits:`, in which a token costs a millionth of a dollar.
fn limited(limits: &str) -> Setup {
    let admin = "token: admin-token".to_owned();
    Setup { sections: format!("{PRICES}limits: {limits}\n"), admin, ..Setup::default() }
}

/// How long a test goes on that finds more the longer it does: `AI_GATEWAY_TEST_SECONDS`, or else 8 s.
fn test_time() -> std::time::Duration {
    let told = std::env::var("AI_GATEWAY_TEST_SECONDS").ok();
    std::time::Duration::from_secs(told.map_or(8, |seconds| seconds.parse().expect("a number of seconds")))
}

/// A chat call that may use so many tokens of output.
fn capped(ceiling: u64) -> String {
    let messages = serde_json::json!([{ "role": "user", "content": "hello" }]);
    serde_json::json!({ "model": "gpt-4o-mini", "max_completion_tokens": ceiling, "messages": messages }).to_string()
}

/// How all limits stand, by their names.
async fn standing(address: std::net::SocketAddr) -> Vec<Value> {
    let token = bearer("admin-token");
    let answer = Connection::open(address).await.request("GET", "/api/limits", &[token], b"").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"].as_array().expect("a list").clone()
}

/// What is used of the only limit there is, and what is reserved, in tokens or millionths of a dollar.
async fn used(address: std::net::SocketAddr) -> (u64, u64) {
    let all = standing(address).await;
    let number = |value: &Value| match value {
        Value::String(usd) => (usd.parse::<f64>().expect("a number") * 1e6).round() as u64,
        other => other.as_u64().expect("a number"),
    };
    (number(&all[0]["used"]), number(&all[0]["reserved"]))
}
