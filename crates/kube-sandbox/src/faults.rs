//! What goes wrong, with which call.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::request::{Request, Verb};

/// What goes wrong with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status is answered; the server never sees the request.
    Answer(u16),
    /// 429 with `Retry-After`, in seconds; the server never sees the request.
    TooManyRequests(u64),
    /// The request is carried out, and the connection breaks in place of the reply.
    DropReply,
    /// The request arrives this late.
    Delay(Duration),
    /// The reply comes this late.
    DelayReply(Duration),
    /// The request waits, sent but not yet arrived, until [`Sandbox::let_go`](crate::Sandbox::let_go).
    Hold,
    /// The client dies before the request arrives: neither this nor any later call of it is ever
    /// answered.
    Crash,
    /// The request is carried out, and the client dies before the reply.
    CrashAfter,
    /// A read is answered as it was so many writes ago; a watch stays so many writes behind until
    /// [`Sandbox::let_go`](crate::Sandbox::let_go).
    Stale(u64),
    /// A watch breaks after so many events.
    CutWatch(usize),
    /// A watch brings only the last of several changes that an object had since the last look, as
    /// after a compaction in between.
    SkipEvents,
}

/// Which calls a rule is about. What isn't said fits every call.
#[derive(Clone, Debug, Default)]
pub struct When {
    /// Only the nth call that fits the rest, counted from 1.
    pub nth: Option<u64>,
    /// By which client: the name its service was made with.
    pub client: Option<String>,
    /// With which verb.
    pub verb: Option<Verb>,
    /// Of which resource, with its subresource, such as `deployments/scale`.
    pub resource: Option<String>,
    /// To which object.
    pub name: Option<String>,
}

impl When {
    fn fits(&self, client: &str, request: &Request) -> bool {
        let target = request.target().unwrap_or_default();
        let is = |wanted: &Option<String>, given: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == given)
        };
        is(&self.client, client)
            && self.verb.is_none_or(|verb| verb == request.verb())
            && is(&self.resource, &resource(request))
            && is(&self.name, target.name.as_deref().unwrap_or_default())
    }
}

/// The resource of a request with its subresource; empty where there is none.
pub(crate) fn resource(request: &Request) -> String {
    let target = request.target().unwrap_or_default();
    match target.subresource {
        Some(subresource) => format!("{}/{subresource}", target.resource),
        None => target.resource,
    }
}

#[derive(Clone, Debug)]
struct Rule {
    when: When,
    fault: Fault,
    left: u32,
    seen: u64,
}

/// The faults to come. Each call meets the first rule that fits it and isn't used up.
///
/// ```
/// use kube_sandbox::{Fault, FaultPlan, Verb, When};
///
/// let second_patch = When { nth: Some(2), verb: Some(Verb::Patch), ..When::default() };
/// let plan = FaultPlan::new().with(second_patch, Fault::DropReply);
/// ```
#[derive(Clone, Default)]
pub struct FaultPlan {
    rules: Vec<Rule>,
    ask: Option<Ask>,
}

/// Says what goes wrong with a call of a client.
type Ask = Arc<dyn Fn(&str, &Request) -> Option<Fault> + Send + Sync>;

impl fmt::Debug for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultPlan").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl FaultPlan {
    /// Nothing goes wrong.
    #[must_use]
    pub fn new() -> FaultPlan {
        FaultPlan::default()
    }

    /// Once, this goes wrong.
    #[must_use]
    pub fn with(self, when: When, fault: Fault) -> FaultPlan {
        self.times(1, when, fault)
    }

    /// So many times, this goes wrong.
    #[must_use]
    pub fn times(mut self, times: u32, when: When, fault: Fault) -> FaultPlan {
        self.rules.push(Rule { when, fault, left: times, seen: 0 });
        self
    }

    /// What no rule is about goes wrong as this says, which is asked once for every such call, by the
    /// client's name. It must not use the sandbox.
    #[must_use]
    pub fn asking(
        mut self,
        ask: impl Fn(&str, &Request) -> Option<Fault> + Send + Sync + 'static,
    ) -> FaultPlan {
        self.ask = Some(Arc::new(ask));
        self
    }

    /// What goes wrong with this call. Every rule counts the calls that fit it.
    pub(crate) fn meet(&mut self, client: &str, request: &Request) -> Option<Fault> {
        let mut met = None;
        for rule in &mut self.rules {
            if !rule.when.fits(client, request) {
                continue;
            }
            rule.seen += 1;
            let counts = rule.when.nth.is_none_or(|nth| nth == rule.seen);
            if met.is_none() && counts && rule.left > 0 {
                rule.left -= 1;
                met = Some(rule.fault.clone());
            }
        }
        met.or_else(|| self.ask.as_ref()?(client, request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_meets_the_call_that_it_names() {
        let when = When {
            nth: Some(2),
            client: Some("a".into()),
            verb: Some(Verb::Get),
            resource: Some("pods".into()),
            name: Some("x".into()),
        };
        let mut plan = FaultPlan::new().with(when, Fault::Crash);
        let get = Request::get("/api/v1/namespaces/n/pods/x");
        let list = Request::get("/api/v1/namespaces/n/pods");
        assert_eq!(plan.meet("a", &get), None, "the first");
        assert_eq!(plan.meet("b", &get), None, "another client");
        assert_eq!(plan.meet("a", &list), None, "another verb");
        assert_eq!(plan.meet("a", &get), Some(Fault::Crash));
        assert_eq!(plan.meet("a", &get), None, "the third");
    }

    #[test]
    fn what_no_rule_is_about_is_asked_for() {
        let own = When { client: Some("a".into()), ..When::default() };
        let ask = |client: &str, request: &Request| {
            (client == "b" && request.verb() == Verb::Get).then_some(Fault::Crash)
        };
        let mut plan = FaultPlan::new().with(own, Fault::DropReply).asking(ask);
        let get = Request::get("/api/v1/namespaces/n/pods/x");
        let met = ["a", "a", "b"].map(|client| plan.meet(client, &get));
        assert_eq!(met, [Some(Fault::DropReply), None, Some(Fault::Crash)]);
    }

    #[test]
    fn a_rule_is_used_up() {
        let mut plan = FaultPlan::new().times(2, When::default(), Fault::Answer(500));
        let get = Request::get("/version");
        let met: Vec<bool> = (0..3).map(|_| plan.meet("a", &get).is_some()).collect();
        assert_eq!(met, [true, true, false]);
    }
}
