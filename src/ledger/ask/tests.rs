//! Facts about answers, from records made by hand.
//!
//! Never does: compare with the code's own sums; the figures are worked out here.

use super::*;
use crate::ledger::Ledger;
use crate::ledger::tests::{at, sample, settings, settled};
use crate::units::{Usage, Usd};

fn question(parts: &[(&str, &str)]) -> Question {
    parts.iter().fold(Question::default(), |question, (name, value)| question.with(name, value, at(0)).expect(name))
}

fn refused(name: &str, value: &str) -> String {
    Question::default().with(name, value, at(0)).expect_err(name).to_string()
}

#[test]
fn sums_by_groups_and_in_all() {
    let (_folder, path) = sample();
    let reader = Reader::open(&path, Some(Duration::from_secs(60))).expect("opened");
    let report = reader.groups(&question(&[("by", "user,model")]), 10).expect("an answer");
    let lines: Vec<String> = report
        .groups
        .iter()
        .map(|group| {
            let Tally { requests, failed, estimated, unknown_cost, open, tokens, cost, .. } = group.tally;
            let names: Vec<&str> = group.values.iter().map(|value| value.as_deref().unwrap_or("-")).collect();
            let input = tokens.input;
            format!("{} {requests} {failed} {estimated} {unknown_cost} {open} {input} {cost}", names.join(" "))
        })
        .collect();
    assert_eq!(
        lines,
        [
            "ann gpt-4o 3 1 1 0 0 300 0.00135",
            "bob - 1 1 0 0 0 0 0",
            "bob =cmd\u{1b}[2J 1 0 0 1 0 100 0",
            "bob gpt-4o 1 0 0 0 1 0 0"
        ]
    );
    let total = report.total;
    assert_eq!((total.requests, total.failed, total.open), (6, 2, 1));
    // Four calls told what they used.
    let used = Usage {
        input: 400,
        cached_input: 160,
        cache_write: 52,
        cache_write_1h: 28,
        input_audio: 124,
        cached_audio: 44,
        input_image: 68,
        output: 80,
        reasoning: 20,
        output_audio: 36,
        output_image: 12,
        audio_ms: 4936,
    };
    assert_eq!(total.tokens, used);
    assert_eq!(total, reader.groups(&question(&[]), 10).expect("an answer").total);
    let few = reader.groups(&question(&[("by", "user,model")]), 1).expect("an answer");
    assert_eq!((few.groups.len(), few.more, few.total), (1, 3, total));
}

#[test]
fn filters_and_spans_leave_calls_out() {
    let (_folder, path) = sample();
    let reader = Reader::open(&path, None).expect("opened");
    let count = |parts: &[(&str, &str)]| reader.groups(&question(parts), 10).expect("an answer").total.requests;
    for (parts, expected) in [
        (&[("user", "ann")][..], 3),
        (&[("user", "ann"), ("user", "bob")], 6),
        (&[("user", "ann"), ("status", "4xx")], 1),
        (&[("status", "403"), ("status", "499")], 2),
        (&[("model", "")], 1),
        (&[("on_behalf_of", "eve, \"x\"")], 1),
        (&[("route", "POST /openai/v1/chat/completions")], 6),
        (&[("state", "estimated")], 1),
        (&[("error", "insufficient_permissions")], 1),
        (&[("key", "key_ann"), ("team", "blue"), ("provider", "openai"), ("service_tier", "default")], 3),
        (&[("answered_model", "gpt-4o-2024-11-20")], 4),
        (&[("user", "x' OR '1' = '1")], 0),
        (&[("since", "2025-11-26")], 1),
        (&[("until", "2025-11-26")], 5),
        (&[("since", "2025-11-25T10:00:10Z"), ("until", "2025-11-25T10:00:20Z")], 1),
    ] {
        assert_eq!(count(parts), expected, "{parts:?}");
    }
}

#[test]
fn times_come_in_their_order() {
    let (_folder, path) = sample();
    let reader = Reader::open(&path, None).expect("opened");
    for (by, expected) in [
        ("month", &["2025-11"][..]),
        ("day", &["2025-11-25", "2025-11-26"]),
        ("hour", &["2025-11-25T10:00Z", "2025-11-26T10:00Z"]),
    ] {
        let report = reader.groups(&question(&[("by", by)]), 10).expect("an answer");
        let named: Vec<_> = report.groups.into_iter().flat_map(|group| group.values).flatten().collect();
        assert_eq!(named, expected);
    }
    for dimension in Dimension::ALL {
        assert!(reader.groups(&question(&[("by", dimension.name())]), 10).is_ok(), "{}", dimension.name());
    }
}

#[test]
fn money_beyond_sqlites_integers_is_summed_exactly() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gateway.db");
    let ledger = Ledger::open(&settings(path.clone()), 7).expect("a thread");
    let most = u128::try_from(i64::MAX).expect("positive");
    for id in 0..5_u64 {
        let mut record = settled(&format!("req_{id}"), "ann", at(id));
        record.spent.cost = Some(Usd::from_picos(most - u128::from(id)));
        record.spent.usage.as_mut().expect("usage").input = u64::MAX;
        ledger.settle(record);
    }
    assert!(ledger.flush(Duration::from_secs(20)));
    let report = Reader::open(&path, None).expect("opened").groups(&question(&[("by", "user")]), 1).expect("an answer");
    assert_eq!(report.total.cost, Usd::from_picos(5 * most - 10));
    assert_eq!(report.json()["total"]["cost_usd"], "46116860.184273879025");
    assert_eq!(report.total.tokens.input, 5 * ((1 << 40) - 1), "nonsense is bounded");
}

#[test]
fn pages_follow_each_other_whatever_comes_in_between() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gateway.db");
    let ledger = Ledger::open(&settings(path.clone()), 7).expect("a thread");
    // Several begin at the same moment.
    (0..25).for_each(|id| ledger.settle(settled(&format!("req_{id:02}"), "ann", at(id / 4))));
    assert!(ledger.flush(Duration::from_secs(20)));
    let reader = Reader::open(&path, None).expect("opened");
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = reader.records(&Question::default(), 10, cursor).expect("a page");
        seen.extend(page.data.iter().map(|call| call["id"].as_str().expect("an id").to_owned()));
        let Some(next) = &page.next else { break };
        cursor = Some(Page::cursor(next).expect("a cursor"));
        ledger.settle(settled(&format!("req_new_{}", seen.len()), "ann", at(100)));
        assert!(ledger.flush(Duration::from_secs(20)));
    }
    let expected: Vec<String> = (0..25).rev().map(|id| format!("req_{id:02}")).collect();
    let mut sorted = seen.clone();
    sorted.sort_by(|one, other| other.cmp(one));
    assert_eq!((seen.len(), sorted), (25, expected));
    assert!(Page::cursor("x").is_err() && Page::cursor("1-2; DROP").is_err());
}

#[test]
fn a_record_is_told_whole() {
    let (_folder, path) = sample();
    let reader = Reader::open(&path, None).expect("opened");
    let page = reader.records(&question(&[("until", "2025-11-26")]), 10, None).expect("a page");
    let states: Vec<&str> = page.data.iter().map(|call| call["state"].as_str().expect("a state")).collect();
    assert_eq!(states, ["intent", "failed", "settled", "estimated", "settled"]);
    let expected = serde_json::json!({
        "id": "req_1", "time": "2025-11-25T10:00:00Z", "state": "settled", "key": "key_ann", "user": "ann", "team": "blue",
        "on_behalf_of": null, "route": "POST /openai/v1/chat/completions", "provider": "openai", "model": "gpt-4o",
        "answered_model": "gpt-4o-2024-11-20", "status": 200, "error": null, "attempts": 1, "unanswered": 0, "tried": null,
        "tokens": { "input": 100, "cached_input": 40, "cache_write": 13, "cache_write_1h": 7, "input_audio": 31,
            "cached_audio": 11, "input_image": 17, "output": 20, "reasoning": 5, "output_audio": 9, "output_image": 3,
            "audio_ms": 1234 },
        "cost_usd": "0.00045", "prices": "2026-11-01", "service_tier": "default", "duration_us": 123_400,
        "upstream_us": 99_600, "first_token_us": 101_000, "overhead_us": 42, "instance": "0000000000000007",
    });
    assert_eq!(page.data[4], expected);
    assert_eq!(page.data[2]["on_behalf_of"], "eve, \"x\"");
    assert_eq!(
        (&page.data[0]["tokens"], &page.data[0]["cost_usd"]),
        (&serde_json::Value::Null, &serde_json::Value::Null)
    );
}

#[test]
fn a_record_is_the_same_where_its_intent_was_a_row_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gateway.db");
    let ledger = Ledger::open(&settings(path.clone()), 7).expect("a thread");
    let told = |id: &str, is_row: bool| {
        let mut record = settled(id, "ann", at(0));
        record.on_behalf_of = Some("eve".to_owned());
        (record.refusal, record.attempts, record.unanswered) = (Some(crate::error::Refusal::ClientGone), 3, 2);
        if is_row {
            // What is known before the call goes upstream is less.
            let model = record.model.replace("asked".to_owned());
            ledger.intent(&record);
            assert!(ledger.flush(Duration::from_secs(20)));
            record.model = model;
        }
        ledger.settle(record);
        assert!(ledger.flush(Duration::from_secs(20)));
        let page = Reader::open(&path, None).expect("opened").records(&Question::default(), 1, None).expect("a page");
        let mut told = page.data[0].clone();
        assert_eq!(told["id"].take(), id);
        told
    };
    let at_once = told("req_1", false);
    assert_eq!(told("req_2", true), at_once);
    assert_eq!((&at_once["attempts"], &at_once["unanswered"]), (&3.into(), &2.into()));
}

#[test]
fn a_question_that_takes_too_long_is_broken_off() {
    let (_folder, path) = sample();
    let reader = Reader::open(&path, Some(Duration::ZERO)).expect("opened");
    let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
    let error: AskError = reader.0.query_row(endless, [], |row| row.get::<_, i64>(0)).expect_err("no end").into();
    assert!(matches!(error, AskError::TooLong), "{error}");
}

#[test]
fn as_many_values_of_a_filter_as_there_may_be() {
    let (_folder, path) = sample();
    let reader = Reader::open(&path, None).expect("opened");
    let names: Vec<String> = (1..99).map(|number| format!("nobody_{number}")).collect();
    let wanted = names.iter().map(String::as_str).chain(["ann", ""]);
    let question = wanted
        .clone()
        .fold(Question::default(), |question, user| question.with("user", user, at(0)).expect("a question"));
    assert_eq!(reader.records(&question, 10, None).expect("a page").data.len(), 3);
    let refused = question.with("user", "bob", at(0)).expect_err("one too many");
    assert_eq!(refused.to_string(), "user: expected at most 100 values");
}

#[test]
fn what_cannot_be_asked_is_told() {
    assert_eq!(
        refused("by", "user,planet"),
        "by: expected some of user, team, key, on_behalf_of, provider, model, answered_model, route, status, state, error, \
         service_tier, month, day, hour"
    );
    assert_eq!(refused("day", "2025-11-25"), "day: expected since and until in its place");
    assert_eq!(refused("status", "good"), "status: expected a status such as 429, or a class such as 4xx");
    assert_eq!(refused("colour", "red"), "colour: expected to be left out: there is no such parameter");
    assert!(refused("since", "yesterday").starts_with("since: expected a span such as 7d"));
}

#[test]
fn a_database_that_is_not_there_or_not_ours_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = |name: &str| Reader::open(&folder.path().join(name), None).expect_err(name).to_string();
    assert!(told("none.db").starts_with("there is no ledger at /"), "{}", told("none.db"));
    fs::write(folder.path().join("empty.db"), "").expect("written");
    assert!(told("empty.db").starts_with("there is no ledger at /"));
    fs::write(folder.path().join("text.db"), "some text ".repeat(999)).expect("written");
    assert!(
        told("text.db").contains("text.db cannot be read: file is not a database (hint: move"),
        "{}",
        told("text.db")
    );
    let newer = Connection::open(folder.path().join("newer.db")).expect("opened");
    newer.execute_batch("CREATE TABLE calls (id INTEGER); PRAGMA user_version = 99;").expect("SQL");
    assert!(
        told("newer.db").contains("made by a later version of ai-gateway (its schema is 99, this one knows up to 4)")
    );
}
