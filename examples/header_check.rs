//! Own header checks: a call needs a cost centre, `x-cost-center: 4711`, and the provider learns who asked.
//!
//! `cargo run --example header_check -- conf/gateway.yaml`

use std::error::Error;

use ai_gateway::config::Sources;
use ai_gateway::flow::Record;
use ai_gateway::policy::{Denial, Look, Policy, PolicyError, Verdict};
use ai_gateway::server::{Options, Signals, start};

struct CostCenter;

impl Policy for CostCenter {
    fn look(&self, call: &mut Look<'_>) -> Result<Verdict, PolicyError> {
        let center = call.headers().get("x-cost-center").and_then(|value| value.to_str().ok());
        match center {
            Some(center) if center.len() == 4 && center.bytes().all(|digit| digit.is_ascii_digit()) => {}
            Some(_) => {
                return Ok(Verdict::Refuse(Denial::new(400, "bad_cost_center", "x-cost-center has four digits")?));
            }
            None => return Ok(Verdict::Refuse(Denial::forbidden("no_cost_center", "Send x-cost-center"))),
        }
        let user = call.user().to_owned();
        call.set_header("x-on-behalf-of-user", &user)?;
        Ok(Verdict::Allow)
    }

    fn settled(&self, record: &Record) {
        if record.refusal.is_some() {
            log::warn!("call {} of {:?} was not served", record.request_id, record.username());
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let signals = Signals::catch()?;
    let sources = Sources::of_process(std::env::args_os().nth(1).map(Into::into));
    signals.obey(start(sources, Options::default().policy(CostCenter))?);
    Ok(())
}
