//! Every write of a committed decision, call by call (`protocol.md`, step 5): the object is read, then
//! the Rollout, both from the API server itself; only when the decision is still the one that was
//! committed is the write sent, and only onto the object as it was read. The controller, the random
//! walks and the model checker all go by this.

use serde_json::Value;

use crate::write::{Author, Kind, Refusal, Request, Target, Write};

/// The decision that stands behind a write.
#[derive(Debug, Clone, Copy)]
pub struct Committed<'a> {
    /// Whose it is.
    pub author: Author<'a>,
    /// Its sequence number.
    pub seq: i64,
}

/// What to ask of the API server next.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// GET this object, and note what it is or that there is none.
    Read(Target),
    /// Write it, once.
    Send(Target, Request),
    /// Nothing is left to do.
    Done,
}

/// Why a write isn't made. None of these is a failed release: look again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The decision is no longer the committed one.
    #[error("another decision has been committed meanwhile")]
    Superseded,
    /// The object isn't as the decision saw it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Whether a write is made although one before it has failed. Of several routes one that can't be written
/// must not keep the others from coming back; all else waits for what comes before it.
#[must_use]
pub fn regardless(write: &Write) -> bool {
    matches!(write, Write::SetWeight { .. })
}

/// The next call of a write, given what its reads have answered so far, in their order.
///
/// # Errors
/// See [`Stopped`]; nothing must be written then.
pub fn next(
    write: &Write,
    committed: Committed<'_>,
    answers: &[Option<&Value>],
) -> Result<Call, Stopped> {
    let author = committed.author;
    let target = write.target(author);
    let also = write.also(author);
    // The Rollout comes last: what it says then counts when the write is sent.
    let rollout = Target { kind: Kind::Rollout, name: author.rollout.to_owned() };
    let rollout = Some(rollout).filter(|_| target.kind != Kind::Rollout);
    let mut reads = [Some(target.clone()), also.clone(), rollout].into_iter().flatten();
    if let Some(read) = reads.nth(answers.len()) {
        return Ok(Call::Read(read));
    }
    let answer = |place: usize| answers.get(place).copied().flatten();
    still_committed(answers.last().copied().flatten(), committed)?;
    let other = answer(1).filter(|_| also.is_some());
    let request = write.request(answer(0), other, author)?;
    Ok(request.map_or(Call::Done, |request| Call::Send(target, request)))
}

/// The Rollout itself, read after the object, must still carry this decision.
fn still_committed(rollout: Option<&Value>, committed: Committed<'_>) -> Result<(), Stopped> {
    let author = committed.author;
    let number = |field: &str| rollout?.pointer(&format!("/status/decision/{field}"))?.as_i64();
    let uid = rollout.and_then(|r| r.pointer("/metadata/uid")?.as_str());
    let same = uid == Some(author.uid)
        && number("seq").unwrap_or(0) == committed.seq
        && number("epoch").unwrap_or(0) == author.epoch;
    if same { Ok(()) } else { Err(Stopped::Superseded) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mark::Mark;
    use serde_json::json;

    fn by(seq: i64) -> Committed<'static> {
        let author = Author {
            rollout: "shop",
            uid: "u",
            namespace: "prod",
            deployment: "shop",
            epoch: 2,
            rivals: &[],
            allowed: Mark::default(),
        };
        Committed { author, seq }
    }

    fn name(call: Result<Call, Stopped>) -> String {
        match call {
            Ok(Call::Read(target)) => format!("read {:?} {}", target.kind, target.name),
            Ok(Call::Send(target, _)) => format!("send {:?} {}", target.kind, target.name),
            Ok(Call::Done) => "done".to_owned(),
            Err(stopped) => stopped.to_string(),
        }
    }

    #[test]
    fn the_rollout_is_read_last_and_must_carry_the_decision() {
        let set =
            json!({"metadata": {"uid": "s", "resourceVersion": "7"}, "spec": {"replicas": 1}});
        let deployment = json!({"metadata": {"uid": "d", "name": "shop"}});
        let rollout =
            json!({"metadata": {"uid": "u"}, "status": {"decision": {"seq": 5, "epoch": 2}}});
        let write = Write::GiveBack { replica_set: "set".to_owned() };
        let answers = [Some(&set), Some(&deployment), Some(&rollout)];
        let said =
            |seq| (0..4).map(|n| name(next(&write, by(seq), &answers[..n]))).collect::<Vec<_>>();
        let reads = ["read ReplicaSet set", "read Deployment shop", "read Rollout shop"];
        assert_eq!(said(5)[..3], reads);
        assert_eq!(said(5)[3], "send ReplicaSet set");
        for seq in [4, 6] {
            assert_eq!(said(seq)[3], Stopped::Superseded.to_string());
        }
        for (which, value) in
            [("/metadata/uid", json!("other")), ("/status/decision/epoch", json!(3))]
        {
            let mut other = rollout.clone();
            *other.pointer_mut(which).unwrap() = value;
            let answers = [Some(&set), Some(&deployment), Some(&other)];
            assert_eq!(name(next(&write, by(5), &answers)), Stopped::Superseded.to_string());
        }
    }

    #[test]
    fn a_route_waits_for_no_other_and_all_else_for_the_routes() {
        let traffic = json!({"mesh": "istio", "service": "shop",
            "routes": [{"kind": "VirtualService", "name": "shop"}]});
        let routing = crate::routing::Routing::of(&serde_json::from_value(traffic).unwrap());
        assert!(regardless(&Write::SetWeight { routing, percent: 0, chosen: Vec::new() }));
        let canary = Write::Scale { replica_set: "canary".to_owned(), replicas: 0 };
        assert!(!regardless(&canary));
    }

    #[test]
    fn a_write_of_the_rollout_reads_it_once() {
        let write = Write::Finalizer { present: true };
        let rollout = json!({"metadata": {"uid": "u", "resourceVersion": "7"},
            "status": {"decision": {"seq": 5, "epoch": 2}}});
        assert_eq!(name(next(&write, by(5), &[])), "read Rollout shop");
        assert_eq!(name(next(&write, by(5), &[Some(&rollout)])), "send Rollout shop");
        assert_eq!(name(next(&write, by(5), &[None])), Stopped::Superseded.to_string());
    }
}
