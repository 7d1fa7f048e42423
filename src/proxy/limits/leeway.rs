//! What clients are told of limits in headers.
//!
//! Invariant: names and forms are OpenAI's own, so that its SDKs understand them.
//! Never does: decide anything.

use std::time::Duration;

use http::header::Entry;
use http::{HeaderMap, HeaderName};

use crate::error::{Exceeded, Excess, Refusal};
use crate::limit::{Room, Rooms};
use crate::units::Limit;

/// What an answer tells of limits.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::proxy) struct Leeway {
    rooms: Rooms,
    ceiling: Option<u64>,
}

impl Leeway {
    pub(in crate::proxy) const fn new(rooms: Rooms, ceiling: Option<u64>) -> Self {
        Self { rooms, ceiling }
    }

    /// Whether it tells how many tokens an answer may have.
    pub(in crate::proxy) const fn has_ceiling(&self) -> bool {
        self.ceiling.is_some()
    }

    /// Takes the provider's own rate limits out of the way of ours.
    pub(in crate::proxy) fn make_way(&self, headers: &mut HeaderMap) {
        if !self.tells_rates() {
            return;
        }
        let farther = headers.keys().filter(|name| self.covers(name.as_str().as_bytes()));
        for name in farther.cloned().collect::<Vec<_>>() {
            headers.remove(name);
        }
        let theirs =
            headers.keys().filter_map(|name| Some((name.clone(), name.as_str().strip_prefix("x-ratelimit-")?)));
        let renamed = theirs.filter_map(|(name, rest)| {
            Some((HeaderName::from_bytes(format!("x-upstream-ratelimit-{rest}").as_bytes()).ok()?, name))
        });
        for (new, old) in renamed.collect::<Vec<_>>() {
            if let Entry::Occupied(theirs) = headers.entry(old) {
                // A provider may say it twice.
                let (_, values) = theirs.remove_entry_mult();
                let values: Vec<_> = values.collect();
                for value in values {
                    headers.append(&new, value);
                }
            }
        }
    }

    /// Whether a provider's header is one of those that [`Self::make_way`] renames; the name in lower case.
    pub(in crate::proxy) fn renames(&self, name: &[u8]) -> bool {
        self.tells_rates() && name.starts_with(b"x-ratelimit-")
    }

    /// Whether a provider's header has a name that is taken by one that is renamed: where it is another gateway, that of limits
    /// farther away; the name in lower case.
    pub(in crate::proxy) fn covers(&self, name: &[u8]) -> bool {
        self.tells_rates() && name.starts_with(b"x-upstream-ratelimit-")
    }

    const fn tells_rates(&self) -> bool {
        self.rooms.requests.is_some() || self.rooms.tokens.is_some()
    }

    /// Names and values of headers.
    pub(in crate::proxy) fn headers(&self) -> Vec<(&'static HeaderName, String)> {
        let mut all = rate_headers(&self.rooms);
        all.extend(self.ceiling.map(|tokens| (&MAX_OUTPUT_TOKENS, tokens.to_string())));
        all
    }
}

static MAX_OUTPUT_TOKENS: HeaderName = HeaderName::from_static("x-gateway-max-output-tokens");
static SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
static REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
static TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// What a refusal tells beside its status: names and values of headers.
pub(in crate::proxy) fn refusal_headers(refusal: &Refusal) -> Vec<(&'static HeaderName, String)> {
    let mut rooms = Rooms::default();
    if let Refusal::Limited(exceeded) = refusal {
        match exceeded.limit {
            Limit::RequestsPerMinute => rooms.requests = room_left(exceeded),
            Limit::TokensPerMinute => rooms.tokens = room_left(exceeded),
            _ => {}
        }
    }
    let mut all = rate_headers(&rooms);
    all.extend(refusal.should_retry().map(|retry| (&SHOULD_RETRY, retry.to_string())));
    all
}

fn room_left(exceeded: &Exceeded) -> Option<Room> {
    let count = |count: u128| u64::try_from(count).unwrap_or(u64::MAX);
    let resets_in = exceeded.resets_in.filter(|_| exceeded.why == Excess::Rate)?;
    let remaining = count(exceeded.value.saturating_sub(exceeded.used));
    Some(Room { limit: count(exceeded.value), remaining, resets_in })
}

fn rate_headers(rooms: &Rooms) -> Vec<(&'static HeaderName, String)> {
    let mut all = Vec::new();
    for (names, room) in [(&REQUESTS, rooms.requests), (&TOKENS, rooms.tokens)] {
        let Some(Room { limit, remaining, resets_in }) = room else { continue };
        let values = [limit.to_string(), remaining.to_string(), span(resets_in)];
        all.extend(names.iter().zip(values));
    }
    all
}

/// A time as OpenAI writes it in these headers: `6m0s`, `1.5s`, `120ms`. Source: its guide on rate limits, read 2026-11.
fn span(time: Duration) -> String {
    let millis = time.as_nanos().div_ceil(1_000_000);
    let (minutes, millis) = (millis / 60_000, millis % 60_000);
    let seconds = match (millis / 1000, millis % 1000) {
        (seconds, 0) => format!("{seconds}s"),
        (0, rest) if minutes == 0 => return format!("{rest}ms"),
        (seconds, rest) => format!("{seconds}.{}s", format!("{rest:03}").trim_end_matches('0')),
    };
    if minutes > 0 { format!("{minutes}m{seconds}") } else { seconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_openai_writes_them() {
        let texts = [(0, "0s"), (120, "120ms"), (1000, "1s"), (1500, "1.5s"), (60_000, "1m0s"), (61_250, "1m1.25s")];
        for (millis, text) in texts {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }
}
