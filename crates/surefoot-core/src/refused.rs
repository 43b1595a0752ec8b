//! Writes that the API server refuses: whether that is a passing matter, and what to do about it.

use jiff::Timestamp;

/// A conflict, an overloaded or a broken server are worth a word only when they go on so often.
const PASSING: u32 = 5;
/// How much of the server's words is kept.
const WORDS: usize = 400;

/// The write that the API server refused last, with nothing having gone well since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which write, in words.
    pub what: String,
    /// The HTTP status of the answer; `None` where there was none, or where we gave up ourselves.
    pub code: Option<u16>,
    /// Why, in the server's words or ours.
    pub said: String,
    /// Since when.
    pub since: Timestamp,
    /// How often in a row.
    pub times: u32,
}

impl Refused {
    /// One more refusal after `before`, where that was of the same write. Texts are cut.
    #[must_use]
    pub fn again(
        before: Option<&Self>,
        what: &str,
        code: Option<u16>,
        said: &str,
        now: Timestamp,
    ) -> Self {
        let cut = |text: &str| text.chars().take(WORDS).collect::<String>();
        Self {
            what: cut(what),
            code,
            said: cut(said),
            since: before.filter(|b| b.what == cut(what)).map_or(now, |b| b.since),
            times: before.map_or(1, |b| b.times.saturating_add(1)),
        }
    }

    /// Whether people must know of it: at once where trying again won't help, else when it goes on.
    #[must_use]
    pub fn matters(&self) -> bool {
        self.times >= PASSING || final_word(self.code, &self.said)
    }

    /// What is refused, why, and what to do.
    #[must_use]
    pub fn words(&self) -> String {
        let Self { what, said, since, .. } = self;
        let since = since.strftime("%Y-%m-%dT%H:%M:%SZ");
        let remedy = remedy(self.code, said);
        let said = told(said);
        format!("{what} is refused since {since}: {said}; {remedy} (it is tried again by itself)")
    }
}

/// Whether the server will say the same again: a missing right, a policy's or a schema's word. A
/// conflict is not that, nor is a patch whose `test` found another object than the decision saw.
#[must_use]
pub fn final_word(code: Option<u16>, said: &str) -> bool {
    match code {
        Some(400 | 401 | 403 | 405 | 413 | 415) => true,
        Some(422) => !said.contains("rejected our request due to an error in our request"),
        _ => said.contains(DENIED),
    }
}

const DENIED: &str = "denied request: ";
const WEBHOOK: &str = "denied the request: ";

fn remedy(code: Option<u16>, said: &str) -> &'static str {
    match code {
        _ if said.contains(DENIED) || said.contains(WEBHOOK) => {
            "satisfy that admission policy or exempt Surefoot from it"
        }
        Some(403) if said.contains("exceeded quota") => {
            "raise the ResourceQuota or make room in it"
        }
        Some(403) => "grant that right to Surefoot's service account as deploy/namespace.yaml does",
        Some(401) => "give the controller a valid service account token",
        Some(400 | 405 | 413 | 415 | 422) => "make the object such that the change is valid",
        Some(404 | 409) => "find out who keeps changing the object",
        Some(_) => "look at the API server and at the admission webhooks that it calls",
        None => "look at the API server and at the way to it",
    }
}

/// The words of a policy without the server's about it, but with the policy's name.
fn told(said: &str) -> String {
    let policy = || said.split_once("ValidatingAdmissionPolicy '")?.1.split_once('\'');
    match (policy(), said.split_once(DENIED)) {
        (Some((policy, _)), Some((_, own))) => {
            format!("ValidatingAdmissionPolicy {policy:?} says: {own}")
        }
        _ => said.trim_end_matches('.').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const RIGHT: &str = "virtualservices.networking.istio.io \"shop\" is forbidden: User \"x\" \
                         cannot patch resource \"virtualservices\"";
    const POLICY: &str = "virtualservices.networking.istio.io \"shop\" is forbidden: \
                          ValidatingAdmissionPolicy 'freeze' with binding 'freeze' denied request: \
                          no route changes today";
    const TEST: &str = "the server rejected our request due to an error in our request";

    #[test]
    fn what_will_not_change_by_itself_is_told_at_once_and_a_conflict_when_it_goes_on() {
        for (code, said, at_once) in [
            (Some(403), RIGHT, true),
            (Some(422), POLICY, true),
            (Some(422), "spec.http: Invalid value", true),
            (Some(422), TEST, false),
            (Some(409), "the object has been modified", false),
            (Some(500), "etcdserver: request timed out", false),
            (None, "the API server didn't answer within 5 s", false),
        ] {
            let mut refused = Refused::again(None, "x", code, said, NOW);
            assert_eq!(refused.matters(), at_once, "{code:?} {said}");
            for _ in 1..PASSING {
                assert_eq!(refused.matters(), at_once, "{code:?} {said}");
                refused = Refused::again(Some(&refused), "x", code, said, NOW);
            }
            assert!(refused.matters(), "{code:?} {said}");
        }
    }

    #[test]
    fn the_words_name_the_write_the_reason_and_a_remedy() {
        let words =
            |code, said| Refused::again(None, "set-weight of shop", code, said, NOW).words();
        assert_eq!(
            words(Some(422), POLICY),
            "set-weight of shop is refused since 1970-01-01T00:00:00Z: ValidatingAdmissionPolicy \
             \"freeze\" says: no route changes today; satisfy that admission policy or exempt \
             Surefoot from it (it is tried again by itself)"
        );
        assert!(
            words(Some(403), RIGHT).contains("cannot patch resource \"virtualservices\"; grant")
        );
        assert!(words(Some(403), "exceeded quota: pods").contains("ResourceQuota"));
        assert!(words(Some(409), "x").contains("who keeps changing"));
    }

    #[test]
    fn texts_are_bounded_and_the_beginning_is_kept() {
        let first = Refused::again(None, "x", Some(403), &"é".repeat(9000), NOW);
        assert_eq!(first.said.chars().count(), WORDS);
        let later = NOW + jiff::SignedDuration::from_secs(60);
        let second = Refused::again(Some(&first), "x", Some(403), "no", later);
        assert_eq!((second.since, second.times), (NOW, 2));
        let other = Refused::again(Some(&second), "y", Some(403), "no", later);
        assert_eq!(other.since, later);
    }
}
