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

    /// Whether Prometheus keeps what is on the way to the answer in maps, whose order is chance: so
    /// is that of sums then, and with it the last digit of a value.
    fn has_chance(&self) -> bool {
        let shuffled = ["histogram_quantile", ":"];
        let maps = shuffled.iter().any(|part| self.query().contains(part));
        maps || self.path.ends_with("query_range")
    }
}

/// How alike two answers are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Alike {
    /// To the letter. What is wrong with the text of a query each parser may say in its own words.
    Same,
    /// But for the order of series, or the last digits of values, where these are chance.
    Nearly,
    /// Not at all.
    Different,
}

fn compare(question: &Question, ours: &(u16, String), theirs: &(u16, String)) -> Alike {
    if ours == theirs {
        return Alike::Same;
    }
    let json = |answer: &(u16, String)| -> Value { serde_json::from_str(&answer.1).unwrap() };
    let (mine, other) = (json(ours), json(theirs));
    if ours.0 != theirs.0 || mine["errorType"] != other["errorType"] {
        return Alike::Different;
    }
    match ours.0 {
        400 if other["error"].to_string().contains("parse error") => Alike::Same,
        422 if question.has_chance() => Alike::Nearly,
        200 if question.has_chance() && near(&sorted(&mine), &sorted(&other)) => Alike::Nearly,
        _ => Alike::Different,
    }
}

fn sorted(body: &Value) -> Value {
    let mut data = body["data"].clone();
    if let Some(result) = data["result"].as_array_mut() {
        result.sort_by_key(|series| series["metric"].to_string());
    }
    data
}

/// Equal but for the last digits of numbers in texts.
fn near(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| near(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| near(a, b)))
        }
        (a, b) => {
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs());
            a == b || number(a).zip(number(b)).is_some_and(|(a, b)| close(a, b))
        }
    }
}

/// What came of asking both.
#[derive(Default)]
struct Tally {
    asked: usize,
    same: usize,
    nearly: usize,
    with_values: usize,
    refused: usize,
    different: Vec<String>,
}

/// Asks both and tells what came of it; `None` without a Prometheus.
fn judged(name: &str, store: &Store, questions: &[Question]) -> Option<Tally> {
    if !real::binary().exists() {
        assert!(std::env::var_os("CI").is_none(), "CI has the real parts: make setup");
        println!(
            "{name}: skipped, 0 of {} questions asked: make setup brings Prometheus",
            questions.len()
        );
        return None;
    }
    let prometheus = Prometheus::start(name);
    let samples = prometheus.fill(store);
    let mut tally = Tally { asked: questions.len(), ..Tally::default() };
    for question in questions {
        let params: Vec<(&str, &str)> =
            question.params.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let ours = api::answer(store, 0, question.path, &params);
        let ours = (ours.status, ours.body);
        let theirs = prometheus.ask(question.path, &question.params).unwrap();
        tally.with_values += usize::from(theirs.1.contains("\"value"));
        tally.refused += usize::from(theirs.0 != 200);
        match compare(question, &ours, &theirs) {
            Alike::Same => tally.same += 1,
            Alike::Nearly => tally.nearly += 1,
            Alike::Different => tally.different.push(format!(
                "{:?}\n  theirs {} {:.1500}\n  ours   {} {:.1500}",
                question.params, theirs.0, theirs.1, ours.0, ours.1
            )),
        }
    }
    let Tally { asked, same, nearly, with_values, refused, different } = &tally;
    println!(
        "{name}: {samples} samples, {asked} questions: {same} the same, {nearly} but for chance, {} \
         different; {with_values} with values, {refused} refused by Prometheus",
        different.len()
    );
    // A judge that has nothing to compare judges nothing.
    assert!(with_values * 5 > asked * 2, "{with_values} answers of {asked} have values");
    assert!(different.is_empty(), "{}", different[..different.len().min(12)].join("\n"));
    Some(tally)
}

#[test]
fn the_controllers_own_questions() {
    let tally = judged("own", data::mesh().store(), &templates::own());
    assert!(tally.is_none_or(|tally| tally.same == tally.asked), "nothing is chance in them");
}

#[test]
fn the_questions_of_common_templates() {
    let questions = [templates::common(), templates::corners()].concat();
    judged("templates", data::mesh().store(), &questions);
}

#[test]
fn questions_by_a_seeded_grammar() {
    judged("grammar", &data::odd(), &grammar::questions(1, 900));
}
