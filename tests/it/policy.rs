//! Policies of an embedding program: the three examples as they run, and what the trait promises.
//!
//! Invariant: what is shown is shown by both ends, the client's answer and the provider's journal.
//! Never does: call a policy by itself; `src/policy/tests.rs` does.

#[path = "../../examples/business_hours.rs"]
#[expect(dead_code, reason = "its own tests run here; its `main` runs as a process")]
mod business_hours;
mod calls;
mod changes;
mod examples;
mod native;

use std::sync::{Arc, Mutex};

use ai_gateway::demo::{Provider, ProviderOptions, Script};
use ai_gateway::error::Refusal;
use ai_gateway::flow::Record;
use ai_gateway::policy::{Denial, Look, Policy, PolicyError, Verdict};

use crate::support::*;

pub(super) const CHAT: &str = "/openai/v1/chat/completions";

type Looks = dyn Fn(&mut Look<'_>) -> Result<Verdict, PolicyError> + Send + Sync;

/// Status, refusal and provider of a call that is over.
type Settled = (u16, Option<Refusal>, Option<String>);

/// A policy made of a closure, which keeps what it saw at the end.
pub(super) struct Rule {
    look: Box<Looks>,
    settled: Mutex<Vec<Settled>>,
}

impl Policy for Rule {
    fn name(&self) -> &'static str {
        "rule"
    }

    fn look(&self, call: &mut Look<'_>) -> Result<Verdict, PolicyError> {
        (self.look)(call)
    }

    fn settled(&self, record: &Record) {
        let provider = record.provider().map(str::to_owned);
        self.settled.lock().expect("no panic").push((record.status, record.refusal.clone(), provider));
    }
}

impl Rule {
    pub(super) fn settled(&self) -> Vec<Settled> {
        self.settled.lock().expect("no panic").clone()
    }
}

/// A policy that does this with each call.
pub(super) fn rule(look: impl Fn(&mut Look<'_>) -> Result<Verdict, PolicyError> + Send + Sync + 'static) -> Arc<Rule> {
    Arc::new(Rule { look: Box::new(look), settled: Mutex::default() })
}

/// A policy that does this with each call and allows it.
pub(super) fn change(change: impl Fn(&mut Look<'_>) -> Result<(), PolicyError> + Send + Sync + 'static) -> Arc<Rule> {
    rule(move |call| change(call).map(|()| Verdict::Allow))
}

/// The default world with these policies.
pub(super) async fn world(policies: &[&Arc<Rule>]) -> World {
    World::with(Setup { policies: all(policies), ..Setup::default() }).await
}

pub(super) fn all(policies: &[&Arc<Rule>]) -> Vec<Arc<dyn Policy>> {
    policies.iter().map(|policy| Arc::clone(*policy) as Arc<dyn Policy>).collect()
}

/// A second provider of a gateway, and the lines that configure it.
pub(super) async fn inner(more: &str) -> (Provider, String) {
    let provider = Provider::start(ProviderOptions {
        api_key: Some(PROVIDER_KEY.to_owned()),
        control: true,
        ..Default::default()
    });
    let provider = provider.await.expect("the provider starts");
    provider.script(Script::json(200, "{}").on("/house/v1/chat/completions").always());
    let base_url = format!("http://{}/house/v1", provider.addr());
    let yaml = format!("  inner: {{ base_url: \"{base_url}\", api_key: \"{PROVIDER_KEY}\"{more} }}");
    (provider, yaml)
}

pub(super) fn denied(code: &'static str) -> Result<Verdict, PolicyError> {
    Ok(Verdict::Refuse(Denial::forbidden(code, format!("Refused: {code}"))))
}

pub(super) fn body_of(provider: &Provider, at: usize) -> String {
    String::from_utf8(provider.received()[at].body.to_vec()).expect("UTF-8")
}
