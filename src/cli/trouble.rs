//! What went wrong at the API server, in one line with what to do about it.

use kube::core::Status;

use crate::client::CallError;

/// A failed call in one line. `what` says what was tried: "reading Rollout shop/checkout".
#[must_use]
pub fn trouble(what: &str, error: &CallError) -> String {
    match error {
        CallError::TimedOut => {
            format!("{what}: {error}; look whether it was done before trying again")
        }
        CallError::Kube(kube::Error::Api(status)) => format!("{what}: {}", refused(status)),
        CallError::Kube(kube::Error::SerdeError(error)) => {
            format!("{what}: the answer makes no sense: {error}; is this plugin as old as crds/?")
        }
        CallError::Kube(error) => {
            format!(
                "{what}: no way to the API server: {}; is the right --context set?",
                causes(error)
            )
        }
    }
}

fn refused(status: &Status) -> String {
    let message = said(&status.message);
    match status.code {
        401 => "the API server doesn't know you: log in again, then try `kubectl auth whoami`"
            .to_owned(),
        403 => {
            format!("not allowed: {message}; ask for this right, or use another --context or --as")
        }
        404 if status.details.as_ref().is_none_or(|d| d.name.is_empty()) => {
            "the API server doesn't know this kind: install Surefoot's definitions from crds/"
                .to_owned()
        }
        404 => "there is none of that name: look with `kubectl surefoot status --all-namespaces`"
            .to_owned(),
        422 => format!("refused: {message}"),
        code => format!("the API server said {code}: {message}"),
    }
}

/// Of an admission policy's refusal, what the policy says.
fn said(message: &str) -> &str {
    message.split_once("denied request: ").map_or(message, |(_, said)| said)
}

/// An error with the errors behind it: the first one alone rarely tells.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text += &format!(": {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(code: u16, message: &str) -> CallError {
        let status = Status { code, message: message.to_owned(), ..Status::default() };
        CallError::Kube(kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn a_policys_own_words_are_enough() {
        let error = api(
            422,
            "rolloutactions.surefoot.dev \"x\" is forbidden: ValidatingAdmissionPolicy \
             'surefoot-actions' with binding 'surefoot-actions' denied request: alice may not abort \
             Rollout checkout: grant create on rollouts/abort",
        );
        assert_eq!(
            trouble("abort", &error),
            "abort: refused: alice may not abort Rollout checkout: grant create on rollouts/abort"
        );
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        assert!(trouble("x", &api(401, "")).contains("log in again"));
        assert!(trouble("x", &api(403, "no")).contains("ask for this right"));
        assert!(trouble("x", &api(404, "")).contains("crds/"));
        assert!(trouble("x", &CallError::TimedOut).contains("before trying again"));
    }
}
