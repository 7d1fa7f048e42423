//! Facts about breakers, with hand-set time.
//!
//! Never does: sleep.

use proptest::prelude::*;

use super::*;

const COOLDOWN: Cooldown =
    Cooldown { consecutive_failures: 3, first: Duration::from_secs(5), longest: Duration::from_secs(60) };

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A breaker that has just opened after failures.
fn opened(now: Instant) -> Breaker {
    let breaker = Breaker::default();
    for _ in 0..3 {
        let ticket = breaker.enter(now, &COOLDOWN).expect("closed");
        breaker.failed(ticket, now, &COOLDOWN);
    }
    breaker
}

fn until(breaker: &Breaker, now: Instant) -> Option<Duration> {
    breaker.is_open_to(now).err().map(|rest| rest.until - now)
}

#[test]
fn opens_after_failures_in_a_row() {
    let (breaker, now) = (Breaker::default(), Instant::now());
    for _ in 0..2 {
        breaker.failed(Ticket::default(), now, &COOLDOWN);
    }
    assert_eq!(until(&breaker, now), None);
    breaker.succeeded(Ticket::default(), now);
    for _ in 0..2 {
        breaker.failed(Ticket::default(), now, &COOLDOWN);
    }
    assert_eq!(until(&breaker, now), None, "a success forgets the failures before it");
    breaker.failed(Ticket::default(), now, &COOLDOWN);
    assert_eq!(until(&breaker, now), Some(seconds(5)));
    assert_eq!(breaker.enter(now, &COOLDOWN), Err(Rest { until: now + seconds(5), cause: Cause::Failures }));
}

#[test]
fn half_open_lets_one_probe_through_at_a_time() {
    let now = Instant::now();
    let breaker = opened(now);
    let now = now + seconds(5);
    let probe = breaker.enter(now, &COOLDOWN).expect("its time is over");
    assert!(breaker.enter(now, &COOLDOWN).is_err());
    assert!(breaker.is_open_to(now).is_err());
    breaker.succeeded(probe, now);
    assert_eq!(breaker.enter(now, &COOLDOWN), Ok(Ticket::default()));
    assert_eq!(breaker.view(now).state, "closed");
}

#[test]
fn a_failed_probe_opens_for_twice_as_long_up_to_a_cap() {
    let mut now = Instant::now();
    let breaker = opened(now);
    for rest in [5, 10, 20, 40, 60, 60] {
        assert_eq!(until(&breaker, now), Some(seconds(rest)));
        now += seconds(rest);
        let probe = breaker.enter(now, &COOLDOWN).expect("its time is over");
        breaker.failed(probe, now, &COOLDOWN);
    }
    now += seconds(60);
    let probe = breaker.enter(now, &COOLDOWN).expect("its time is over");
    breaker.succeeded(probe, now);
    for _ in 0..3 {
        breaker.failed(Ticket::default(), now, &COOLDOWN);
    }
    assert_eq!(until(&breaker, now), Some(seconds(5)), "a success begins anew");
}

#[test]
fn a_probe_that_never_reports_back_blocks_for_its_lease_only() {
    let now = Instant::now();
    let breaker = opened(now);
    let now = now + seconds(5);
    let lost = breaker.enter(now, &COOLDOWN).expect("its time is over");
    assert!(breaker.enter(now + seconds(4), &COOLDOWN).is_err());
    let now = now + seconds(5);
    let second = breaker.enter(now, &COOLDOWN).expect("the lease is over");
    breaker.succeeded(lost, now);
    assert!(breaker.enter(now, &COOLDOWN).is_err(), "the lost one has no say any more");
    breaker.succeeded(second, now);
    assert!(breaker.enter(now, &COOLDOWN).is_ok());
}

#[test]
fn a_client_that_leaves_is_neither_failure_nor_success() {
    let now = Instant::now();
    let breaker = opened(now);
    let now = now + seconds(5);
    let probe = breaker.enter(now, &COOLDOWN).expect("its time is over");
    breaker.left(probe);
    let next = breaker.enter(now, &COOLDOWN).expect("there is room for another probe at once");
    breaker.left(probe);
    assert!(breaker.enter(now, &COOLDOWN).is_err(), "the first one has no say any more");
    breaker.failed(next, now, &COOLDOWN);
    assert_eq!(until(&breaker, now), Some(seconds(10)));
    let closed = Breaker::default();
    closed.failed(Ticket::default(), now, &COOLDOWN);
    closed.left(Ticket::default());
    assert_eq!(closed.view(now).failures, 1);
}

#[test]
fn a_rate_limit_rests_for_the_providers_own_time_and_then_all_may_go() {
    let (breaker, now) = (Breaker::default(), Instant::now());
    breaker.rest(Cause::RateLimit, Some(seconds(7)), now, &COOLDOWN);
    assert_eq!(until(&breaker, now), Some(seconds(7)));
    assert!(breaker.enter(now + Duration::from_millis(6999), &COOLDOWN).is_err());
    let now = now + seconds(7);
    assert_eq!(breaker.view(now).state, "closed");
    for _ in 0..3 {
        assert_eq!(breaker.enter(now, &COOLDOWN), Ok(Ticket::default()));
    }
}

#[test]
fn without_a_time_of_the_providers_the_rest_grows() {
    let (breaker, mut now) = (Breaker::default(), Instant::now());
    for rest in [5, 10, 20] {
        breaker.rest(Cause::RateLimit, None, now, &COOLDOWN);
        assert_eq!(until(&breaker, now), Some(seconds(rest)));
        now += seconds(rest);
        let _ = breaker.enter(now, &COOLDOWN).expect("over");
    }
    breaker.rest(Cause::RateLimit, Some(seconds(90_000)), now, &COOLDOWN);
    assert_eq!(until(&breaker, now), Some(MOST), "nobody is forgotten for a day");
}

#[test]
fn calls_that_were_under_way_together_do_not_add_up() {
    let now = Instant::now();
    let breaker = opened(now);
    for _ in 0..10 {
        breaker.failed(Ticket::default(), now, &COOLDOWN);
        breaker.rest(Cause::RateLimit, Some(seconds(2)), now, &COOLDOWN);
    }
    assert_eq!(until(&breaker, now), Some(seconds(5)));
    breaker.succeeded(Ticket::default(), now);
    assert_eq!(until(&breaker, now), Some(seconds(5)), "a call from before it opened does not close it");
    breaker.rest(Cause::Refused, Some(seconds(30)), now, &COOLDOWN);
    assert_eq!(until(&breaker, now), Some(seconds(30)), "the longer one counts");
}

#[test]
fn a_refused_key_is_tried_by_one_call() {
    let (breaker, now) = (Breaker::default(), Instant::now());
    breaker.rest(Cause::Refused, None, now, &COOLDOWN);
    let now = now + seconds(5);
    let probe = breaker.enter(now, &COOLDOWN).expect("over");
    assert_eq!(breaker.enter(now, &COOLDOWN).map_err(|rest| rest.cause), Err(Cause::Refused));
    breaker.rest(Cause::Refused, None, now, &COOLDOWN);
    assert_eq!(until(&breaker, now), Some(seconds(10)));
    breaker.succeeded(probe, now);
    assert_eq!(until(&breaker, now), Some(seconds(10)));
}

#[test]
fn shows_its_state_since_when_and_until_when() {
    let start = Instant::now();
    let breaker = Breaker::default();
    let fresh = View { state: "closed", cause: None, since: None, until: None, failures: 0 };
    assert_eq!(breaker.view(start), fresh);
    let breaker = opened(start);
    let view = breaker.view(start + seconds(2));
    let cause = Some(Cause::Failures);
    assert_eq!(view, View { state: "open", cause, since: Some(seconds(2)), until: Some(seconds(3)), failures: 3 });
    let view = breaker.view(start + seconds(6));
    assert_eq!(view, View { state: "half_open", cause, since: Some(seconds(6)), until: None, failures: 3 });
    let probe = breaker.enter(start + seconds(6), &COOLDOWN).expect("over");
    assert_eq!(breaker.view(start + seconds(7)).until, Some(seconds(4)));
    breaker.succeeded(probe, start + seconds(8));
    assert_eq!(breaker.view(start + seconds(9)), View { since: Some(seconds(1)), ..fresh });
}

/// What can happen to a breaker: an entry, a report of the n-th call that is under way, time.
#[derive(Clone, Debug)]
enum Event {
    Enter,
    Succeed(prop::sample::Index),
    Fail(prop::sample::Index),
    Leave(prop::sample::Index),
    Limit(u64),
    Pass(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let index = any::<prop::sample::Index>;
    let event = prop_oneof![
        4 => Just(Event::Enter),
        1 => index().prop_map(Event::Succeed),
        3 => index().prop_map(Event::Fail),
        1 => index().prop_map(Event::Leave),
        1 => (0_u64..20).prop_map(Event::Limit),
        3 => (0_u64..8).prop_map(Event::Pass),
    ];
    prop::collection::vec(event, 1..120)
}

proptest! {
    /// The model: nobody enters while it rests, and after failures no second probe within the lease of one under way.
    #[test]
    fn nobody_enters_before_their_time(events in events()) {
        let breaker = Breaker::default();
        let mut now = Instant::now();
        let mut under_way: Vec<Ticket> = Vec::new();
        let mut probe: Option<(Ticket, Instant)> = None;
        for event in events {
            let rest = breaker.is_open_to(now).err();
            let take = |under_way: &mut Vec<Ticket>, index: prop::sample::Index| {
                (!under_way.is_empty()).then(|| under_way.swap_remove(index.index(under_way.len())))
            };
            match event {
                Event::Enter => match breaker.enter(now, &COOLDOWN) {
                    Ok(ticket) => {
                        prop_assert_eq!(rest, None);
                        if ticket.probe.is_some() {
                            prop_assert!(probe.is_none_or(|(_, lease)| lease <= now), "two probes at once");
                            probe = Some((ticket, now + COOLDOWN.first));
                        }
                        under_way.push(ticket);
                    }
                    Err(told) => {
                        prop_assert_eq!(Some(told), rest);
                        prop_assert!(told.until > now && told.until <= now + seconds(60));
                    }
                },
                Event::Succeed(index) | Event::Fail(index) | Event::Leave(index) => {
                    let Some(ticket) = take(&mut under_way, index) else { continue };
                    let was_probe = probe.is_some_and(|(probe, _)| probe == ticket);
                    match event {
                        Event::Succeed(_) => breaker.succeeded(ticket, now),
                        Event::Fail(_) => breaker.failed(ticket, now, &COOLDOWN),
                        _ => breaker.left(ticket),
                    }
                    if was_probe {
                        probe = None;
                        let is_open = breaker.is_open_to(now).is_ok();
                        prop_assert!(matches!(event, Event::Fail(_)) || is_open || rest.is_some());
                    }
                }
                Event::Limit(span) => {
                    breaker.rest(Cause::RateLimit, Some(seconds(span)), now, &COOLDOWN);
                    prop_assert!(breaker.is_open_to(now).is_err());
                    // It rests anew, whatever the probe says.
                    probe = None;
                }
                Event::Pass(span) => now += seconds(span),
            }
        }
        now += seconds(601);
        prop_assert!(breaker.is_open_to(now).is_ok(), "it stays closed off for ever");
    }
}
