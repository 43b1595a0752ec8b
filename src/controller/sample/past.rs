//! Stable's past pod by pod, read in pieces: what its calibration is from.

use jiff::{SignedDuration, Timestamp};
use surefoot_core::metrics::Wanted;
use surefoot_core::metrics::answer::{self, Track};
use surefoot_core::metrics::history::{LENGTH, PIECE, Piece, after, pods, slot};
use surefoot_core::metrics::query::{Family, Series};
use surefoot_core::samples::PodHistory;

use super::{Worker, say};
use crate::controller::prometheus::{Prometheus, QueryError};

/// Where stable's pods tell what they have counted.
#[derive(Clone, Copy)]
pub struct Past<'a> {
    /// Whom to ask.
    pub prometheus: &'a Prometheus,
    /// Its address.
    pub url: &'a str,
    /// Whose series; told apart by pod.
    pub series: &'a Series,
    /// Whether latencies are wanted.
    pub latency: bool,
}

impl Past<'_> {
    /// Stable's pods at an instant, or an even sample of them.
    ///
    /// # Errors
    /// When there is no answer to speak of.
    pub async fn pods(&self, at: Timestamp) -> Result<Vec<String>, QueryError> {
        let body = self.prometheus.query(self.url, &self.series.pods(), at).await?;
        Ok(pods(self.series, &answer::vector(&body)?))
    }

    /// So many slots of these pods from an instant on, at most [`PIECE`].
    ///
    /// # Errors
    /// When there is no answer to speak of, or it can't be.
    pub async fn piece(
        &self,
        pods: &[String],
        from: Timestamp,
        slots: usize,
    ) -> Result<PodHistory, QueryError> {
        let piece = Piece { series: self.series, pods, from, slots };
        let requests = piece.requests(&self.tracks(&piece, Family::Requests).await?)?;
        let mut history = PodHistory { from, requests, ..PodHistory::default() };
        if self.latency {
            let tracks = self.tracks(&piece, Family::Latency).await?;
            (history.boundaries, history.latency) = piece.latencies(&tracks)?;
        }
        Ok(history)
    }

    async fn tracks(&self, piece: &Piece<'_>, family: Family) -> Result<Vec<Track>, QueryError> {
        let query = self.series.past(family, piece.pods);
        let over = (piece.from, piece.to());
        let body = self.prometheus.query_range(self.url, &query, over, slot()).await?;
        Ok(answer::tracks(&body)?)
    }

    /// The last [`LENGTH`] before an instant.
    async fn before(&self, now: Timestamp) -> Result<PodHistory, QueryError> {
        let pods = self.pods(now).await?;
        let start = now - LENGTH;
        let mut past = PodHistory { from: start, ..PodHistory::default() };
        for piece in 0..pieces(LENGTH) {
            let from = after(start, piece * PIECE);
            past.append(self.piece(&pods, from, PIECE).await?)?;
        }
        Ok(past)
    }
}

/// How many pieces a time has.
fn pieces(length: SignedDuration) -> usize {
    let seconds = usize::try_from(length.as_secs()).unwrap_or(0);
    seconds.div_ceil(PIECE * usize::try_from(slot().as_secs()).unwrap_or(1))
}

impl Worker {
    /// Stable's pods one by one, or why that can't be read: a release goes on without.
    pub(super) async fn pods_past(
        &mut self,
        url: &str,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Result<PodHistory, String> {
        let series = match &wanted.pods {
            Some(series) => self.by_pod(url, series).await?,
            None => None,
        };
        let series = series.ok_or_else(|| "no pod's own proxy is scraped".to_owned())?;
        let prometheus = &self.prometheus;
        let past = Past { prometheus, url, series: &series, latency: wanted.latency };
        past.before(now).await.map_err(|e| say(&e))
    }
}
