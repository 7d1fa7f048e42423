//! Business hours: outside of them, calls go to another provider, such as one of the house's own.
//!
//! `OPEN=8-18 AFTER_HOURS=inner cargo run --example business_hours -- conf/gateway.yaml`, where `inner` is a provider of
//! that file with the same routes. Hours are those of UTC; `DAYS` counts from Monday, 5 by default.

use std::error::Error;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use ai_gateway::config::Sources;
use ai_gateway::policy::{Look, Policy, PolicyError, Verdict};
use ai_gateway::server::{Options, Signals, start};

struct BusinessHours {
    open: Range<u64>,
    days: u64,
    after_hours: String,
}

impl Policy for BusinessHours {
    fn look(&self, call: &mut Look<'_>) -> Result<Verdict, PolicyError> {
        if !self.is_open(call.now()) {
            // Where the provider has no such route, the call fails, rather than going where it should not.
            call.use_provider(&self.after_hours)?;
        }
        Ok(Verdict::Allow)
    }
}

impl BusinessHours {
    fn is_open(&self, now: SystemTime) -> bool {
        let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let hours = since_1970.as_secs() / 3600;
        // 1970 began on a Thursday: day 0 is Monday.
        let weekday = (hours / 24 + 3) % 7;
        weekday < self.days && self.open.contains(&(hours % 24))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let signals = Signals::catch()?;
    let open = std::env::var("OPEN").unwrap_or_else(|_| "8-18".to_owned());
    let (from, to) = open.split_once('-').ok_or("OPEN is such as 8-18")?;
    let days = std::env::var("DAYS").unwrap_or_else(|_| "5".to_owned()).parse()?;
    let after_hours = std::env::var("AFTER_HOURS")?;
    let policy = BusinessHours { open: from.parse()?..to.parse()?, days, after_hours };
    let sources = Sources::of_process(std::env::args_os().nth(1).map(Into::into));
    signals.obey(start(sources, Options::default().policy(policy))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_hours_of_a_week() {
        let hours = BusinessHours { open: 8..18, days: 5, after_hours: String::new() };
        // Friday, 27 November 2026, 00:00 UTC.
        let open = |hour: u64| hours.is_open(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_737_600 + hour * 3600));
        let found: Vec<u64> = (0..5 * 24).filter(|hour| open(*hour)).collect();
        let expected: Vec<u64> = (8..18).chain(72 + 8..72 + 18).chain(96 + 8..96 + 18).collect();
        assert_eq!(found, expected);
    }
}
