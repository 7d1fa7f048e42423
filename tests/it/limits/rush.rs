//! Many calls that come at once, some of which are left in the middle.
//!
//! Never does: forgive an answer that is neither a success nor a refusal of a limit.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use ai_gateway::demo::Provider;

use super::*;

/// Prices as elsewhere, but of a model that reads so little that a call's worst case is near to what it uses.
pub(super) fn small(limits: &str) -> Setup {
    let setup = limited(limits);
    Setup { sections: setup.sections.replace("max_input_tokens: 100000", "max_input_tokens: 40"), ..setup }
}

/// The most that a call of a rush may use, with [`small`].
pub(super) const WORST: u64 = 60;

/// What came of a call.
enum Came {
    /// These tokens were told.
    Answered(u64),
    /// The code of the refusal.
    Refused(String),
    /// The client left.
    Left,
}

/// A call of at most 20 tokens of output. Every fifth one leaves in the middle.
async fn call(address: SocketAddr, number: usize) -> Came {
    let mut connection = Connection::open(address).await;
    let stream = number.is_multiple_of(2);
    let more = if stream { r#""stream":true,"stream_options":{"include_usage":true},"# } else { "" };
    let body = capped(20).replacen('{', &format!("{{{more}"), 1);
    let headers = [bearer(KEY), ("content-type", "application/json".to_owned())];
    connection.send(head("POST", CHAT, &headers, body.as_bytes()) + &body).await;
    if number.is_multiple_of(5) {
        tokio::time::sleep(Duration::from_millis(number as u64 % 50)).await;
        return Came::Left;
    }
    let answer = connection.response("POST").await;
    let text = answer.text();
    if answer.status != 200 {
        assert_eq!(answer.status, 429, "{text}");
        return Came::Refused(answer.json()["error"]["code"].as_str().expect("a code").to_owned());
    }
    let told = text.rfind("\"total_tokens\":").map(|at| &text[at + "\"total_tokens\":".len()..]).expect("a usage");
    let digits = told.trim_start().split(|c: char| !c.is_ascii_digit()).next().expect("a number");
    Came::Answered(digits.parse().expect("a number"))
}

/// Calls that come at once; gives the tokens that were told.
pub(super) async fn rush(address: SocketAddr, calls: Range<usize>) -> u64 {
    let mut all = tokio::task::JoinSet::new();
    for number in calls {
        all.spawn(call(address, number));
    }
    let told = all.join_all().await.into_iter().map(|came| if let Came::Answered(tokens) = came { tokens } else { 0 });
    told.sum()
}

/// Makes one call after the other until the budget is spent; gives the tokens that were told.
pub(super) async fn use_up(address: SocketAddr) -> u64 {
    let mut told = 0;
    let deadline = tokio::time::Instant::now() + 4 * SOON;
    loop {
        assert!(tokio::time::Instant::now() < deadline, "it is never spent");
        match call(address, 1).await {
            Came::Answered(tokens) => told += tokens,
            Came::Refused(code) if code == "insufficient_quota" => return told,
            // Another process holds it, or did a moment ago.
            Came::Refused(code) => {
                assert_eq!(code, "budget_reserved");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Came::Left => unreachable!("not this one"),
        }
    }
}

/// What the provider was asked for, by its own count of whole answers: also of those that nobody waited for.
pub(super) fn asked_for(provider: &Provider) -> u64 {
    let used = provider.received().into_iter().filter_map(|request| request.used);
    used.map(|used| used.input + used.output).sum()
}
