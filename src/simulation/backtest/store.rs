//! What has been fetched, kept in a file: an interrupted backtest goes on from there.
//!
//! A line of JSON for the question and who answers it, then one for each piece. Lines are only ever
//! added; the last one of an interrupted run may be half written and is fetched again.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use surefoot_core::samples::{Count, Histogram, PodHistory};

/// Of the file's shape.
const VERSION: u8 = 2;
/// No file may be larger.
const LARGEST: u64 = 512 * 1024 * 1024;

/// Whose history it is, by what Prometheus knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// The label that names pods.
    pub label: String,
    /// The ReplicaSet that had the most requests.
    pub replica_set: String,
    /// Its pods, or an even sample of them.
    pub pods: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    version: u8,
    /// A digest of what was asked.
    question: String,
    found: Found,
}

#[derive(Serialize, Deserialize)]
struct Line {
    piece: usize,
    from: Timestamp,
    boundaries: Vec<f64>,
    /// Slot after slot, pod after pod: requests, failures, abandoned ones, then of latencies all
    /// requests and those at most each boundary. Empty where there was nothing.
    counts: Vec<Vec<Vec<u64>>>,
}

/// Pieces by their number, in memory and in a file where one is wanted.
pub struct Store {
    file: Option<File>,
    question: String,
    found: Option<Found>,
    pieces: BTreeMap<usize, PodHistory>,
}

impl Store {
    /// With what the file holds, if there is one, of the question with this digest.
    ///
    /// # Errors
    /// When the file can't be read or written, or is of another question.
    pub fn open(path: Option<&Path>, question: String) -> Result<Self> {
        let mut store = Self { file: None, question, found: None, pieces: BTreeMap::new() };
        if let Some(path) = path {
            store.load(path).with_context(|| format!("the state file {}", path.display()))?;
        }
        Ok(store)
    }

    fn load(&mut self, path: &Path) -> Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() > LARGEST {
            bail!("is larger than any that a backtest writes: name another file");
        }
        let mut text = String::new();
        file.read_to_string(&mut text).context("is none of a backtest: name another file")?;
        // What was being written when a run was interrupted has no end of line.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..whole].lines();
        if let Some(head) = lines.next() {
            let head: Head = serde_json::from_str(head)
                .ok()
                .context("is none of a backtest: name another file")?;
            if head.version != VERSION {
                bail!("is of another version of surefoot: remove it, and begin anew");
            }
            if head.question != self.question {
                bail!(
                    "holds the answers to another question (another Prometheus, Deployment or \
                     time): name another file"
                );
            }
            self.found = Some(head.found);
        } else if !text.is_empty() && !text.starts_with("{\"version\":") {
            bail!("is none of a backtest: name another file");
        }
        for (number, line) in lines.enumerate() {
            let line: Line = serde_json::from_str(line)
                .ok()
                .with_context(|| format!("is broken at line {}: remove it", number + 2))?;
            let piece = line.piece;
            self.pieces.insert(piece, line.history());
        }
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::End(0))?;
        self.file = Some(file);
        Ok(())
    }

    /// Whose history it is, where that is known.
    #[must_use]
    pub fn found(&self) -> Option<&Found> {
        self.found.as_ref()
    }

    /// Keep whose history it is.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn find(&mut self, found: &Found) -> Result<()> {
        self.found = Some(found.clone());
        let (version, question) = (VERSION, self.question.clone());
        self.write(&Head { version, question, found: found.clone() })
    }

    /// A piece that was fetched before.
    #[must_use]
    pub fn take(&mut self, piece: usize) -> Option<PodHistory> {
        self.pieces.remove(&piece)
    }

    /// Keep a piece.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn keep(&mut self, piece: usize, history: &PodHistory) -> Result<()> {
        self.write(&Line::of(piece, history))
    }

    fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut line = serde_json::to_string(line)?;
        line.push('\n');
        file.write_all(line.as_bytes()).context("can't write the state file")
    }
}

impl Line {
    fn of(piece: usize, history: &PodHistory) -> Self {
        let slot = |(slot, requests): (usize, &Vec<Count>)| {
            let latency = history.latency.get(slot);
            let pod = |(pod, count): (usize, &Count)| {
                let latency = latency.and_then(|slot| slot.get(pod));
                let all = count.requests + count.abandoned + latency.map_or(0, |l| l.requests);
                if all == 0 {
                    return Vec::new();
                }
                let mut counts = vec![count.requests, count.failed, count.abandoned];
                counts.extend(latency.iter().map(|l| l.requests));
                counts.extend(latency.iter().flat_map(|l| &l.at_most));
                counts
            };
            requests.iter().enumerate().map(pod).collect()
        };
        Self {
            piece,
            from: history.from,
            boundaries: history.boundaries.clone(),
            counts: history.requests.iter().enumerate().map(slot).collect(),
        }
    }

    /// Whether the counts can be is looked at where they are used, as with those of Prometheus.
    fn history(self) -> PodHistory {
        let at = |counts: &[u64], i: usize| counts.get(i).copied().unwrap_or(0);
        let requests = |counts: &Vec<u64>| Count {
            requests: at(counts, 0),
            failed: at(counts, 1),
            abandoned: at(counts, 2),
        };
        let boundaries = self.boundaries.len();
        let latency = |counts: &Vec<u64>| Histogram {
            requests: at(counts, 3),
            at_most: (0..boundaries).map(|i| at(counts, i + 4)).collect(),
        };
        let slots = || self.counts.iter();
        PodHistory {
            from: self.from,
            requests: slots().map(|slot| slot.iter().map(requests).collect()).collect(),
            latency: slots().map(|slot| slot.iter().map(latency).collect()).collect(),
            boundaries: self.boundaries.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(requests: u64) -> PodHistory {
        let count = Count { requests, failed: 1, abandoned: 2 };
        let latency = Histogram { requests, at_most: vec![requests / 2, requests] };
        let none = Histogram { requests: 0, at_most: vec![0, 0] };
        PodHistory {
            from: Timestamp::from_second(1_772_000_000).unwrap(),
            requests: vec![vec![count, Count::default()]],
            boundaries: vec![0.5, 100.0],
            latency: vec![vec![latency, none]],
        }
    }

    fn found() -> Found {
        let pods = vec!["web-6c-abcde".to_owned(), "web-6c-fghij".to_owned()];
        Found { label: "pod".to_owned(), replica_set: "web-6c".to_owned(), pods }
    }

    /// A file of its own, gone with the value.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("{}-{name}", std::process::id()));
            let _ = std::fs::remove_file(&path);
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn open(path: &Path, question: &str) -> Result<Store> {
        Store::open(Some(path), question.to_owned())
    }

    #[test]
    fn an_interrupted_run_goes_on_with_what_was_whole() {
        let file = Scratch::new("interrupted.state");
        let mut store = open(&file.0, "q").unwrap();
        assert_eq!(store.found(), None);
        store.find(&found()).unwrap();
        store.keep(0, &history(10)).unwrap();
        store.keep(1, &history(20)).unwrap();
        drop(store);
        let text = std::fs::read_to_string(&file.0).unwrap();
        std::fs::write(&file.0, &text[..text.len() - 5]).unwrap();
        let mut store = open(&file.0, "q").unwrap();
        assert_eq!(store.found(), Some(&found()));
        assert_eq!((store.take(0), store.take(1)), (Some(history(10)), None));
        store.keep(1, &history(30)).unwrap();
        drop(store);
        assert_eq!(open(&file.0, "q").unwrap().take(1), Some(history(30)));
    }

    #[test]
    fn a_file_of_something_else_is_refused_and_left_alone() {
        let file = Scratch::new("other.state");
        let why = |question: &str| format!("{:#}", open(&file.0, question).err().unwrap());
        for text in ["a letter, all of one line", "a letter\nof two lines\n", "{}\n"] {
            std::fs::write(&file.0, text).unwrap();
            assert!(why("q").contains("none of a backtest"), "{text}");
            assert_eq!(std::fs::read_to_string(&file.0).unwrap(), text);
        }
        std::fs::remove_file(&file.0).unwrap();
        open(&file.0, "q").unwrap().find(&found()).unwrap();
        assert!(why("another").contains("another question"));
        let text = std::fs::read_to_string(&file.0).unwrap();
        std::fs::write(&file.0, text.replace("\"version\":2", "\"version\":9")).unwrap();
        assert!(why("q").contains("another version"));
        std::fs::write(&file.0, text + "{\"piece\":\n").unwrap();
        assert!(why("q").contains("broken at line 2"));
    }

    #[test]
    fn without_a_file_nothing_is_kept() {
        let mut store = Store::open(None, "q".to_owned()).unwrap();
        store.keep(0, &history(1)).unwrap();
        assert_eq!(store.take(0), None);
    }
}
