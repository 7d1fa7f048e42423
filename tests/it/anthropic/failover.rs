//! Anthropic's failures while another target can serve.

use super::*;

fn failing(status: u16, kind: &str, headers: &[(&str, &str)]) -> Script {
    let script = Script::json(status, error(kind, "theirs"));
    headers.iter().fold(script, |script, (name, value)| script.header(name, value))
}

async fn whole_from(claude: &Claude, provider: &str) {
    for stream in [false, true] {
        let asked = if stream { streamed(question("hello")) } else { question("hello") };
        let answer = claude.ask(&asked).await;
        let text = answer.text();
        assert_eq!((answer.status, answer.header("provider-name")), (200, Some(provider)), "{text}");
        let ends = if stream { "event: message_stop" } else { "\"stop_reason\":\"end_turn\"" };
        assert!(text.contains(ends) && answer.complete, "{text}");
    }
}

#[tokio::test]
async fn overload_and_faults_are_asked_again_once_and_then_elsewhere() {
    for (status, kind) in [(529, "overloaded_error"), (500, "api_error"), (504, "timeout_error")] {
        let claude = Claude::two().await;
        claude.provider.script(failing(status, kind, &[]));
        whole_from(&claude, "anthropic").await;
        assert_eq!(claude.asked(), [3, 0], "{status}: it passed");
        let claude = Claude::two().await;
        claude.provider.script(failing(status, kind, &[]).always());
        whole_from(&claude, "backup").await;
        assert_eq!(claude.asked(), [4, 2], "{status}: it stayed");
    }
}

#[tokio::test]
async fn a_429_rests_for_the_providers_own_time() {
    let claude = Claude::two().await;
    claude.provider.script(failing(429, "rate_limit_error", &[("retry-after", "1")]));
    whole_from(&claude, "anthropic").await;
    assert_eq!(claude.asked(), [3, 0], "a short one is waited for");
    for headers in [
        &[("retry-after", "30")][..],
        &[
            ("anthropic-ratelimit-input-tokens-remaining", "0"),
            ("anthropic-ratelimit-input-tokens-reset", "2199-01-01T00:00:00Z"),
        ],
    ] {
        let claude = Claude::two().await;
        claude.provider.script(failing(429, "rate_limit_error", headers));
        whole_from(&claude, "backup").await;
        assert_eq!(claude.asked(), [1, 2], "it is left in peace: {headers:?}");
    }
}

#[tokio::test]
async fn an_account_that_may_spend_no_more_is_left() {
    let details = json!({ "type": "error", "error": {
        "type": "rate_limit_error", "message": "x", "details": { "error_code": "enforced_spend_limit_reached" },
    } });
    let own =
        error("invalid_request_error", "You have reached your specified API usage limits. You will regain access");
    for (script, asked) in [
        (Script::json(429, details.to_string()), [1, 2]),
        (failing(402, "billing_error", &[]), [1, 2]),
        // A client may have written it: a member of its body that is named so is what the provider's text begins with.
        (Script::json(400, own), [2, 2]),
    ] {
        let claude = Claude::two().await;
        claude.provider.script(script.clone().always());
        whole_from(&claude, "backup").await;
        assert_eq!(claude.asked(), asked, "{script:?}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_request_is_not_asked_elsewhere() {
    for (status, kind) in [(400, "invalid_request_error"), (404, "not_found_error"), (413, "request_too_large")] {
        let claude = Claude::two().await;
        claude.provider.script(failing(status, kind, &[]));
        let answer = claude.ask(&question("hello")).await;
        assert_eq!((answer.status, answer.text()), (status, error(kind, "theirs")));
        assert_eq!(claude.asked(), [1, 0]);
    }
}

#[tokio::test]
async fn what_is_too_long_goes_to_a_larger_context() {
    let claude = Claude::two().await;
    let long = error("invalid_request_error", "prompt is too long: 215432 tokens > 200000 maximum");
    claude.provider.script(Script::json(400, long).always());
    whole_from(&claude, "backup").await;
}

#[tokio::test]
async fn a_key_that_is_refused_is_left_for_another_one() {
    let claude = Claude::two().await;
    claude.provider.script(failing(401, "authentication_error", &[]));
    whole_from(&claude, "backup").await;
    let alone = Claude::start().await;
    alone.provider.script(failing(401, "authentication_error", &[]));
    own_error(&alone.ask(&question("hello")).await, 502, "api_error");
}

#[tokio::test]
async fn nobody_left_to_ask_is_told_in_anthropics_shape() {
    let claude = Claude::two().await;
    for provider in [&claude.provider, &claude.backup] {
        provider.script(failing(529, "overloaded_error", &[]).always());
    }
    let answer = claude.ask(&question("hello")).await;
    assert_eq!((answer.status, answer.text()), (529, error("overloaded_error", "theirs")), "the last one's own words");
    let mut last = answer;
    for _ in 0..10 {
        last = claude.ask(&question("hello")).await;
        if last.status != 529 {
            break;
        }
    }
    own_error(&last, 503, "overloaded_error");
    assert!(last.header("retry-after").is_some());
}
