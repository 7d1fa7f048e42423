//! The rules for one call, one by one.
//!
//! Never does: look inside a plan.

use super::*;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_failure_in_passing_is_retried_once_at_the_same_target() {
    for refusal in [
        Refusal::Upstream(UpstreamFault::Connect),
        Refusal::UpstreamTimeout(Silence::Connect),
        RESET,
        Refusal::Upstream(UpstreamFault::BadAnswer),
    ] {
        let mut game = Game::of(ordered(&["a", "b"]));
        let targets: Vec<usize> = (0..4)
            .map(|_| {
                let (target, _) = game.tries();
                game.fails(refusal.clone());
                target
            })
            .collect();
        assert_eq!(targets, [0, 0, 1, 1]);
        assert_eq!(game.refuses(), refusal);
    }
}

#[test]
fn of_the_statuses_408_409_and_5xx_are_retried_once() {
    for status in [408, 409, 500, 502, 503, 529, 599] {
        let mut game = Game::of(ordered(&["a", "b"]));
        assert_eq!(game.tries(), (0, 0));
        assert!(game.answers(status));
        assert_eq!(game.tries(), (0, 0), "{status}");
        assert!(game.answers(status));
        assert_eq!(game.tries(), (1, 0));
    }
}

#[test]
fn what_is_wrong_with_the_request_is_never_retried_and_passes_on() {
    for status in [304, 400, 404, 405, 413, 422] {
        let mut game = Game::of(ordered(&["a", "b"]));
        game.tries();
        assert!(game.answers(status));
        assert_eq!(game.ends(), End::PassOn, "{status}");
    }
}

#[test]
fn a_400_that_says_that_our_account_is_spent_goes_on_and_rests_the_key() {
    let mut game = Game::of(ordered(&["a", "b"]));
    game.tries();
    assert!(game.answers_as(400, Class::Quota));
    assert_eq!(game.tries(), (1, 0), "at once, and never at the same target");
    game.judge(Outcome::Committed);
    game.again();
    assert_eq!(game.tries(), (1, 0), "the key rests");
}

#[test]
fn what_a_client_may_have_written_goes_on_and_rests_nothing() {
    let mut game = Game::of(ordered(&["a", "b"]));
    for outcome in [
        Outcome::Answered(Answer { status: 400, class: Class::SaysQuota, reset: None }),
        Outcome::StreamFailed(Class::SaysQuota),
    ] {
        for _ in 0..10 {
            assert_eq!(game.tries(), (0, 0), "{outcome:?}");
            assert!(game.judge(outcome.clone()));
            assert_eq!(game.tries(), (1, 0), "{outcome:?}");
            assert!(game.judge(outcome.clone()));
            assert_eq!(game.ends(), End::PassOn);
            game.again();
        }
    }
    let mut game = Game::of(ordered(&["a", "b"]));
    game.tries();
    game.answers_as(429, Class::ContextLength);
    game.again();
    assert_eq!(game.tries(), (1, 0), "a status is believed before a text");
}

#[test]
fn a_silent_target_is_not_retried() {
    for refusal in [SILENT, Refusal::UpstreamTimeout(Silence::FirstToken), Refusal::UpstreamTimeout(Silence::Idle)] {
        let mut game = Game::of(ordered(&["a", "b"]));
        game.tries();
        game.fails(refusal.clone());
        assert!(matches!(game.next(), Step::Try(Try { target: 1, .. })), "at once");
        game.fails(refusal.clone());
        assert_eq!(game.refuses(), refusal);
    }
}

#[test]
fn a_429_is_waited_for_where_it_is_short() {
    let mut game = Game::of(ordered(&["a", "b"]));
    game.tries();
    assert!(game.limited(429, 1500));
    assert_eq!(game.waits(), millis(1500));
    game.now += millis(1500);
    assert_eq!(game.tries(), (0, 0));
    assert!(game.limited(429, 2000));
    assert_eq!(game.waits(), millis(2000));
    game.now += millis(2000);
    assert_eq!(game.tries(), (0, 0));
    assert!(game.limited(429, 100), "the third of three attempts");
    assert_eq!(game.tries(), (1, 0));
}

#[test]
fn a_429_that_is_long_or_says_nothing_leads_to_the_next_target() {
    for reset in [Some(millis(2001)), None] {
        let mut game = Game::of(ordered(&["a", "b"]));
        game.tries();
        game.judge(Outcome::Answered(Answer { status: 429, reset, ..Answer::default() }));
        assert!(matches!(game.next(), Step::Try(Try { target: 1, .. })), "{reset:?}");
        game.limited(429, 60_000);
        assert_eq!(game.ends(), End::PassOn);
    }
}

#[test]
fn a_persistent_429_is_no_hammering() {
    let mut game = Game::of(ordered(&["a"]));
    let start = game.now;
    for _ in 0..3 {
        game.tries();
        game.limited(429, 1000);
    }
    assert_eq!(game.ends(), End::PassOn);
    assert_eq!(game.now - start, millis(2000));
}

#[test]
fn another_key_takes_over_at_once() {
    for status in [401, 402, 403, 429] {
        let mut game = Game::of(vec![target("a", 2)]);
        let (_, first) = game.tries();
        game.limited(status, 60_000);
        let Step::Try(attempt) = game.next() else { panic!("{status}: no attempt") };
        assert_eq!((attempt.target, attempt.key), (0, 1 - first), "{status}");
    }
}

#[test]
fn a_key_that_was_refused_rests_for_later_calls() {
    let mut game = Game::of(vec![target("a", 2)]);
    let (_, bad) = game.tries();
    game.answers(401);
    assert_eq!(game.tries(), (0, 1 - bad));
    game.judge(Outcome::Committed);
    for random in [0, u64::MAX / 2, u64::MAX] {
        game.random = random;
        game.again();
        assert_eq!(game.tries(), (0, 1 - bad));
    }
}

#[test]
fn a_401_of_all_keys_is_ours_to_mend() {
    let mut game = Game::of(vec![target("a", 2)]);
    for _ in 0..2 {
        game.tries();
        assert!(!game.answers(401), "what the provider says of our key is nobody's business");
    }
    assert_eq!(game.refuses(), Refusal::UpstreamAuth);
    game.again();
    assert_eq!(game.refuses(), Refusal::UpstreamAuth, "without asking again");
}

#[test]
fn a_403_rests_a_key_only_after_several() {
    let mut game = Game::of(vec![target("a", 1)]);
    for _ in 0..5 {
        assert_eq!(game.tries(), (0, 0));
        assert!(!game.answers(403));
        assert_eq!(game.refuses(), Refusal::UpstreamAuth);
        game.again();
    }
    assert!(matches!(game.refuses(), Refusal::NoHealthyUpstream(_)));
}

#[test]
fn a_401_for_an_organisation_of_the_clients_rests_nothing() {
    let mut game = Game::of(ordered(&["a", "b"]));
    game.tries();
    assert!(!game.answers_as(401, Class::ClientsAccount));
    assert_eq!(game.refuses(), Refusal::UpstreamAuth);
    game.again();
    assert_eq!(game.tries(), (0, 0));
}

#[test]
fn a_request_that_is_too_long_goes_only_to_what_is_larger() {
    let mut targets = ordered(&["a", "b", "c"]);
    targets[2].larger_context = true;
    let mut game = Game::of(targets);
    game.tries();
    assert!(game.answers_as(400, Class::ContextLength));
    assert_eq!(game.tries(), (2, 0));
    assert!(!game.answers(500), "what the first one said tells the client more");
    game.tries();
    assert!(!game.answers(500));
    assert_eq!(game.ends(), End::PassOn);
    let mut game = Game::of(ordered(&["a", "b"]));
    game.tries();
    assert!(game.answers_as(400, Class::ContextLength));
    assert_eq!(game.ends(), End::PassOn, "nobody is larger");
}

#[test]
fn a_content_filters_verdict_is_not_shopped_around() {
    for status in [400, 403] {
        let mut game = Game::of(ordered(&["a", "b"]));
        game.tries();
        assert!(game.answers_as(status, Class::ContentFilter));
        assert_eq!(game.ends(), End::PassOn);
    }
    let mut game = Game::of(ordered(&["a", "b"]));
    game.tries();
    assert!(game.judge(Outcome::StreamFailed(Class::ContentFilter)));
    assert_eq!(game.ends(), End::PassOn);
}

#[test]
fn a_stream_that_fails_before_its_content_moves_on() {
    let mut game = Game::of(ordered(&["a", "b", "c"]));
    game.tries();
    assert!(game.plan.can_move_on(game.now));
    assert!(game.judge(Outcome::StreamFailed(Class::Plain)));
    assert_eq!(game.tries(), (1, 0));
    assert!(!game.judge(Outcome::StreamEmpty));
    assert_eq!(game.tries(), (2, 0));
    assert!(!game.plan.can_move_on(game.now), "so that the last one is not held back");
    game.fails(SILENT);
    assert_eq!(game.ends(), End::PassOn, "an error of the provider's is better than none");
}

#[test]
fn the_most_useful_answer_is_passed_on() {
    let mut game = Game::of(ordered(&["a", "b"]));
    game.tries();
    assert!(game.answers(500));
    game.tries();
    game.fails(RESET);
    game.tries();
    assert!(game.limited(429, 9000), "the last one with a status");
    assert_eq!(game.ends(), End::PassOn);
    let mut game = Game::of(ordered(&["a", "b"]));
    game.tries();
    game.answers(401);
    game.tries();
    game.fails(SILENT);
    assert_eq!(game.refuses(), SILENT);
    for (resets, kept) in [([9000, 5000], [true, true]), ([5000, 9000], [true, false])] {
        let mut game = Game::of(vec![target("a", 2)]);
        for (reset, is_kept) in resets.into_iter().zip(kept) {
            game.tries();
            assert_eq!(game.limited(429, reset), is_kept, "the one that tells the time of the first key that is free");
        }
        assert_eq!(game.ends(), End::PassOn);
    }
}

#[test]
fn waits_have_full_jitter_and_grow_up_to_a_cap() {
    let wait = |random, before: u64| {
        let mut game = Game::of(vec![target("a", 1)]);
        for _ in 0..before {
            game.tries();
            game.limited(429, 0);
        }
        game.tries();
        game.fails(RESET);
        game.random = random;
        match game.next() {
            Step::Wait(wait) => wait,
            _ => Duration::ZERO,
        }
    };
    assert_eq!(wait(0, 0), Duration::ZERO);
    assert_eq!(wait(u64::MAX / 2, 0), millis(125));
    assert_eq!(wait(u64::MAX, 0), millis(250));
    assert_eq!(wait(u64::MAX, 1), millis(500));
    let mut game = Game::with(vec![target("a", 1)], &Attempts { max_backoff: millis(100), ..Attempts::default() });
    game.tries();
    game.fails(RESET);
    game.random = u64::MAX;
    assert_eq!(game.waits(), millis(100));
}

#[test]
fn a_short_retry_after_takes_the_place_of_the_jitter_and_a_long_one_ends_the_retries() {
    let mut game = Game::of(ordered(&["a", "b"]));
    game.tries();
    game.limited(503, 1200);
    assert_eq!(game.waits(), millis(1200));
    let mut game = Game::of(ordered(&["a", "b"]));
    game.tries();
    game.limited(503, 30_000);
    assert!(matches!(game.next(), Step::Try(Try { target: 1, .. })));
}

#[test]
fn nothing_begins_past_the_deadline() {
    let mut game = Game::of(ordered(&["a", "b"]));
    let deadline = game.plan.deadline();
    assert_eq!(deadline - game.now, millis(900_000));
    game.tries();
    game.now = deadline - millis(10);
    game.random = u64::MAX;
    game.fails(RESET);
    assert!(matches!(game.next(), Step::Try(Try { target: 1, .. })), "the wait would be too long");
    game.now = deadline;
    game.fails(Refusal::UpstreamTimeout(Silence::Total));
    assert_eq!(game.refuses(), Refusal::UpstreamTimeout(Silence::Total));
}

#[test]
fn a_client_that_left_ends_the_plan() {
    let mut game = Game::of(ordered(&["a", "b"]));
    game.tries();
    game.fails(Refusal::ClientGone);
    assert_eq!(game.refuses(), Refusal::ClientGone);
}

#[test]
fn an_attempt_nobody_reports_is_given_up() {
    let mut game = Game::of(ordered(&["a", "b"]));
    assert_eq!(game.tries(), (0, 0));
    assert_eq!(game.tries(), (1, 0));
    assert!(matches!(game.ends(), End::Refuse(_)));
}

#[test]
fn targets_that_do_not_serve_the_route_are_left_out() {
    let routing = Arc::new(Routing::new(ordered(&["a", "b"])).expect("targets"));
    let now = Instant::now();
    let mut plan = Plan::new(Arc::clone(&routing), &Attempts::default(), 0b01, now);
    assert!(matches!(plan.next(now, 0), Step::Try(Try { target: 1, number: 1, .. })));
    let mut plan = Plan::new(routing, &Attempts::default(), 0b11, now);
    assert_eq!(plan.next(now, 0), Step::End(End::Refuse(Refusal::UnknownModel)));
}

#[test]
fn the_body_is_needed_until_no_attempt_can_follow() {
    let mut game = Game::with(ordered(&["a", "b"]), &Attempts { max_attempts: 1, ..Attempts::default() });
    game.tries();
    assert!(!game.plan.is_last(game.now));
    game.answers(500);
    assert_eq!(game.tries(), (1, 0), "no retry is left");
    assert!(game.plan.is_last(game.now));
    let mut game = Game::of(ordered(&["a"]));
    game.tries();
    assert!(!game.plan.is_last(game.now));
}
