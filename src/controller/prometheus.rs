//! Asking Prometheus: bounded in time, size and number, and trusting nothing of the answer.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use surefoot_core::metrics::answer::AnswerError;
use tokio::sync::Semaphore;

use crate::outbound::{Outbound, OutboundError};

/// No answer may be larger.
const LARGEST: usize = 64 * 1024 * 1024;
/// Queries under way at once, in the whole process.
const IN_FLIGHT: usize = 20;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The server can't be reached, or not in time, or says too much.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// The server answered with a status other than 200.
    #[error("the server answered with status {0}")]
    Status(u16),
    /// The answer isn't what was asked for.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

/// A client for all sources.
pub struct Prometheus {
    http: Arc<Outbound>,
    in_flight: Semaphore,
}

impl Prometheus {
    /// A client that asks by `http`.
    #[must_use]
    pub fn new(http: Arc<Outbound>) -> Self {
        Self { http, in_flight: Semaphore::new(IN_FLIGHT) }
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
        let time = seconds(at);
        self.ask(url, "query", &[("query", query), ("time", &time), ("timeout", "5s")]).await
    }

    /// The body of a range query's answer: values at `from` and every `step` after it, up to `to`.
    ///
    /// # Errors
    /// When there is none to speak of.
    pub async fn query_range(
        &self,
        url: &str,
        query: &str,
        (from, to): (Timestamp, Timestamp),
        step: Duration,
    ) -> Result<Vec<u8>, QueryError> {
        let (start, end, step) = (seconds(from), seconds(to), format!("{}s", step.as_secs()));
        let parameters = [
            ("query", query),
            ("start", &start),
            ("end", &end),
            ("step", &step),
            ("timeout", "5s"),
        ];
        self.ask(url, "query_range", &parameters).await
    }

    async fn ask(
        &self,
        url: &str,
        what: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Vec<u8>, QueryError> {
        // The semaphore is never closed; a permit is all that is wanted of it.
        let _permit = self.in_flight.acquire().await.ok();
        let url = format!("{}/api/v1/{what}", url.trim_end_matches('/'));
        let answer = self.http.get(&url, parameters, LARGEST).await?;
        match answer.status {
            // A query that the server can't follow comes back as 400 or 422 with a reason.
            200 | 400 | 422 => Ok(answer.body),
            status => Err(QueryError::Status(status)),
        }
    }
}

fn seconds(at: Timestamp) -> String {
    format!("{}.{:03}", at.as_second(), at.subsec_millisecond().max(0))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::{StatusCode, header};
    use axum::routing::any;

    use super::*;

    #[tokio::test]
    async fn a_redirect_is_no_answer() {
        let to = [(header::LOCATION, "http://169.254.169.254/latest/meta-data")];
        let app =
            Router::new().fallback(any(move || async move { (StatusCode::FOUND, to, "secret") }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let prometheus = Prometheus::new(Arc::new(Outbound::new().unwrap()));
        let answer = prometheus.query(&url, "up", Timestamp::UNIX_EPOCH).await;
        assert!(matches!(answer, Err(QueryError::Status(302))), "{answer:?}");
    }
}
