//! Many calls at the same targets: breakers, the retry budget, and what holds whatever happens.
//!
//! Never does: look inside a plan.

use proptest::prelude::*;

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A call whose every attempt is answered with this status; the targets that it tried.
fn call(game: &mut Game, status: u16) -> Vec<usize> {
    game.again();
    let mut tried = Vec::new();
    loop {
        match game.next() {
            Step::Try(attempt) => tried.push(attempt.target),
            Step::Wait(wait) => {
                game.now += wait;
                continue;
            }
            Step::End(_) => return tried,
        }
        if status == 200 {
            game.judge(Outcome::Committed);
            game.judge(Outcome::Completed);
        } else {
            game.answers(status);
        }
    }
}

#[test]
fn a_target_that_fails_is_left_alone_and_back_within_the_half_open_time() {
    let mut game = Game::of(ordered(&["a", "b"]));
    let mut attempts = 0;
    for _ in 0..20 {
        game.again();
        let (mut target, _) = game.tries();
        while target == 0 {
            attempts += 1;
            game.fails(RESET);
            target = game.tries().0;
        }
        game.judge(Outcome::Committed);
        game.judge(Outcome::Completed);
    }
    assert_eq!(attempts, 5, "as many as open the breaker");
    game.now += seconds(5);
    assert_eq!(call(&mut game, 200), [0], "well again");
    assert_eq!(call(&mut game, 200), [0]);
}

#[test]
fn a_probe_of_a_client_that_left_makes_room_for_the_next() {
    let mut game = Game::of(ordered(&["a", "b"]));
    for _ in 0..3 {
        call(&mut game, 500);
    }
    game.now += seconds(5);
    game.again();
    assert_eq!(game.tries(), (0, 0));
    let mut other = Plan::new(Arc::clone(&game.routing), &Attempts::default(), 0, game.now);
    assert!(!matches!(other.next(game.now, 0), Step::Try(Try { target: 0, .. })), "one probe at a time");
    game.again();
    assert_eq!(game.tries(), (0, 0), "the plan that was dropped has left");
}

#[test]
fn a_target_that_cuts_each_answer_is_left_alone() {
    let mut game = Game::of(ordered(&["a", "b"]));
    for _ in 0..5 {
        game.again();
        assert_eq!(game.tries(), (0, 0));
        game.judge(Outcome::Committed);
        game.judge(Outcome::Broke);
        assert!(matches!(game.next(), Step::End(_)), "nothing follows a commit");
    }
    assert_eq!(call(&mut game, 200), [1]);
}

#[test]
fn when_all_rest_the_client_is_told_when_to_come_back() {
    let mut game = Game::of(ordered(&["a", "b"]));
    game.tries();
    game.limited(429, 30_000);
    game.tries();
    game.limited(429, 20_000);
    game.again();
    assert_eq!(game.refuses(), Refusal::NoHealthyUpstream(seconds(20)));
    assert_eq!(game.plan.attempts(), 0);
    let mut game = Game::of(ordered(&["a", "b"]));
    game.tries();
    game.limited(429, 30_000);
    for _ in 0..5 {
        game.again();
        game.tries();
        game.fails(SILENT);
        game.ends();
    }
    game.again();
    assert_eq!(game.refuses(), Refusal::NoHealthyUpstream(seconds(5)), "one is at its limit, the other one failed");
}

#[test]
fn a_rest_that_is_soon_over_is_waited_for() {
    let mut game = Game::of(ordered(&["a"]));
    game.tries();
    game.limited(429, 30_000);
    game.now += Duration::from_millis(28_500);
    game.again();
    assert_eq!(game.waits(), Duration::from_millis(1500));
    game.now += Duration::from_millis(1500);
    assert_eq!(game.tries(), (0, 0));
}

#[test]
fn a_rest_that_begins_anew_is_not_waited_for_again() {
    let mut game = Game::of(ordered(&["a"]));
    let limit = Outcome::Answered(Answer { status: 429, reset: Some(seconds(1)), ..Answer::default() });
    let mut other = Plan::new(Arc::clone(&game.routing), &Attempts::default(), 0, game.now);
    assert!(matches!(other.next(game.now, 0), Step::Try(_)));
    other.judge(limit.clone(), game.now);
    assert_eq!(game.waits(), seconds(1));
    game.now += seconds(1);
    assert!(matches!(other.next(game.now, 0), Step::Try(_)));
    other.judge(limit, game.now);
    assert_eq!(game.refuses(), Refusal::NoHealthyUpstream(seconds(1)));
}

#[test]
fn one_models_limit_does_not_shut_out_those_that_nobody_named() {
    let mut only = target("a", 1);
    only.model = None;
    let mut game = Game::of(vec![only]);
    game.tries();
    game.limited(429, 30_000);
    assert_eq!(game.ends(), End::PassOn);
    game.again();
    assert_eq!(game.tries(), (0, 0), "it may be for another model");
    let mut two = target("a", 2);
    two.model = None;
    let mut game = Game::of(vec![two]);
    let (_, key) = game.tries();
    game.limited(429, 30_000);
    for random in [0, u64::MAX / 3, u64::MAX] {
        game.random = random;
        game.again();
        assert_eq!(game.tries(), (0, 1 - key), "a key that does not rest goes first");
    }
}

#[test]
fn retries_stay_within_their_budget() {
    // A breaker that never opens, so that only the budget is in the way.
    let cooldown = Cooldown { consecutive_failures: u32::MAX, ..Cooldown::default() };
    let mut game = Game::with(ordered(&["a"]), &Attempts { cooldown, backoff: Duration::ZERO, ..Attempts::default() });
    let attempts: usize = (0..1000).map(|_| call(&mut game, 500).len()).sum();
    assert_eq!(attempts, 1000 + 200 + 5);
}

#[test]
fn targets_of_one_rank_are_taken_as_their_weights_say() {
    let mut targets = vec![target("a", 1), target("b", 1)];
    targets[0].weight = 3;
    let mut game = Game::of(targets);
    let mut counts = [0; 2];
    for step in 0..16 {
        game.random = step << 60;
        counts[call(&mut game, 200)[0]] += 1;
    }
    assert_eq!(counts, [12, 4]);
}

#[test]
fn what_rests_is_made_up_for_by_all_others_alike() {
    let mut game = Game::of(vec![target("a", 1), target("b", 1), target("c", 1)]);
    game.random = 0;
    assert_eq!(game.tries(), (0, 0));
    game.limited(429, 600_000);
    let mut counts = [0_u32; 3];
    for step in 0..3000 {
        game.random = another(step);
        counts[call(&mut game, 200)[0]] += 1;
    }
    assert!(counts[0] == 0 && counts[1].abs_diff(1500) < 120, "{counts:?}");
}

#[test]
fn a_plan_is_small() {
    // It lives in each call's future.
    assert!(size_of::<Plan>() <= 320, "{} bytes", size_of::<Plan>());
}

#[test]
fn looking_up_models_says_nothing_of_generating() {
    let looked_up = |game: &mut Game, outcome: Outcome| {
        game.looks_up();
        game.tries();
        game.judge(outcome);
    };
    let answered = |status| Outcome::Answered(Answer { status, ..Answer::default() });
    let mut game = Game::of(vec![target("a", 1)]);
    for outcome in [answered(403), answered(500), Outcome::Failed(SILENT), Outcome::Broke] {
        (0..10).for_each(|_| looked_up(&mut game, outcome.clone()));
        game.again();
        assert_eq!(game.tries(), (0, 0), "{outcome:?}");
    }
    for status in [403, 500] {
        let mut game = Game::of(vec![target("a", 1)]);
        for _ in 0..5 {
            for outcome in [answered(404), Outcome::Completed, Outcome::Committed] {
                looked_up(&mut game, outcome);
            }
            game.again();
            assert_eq!(game.tries(), (0, 0), "{status}");
            game.answers(status);
        }
        game.again();
        assert!(
            matches!(game.refuses(), Refusal::NoHealthyUpstream(_)),
            "{status}: five in a row, whatever was looked up"
        );
    }
    for status in [401, 429] {
        let mut game = Game::of(vec![target("a", 2)]);
        game.looks_up();
        let (_, bad) = game.tries();
        game.limited(status, 60_000);
        game.again();
        assert_eq!(game.tries(), (0, 1 - bad), "{status} rests the key");
    }
}

/// Anything that an exchange may say, and how long that took.
fn outcome() -> impl Strategy<Value = (Outcome, u64)> {
    let class = prop::sample::select(vec![
        Class::Plain,
        Class::ContextLength,
        Class::ContentFilter,
        Class::Quota,
        Class::SaysQuota,
        Class::ClientsAccount,
    ]);
    let status = prop::sample::select(vec![400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 429, 500, 503, 529]);
    let reset = prop::option::of((0_u64..5000).prop_map(Duration::from_millis));
    let plain = || Just(Class::Plain);
    let outcome = prop_oneof![
        3 => prop::sample::select(vec![RESET, SILENT, Refusal::Upstream(UpstreamFault::Connect)]).prop_map(Outcome::Failed),
        6 => (status, prop_oneof![4 => plain().boxed(), 1 => class.clone().boxed()], reset)
            .prop_map(|(status, class, reset)| Outcome::Answered(Answer { status, class, reset })),
        1 => class.prop_map(Outcome::StreamFailed),
        1 => Just(Outcome::StreamEmpty),
        1 => Just(Outcome::Committed),
    ];
    (outcome, 0_u64..20_000)
}

fn targets() -> impl Strategy<Value = Vec<Deployment>> {
    let one = (1_usize..4, 1_u32..4, 0_u16..3, any::<bool>(), any::<bool>());
    prop::collection::vec(one, 1..5).prop_map(|all| {
        let deployment = |(index, (keys, weight, rank, larger_context, named)): (usize, _)| {
            let target = target(&format!("p{index}"), keys);
            let model = if named { target.model.clone() } else { None };
            Deployment { weight, rank, larger_context, model, ..target }
        };
        all.into_iter().enumerate().map(deployment).collect()
    })
}

proptest! {
    #[test]
    fn every_plan_ends_and_keeps_its_bounds(
        targets in targets(),
        calls in prop::collection::vec(prop::collection::vec((outcome(), any::<u64>()), 40), 1..6),
        max_attempts in 1_u8..5,
    ) {
        let settings = Attempts { max_attempts, ..Attempts::default() };
        let mut game = Game::with(targets, &settings);
        for outcomes in calls {
            game.again();
            let deadline = game.plan.deadline();
            let mut tried = vec![0_u8; game.routing.targets().len()];
            let (mut kept, mut left, mut waited, mut committed) = (false, Vec::new(), 0, false);
            let mut outcomes = outcomes.into_iter().cycle();
            loop {
                let ((outcome, took), random) = outcomes.next().expect("a cycle");
                match game.plan.next(game.now, random) {
                    Step::Try(Try { target, key, number, .. }) => {
                        prop_assert!(game.now < deadline, "it begins past the deadline");
                        prop_assert!(!committed, "something follows the commit");
                        prop_assert!(key < game.routing.targets()[target].provider.keys.keys().len());
                        prop_assert!(!left.contains(&target), "it came back to {target}");
                        tried[target] += 1;
                        prop_assert!(tried[target] <= max_attempts);
                        prop_assert_eq!(number, tried.iter().map(|count| u32::from(*count)).sum::<u32>());
                        left.extend((0..tried.len()).filter(|other| *other != target && tried[*other] > 0));
                        game.now += Duration::from_millis(took);
                        committed = outcome == Outcome::Committed;
                        kept |= game.plan.judge(outcome, game.now);
                        waited = 0;
                    }
                    Step::Wait(wait) => {
                        waited += 1;
                        prop_assert!(waited <= 2, "it waits and waits");
                        prop_assert!(wait <= settings.max_wait.max(settings.max_backoff) && game.now + wait < deadline);
                        game.now += wait;
                    }
                    Step::End(end) => {
                        prop_assert!(kept || committed || end != End::PassOn, "there is nothing to pass on");
                        break;
                    }
                }
            }
        }
        game.plan = Plan::new(Arc::clone(&game.routing), &settings, 0, game.now);
        game.now += seconds(601);
        prop_assert!(matches!(game.plan.next(game.now, 0), Step::Try(_)), "somebody rests for ever");
    }
}

#[test]
fn a_view_tells_what_rests() {
    let mut table = super::super::super::ModelTable::new(&[], false);
    table.add("m", Routing::new(vec![target("a", 2)]).expect("a target"));
    let now = Instant::now();
    let mut plan = Plan::new(Arc::clone(table.find("m").expect("listed")), &Attempts::default(), 0, now);
    let Step::Try(attempt) = plan.next(now, 0) else { panic!("no attempt") };
    plan.judge(Outcome::Answered(Answer { status: 429, reset: Some(seconds(9)), ..Answer::default() }), now);
    let [view] = &Health::view(&table, now + seconds(1))[..] else { panic!("one target") };
    let key = view.keys[attempt.key].breaker;
    assert_eq!((view.breaker.state, key.state, key.until), ("closed", "open", Some(seconds(8))));
    assert_eq!(view.keys[1 - attempt.key].breaker.state, "closed");
}
