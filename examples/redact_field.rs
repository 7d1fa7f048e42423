//! Redaction: what stands in one field of the body, such as OpenAI's `user`, never leaves the house. Everything else
//! passes byte for byte.
//!
//! `FIELD=user cargo run --example redact_field -- conf/gateway.yaml`

use std::error::Error;

use ai_gateway::config::Sources;
use ai_gateway::meter::Splice;
use ai_gateway::policy::{Denial, Look, Policy, PolicyError, Verdict};
use ai_gateway::server::{Options, Signals, start};

struct Redact {
    field: String,
}

impl Policy for Redact {
    fn look(&self, call: &mut Look<'_>) -> Result<Verdict, PolicyError> {
        if call.passes_unread() {
            // An upload or a WebSocket: what is not read cannot be redacted.
            return Ok(Verdict::Refuse(Denial::forbidden("not_redacted", "Only JSON calls may be made here")));
        }
        // All of them, where the field stands there twice or is spelt with escapes.
        let places = call.values_of(&self.field);
        if !places.is_empty() {
            let hide = |at| Splice { at, with: "\"[redacted]\"".to_owned() };
            call.splice_all(places.into_iter().map(hide).collect())?;
        }
        Ok(Verdict::Allow)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let signals = Signals::catch()?;
    let field = std::env::var("FIELD").unwrap_or_else(|_| "user".to_owned());
    let sources = Sources::of_process(std::env::args_os().nth(1).map(Into::into));
    signals.obey(start(sources, Options::default().policy(Redact { field }))?);
    Ok(())
}
