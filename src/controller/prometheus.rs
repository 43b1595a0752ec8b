//! Asking Prometheus: bounded in time, size and number, and trusting nothing of the answer.

use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use surefoot_core::metrics::answer::AnswerError;
use tokio::sync::Semaphore;

/// No query may take longer.
const LIMIT: Duration = Duration::from_secs(5);
/// No answer may be larger.
const LARGEST: usize = 64 * 1024 * 1024;
/// Queries under way at once, in the whole process.
const IN_FLIGHT: usize = 20;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The server can't be reached, or not in time.
    #[error("{0}")]
    Unreachable(String),
    /// The server answered with a status other than 200.
    #[error("the server answered with status {0}")]
    Status(u16),
    /// The answer is too large.
    #[error("the answer is larger than 64 MiB")]
    TooLarge,
    /// The answer isn't what was asked for.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

/// A client for all sources.
pub struct Prometheus {
    http: reqwest::Client,
    in_flight: Semaphore,
}

impl Prometheus {
    /// A client that follows no redirects.
    ///
    /// # Errors
    /// When TLS can't be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(LIMIT)
            .connect_timeout(LIMIT)
            .user_agent(concat!("surefoot/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, in_flight: Semaphore::new(IN_FLIGHT) })
    }

    /// The body of an instant query's answer.
    ///
    /// # Errors
    /// When there is none to speak of.
    pub async fn query(
        &self,
        url: &str,
        query: &str,
        at: Timestamp,
    ) -> Result<Vec<u8>, QueryError> {
        // The semaphore is never closed; a permit is all that is wanted of it.
        let _permit = self.in_flight.acquire().await.ok();
        let time = format!("{}.{:03}", at.as_second(), at.subsec_millisecond().max(0));
        let url = format!("{}/api/v1/query", url.trim_end_matches('/'));
        let parameters = [("query", query), ("time", time.as_str()), ("timeout", "5s")];
        let answer =
            self.http.get(url).query(&parameters).send().await.map_err(|e| unreachable(&e))?;
        if answer.status() != 200 {
            // A query that the server can't follow comes back as 400 or 422 with a reason.
            let status = answer.status().as_u16();
            if matches!(status, 400 | 422) {
                return read(answer).await;
            }
            return Err(QueryError::Status(status));
        }
        read(answer).await
    }
}

async fn read(answer: reqwest::Response) -> Result<Vec<u8>, QueryError> {
    let mut body = Vec::new();
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|e| unreachable(&e))?;
        if body.len() + chunk.len() > LARGEST {
            return Err(QueryError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// In words, without the URL (it may carry what isn't for everybody).
fn unreachable(error: &reqwest::Error) -> QueryError {
    let what = if error.is_timeout() {
        "no answer within 5 s".to_owned()
    } else if error.is_connect() {
        "the server can't be reached".to_owned()
    } else {
        let mut source: &dyn std::error::Error = error;
        while let Some(next) = source.source() {
            source = next;
        }
        format!("the connection failed: {source}")
    };
    QueryError::Unreachable(what)
}
