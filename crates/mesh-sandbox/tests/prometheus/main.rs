//! The in-memory Prometheus judged by the real one: both have the same samples, both are asked the
//! same, and the bodies must be the same to the letter.

#![expect(clippy::unwrap_used, reason = "a test says what failed by panicking")]

mod data;
mod grammar;
mod real;
mod templates;

use mesh_sandbox::api;
use mesh_sandbox::store::Store;
use serde_json::Value;

use real::Prometheus;

/// A question: a path and parameters.
#[derive(Clone, Debug)]
pub struct Question {
    path: &'static str,
    params: Vec<(String, String)>,
}

impl Question {
    /// For values at an instant, seconds since the epoch.
    pub fn instant(query: &str, at: &str) -> Self {
        let params = [("query", query), ("time", at), ("timeout", "5s")];
        Self::new("/api/v1/query", &params)
    }

    /// For values at several.
    pub fn range(query: &str, start: &str, end: &str, step: &str) -> Self {
        let params = [("query", query), ("start", start), ("end", end), ("step", step)];
        Self::new("/api/v1/query_range", &params)
    }

    fn new(path: &'static str, params: &[(&str, &str)]) -> Self {
        let params = params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Self { path, params }
    }

    fn query(&self) -> &str {
        self.params.first().map_or("", |(_, query)| query)
    }

    /// Prometheus keeps these in a map, whose order is chance; ranges it sorts.
    fn unordered(&self) -> bool {
        let shuffled = ["histogram_quantile", ":"];
        self.path.ends_with("query") && shuffled.iter().any(|part| self.query().contains(part))
    }
}

/// A body in which only what must be the same is left.
fn comparable(question: &Question, status: u16, body: &str) -> String {
    let mut json: Value = serde_json::from_str(body).unwrap();
    if status == 400 {
        // What exactly is wrong with the text of a query each parser says in its own words.
        return json["errorType"].to_string();
    }
    if !question.unordered() {
        return body.to_owned();
    }
    if let Some(result) = json["data"]["result"].as_array_mut() {
        result.sort_by_key(Value::to_string);
    }
    json.to_string()
}

/// What came of asking both.
#[derive(Default)]
struct Tally {
    asked: usize,
    with_values: usize,
    refused: usize,
    different: Vec<String>,
}

fn judged(name: &str, store: &Store, questions: &[Question]) {
    if !real::binary().exists() {
        assert!(std::env::var_os("CI").is_none(), "CI has the real parts: make setup");
        println!(
            "{name}: skipped, {} questions not asked: no Prometheus; make setup brings it",
            questions.len()
        );
        return;
    }
    let prometheus = Prometheus::start(name);
    let samples = prometheus.fill(store);
    let mut tally = Tally::default();
    for question in questions {
        let params: Vec<(&str, &str)> =
            question.params.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let ours = api::answer(store, 0, question.path, &params);
        let (status, theirs) = prometheus.ask(question.path, &question.params).unwrap();
        tally.asked += 1;
        tally.with_values += usize::from(theirs.contains("\"value"));
        tally.refused += usize::from(status != 200);
        let same = status == ours.status
            && comparable(question, status, &theirs)
                == comparable(question, ours.status, &ours.body);
        if !same {
            tally.different.push(format!(
                "{:?}\n  theirs {status} {theirs:.1500}\n  ours   {} {:.1500}",
                question.params, ours.status, ours.body
            ));
        }
    }
    let Tally { asked, with_values, refused, different } = tally;
    println!(
        "{name}: {samples} samples, {asked} questions: {} same, {} different; {with_values} with \
         values, {refused} refused by Prometheus",
        asked - different.len(),
        different.len()
    );
    // A judge that has nothing to compare judges nothing.
    assert!(with_values * 5 > asked * 2, "{with_values} answers of {asked} have values");
    assert!(different.is_empty(), "{}", different[..different.len().min(12)].join("\n"));
}

#[test]
fn the_controllers_own_questions() {
    let mesh = data::mesh();
    judged("own", mesh.store(), &templates::own());
}

#[test]
fn the_questions_of_common_templates() {
    let mesh = data::mesh();
    judged("templates", mesh.store(), &templates::common());
}

#[test]
fn questions_by_a_seeded_grammar() {
    judged("grammar", &data::odd(), &grammar::questions(1, 900));
}
