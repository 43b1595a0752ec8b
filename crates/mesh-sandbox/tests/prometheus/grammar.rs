//! Questions by chance: the same seed makes the same ones.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::Question;
use crate::data::START;

struct Words(StdRng);

/// So many questions.
pub fn questions(seed: u64, count: usize) -> Vec<Question> {
    let mut words = Words(StdRng::seed_from_u64(seed));
    (0..count).map(|_| words.question()).collect()
}

impl Words {
    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.0.random_range(0..words.len())]
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.0.random_range(0..one_in) == 0
    }

    fn at(&mut self) -> String {
        let at = START * 1000 + self.0.random_range(0..1_100_000i64);
        match self.0.random_range(0..3u32) {
            // The very instants of samples and their neighbours.
            0 => format!("{}", at / 15_000 * 15),
            1 => format!("{}.{:03}", at / 1000, at % 1000),
            _ => format!("{}", at / 1000),
        }
    }

    fn question(&mut self) -> Question {
        let query = if self.chance(5) { self.scalar(2) } else { self.vector(3) };
        let query = if self.chance(25) { self.range_of(0) } else { query };
        // Which of equals are best is chance where their order is.
        let best = ["topk", "bottomk"].iter().any(|op| query.contains(op));
        if best && [":", "histogram_quantile"].iter().any(|part| query.contains(part)) {
            return self.question();
        }
        if !best && self.chance(3) {
            let start = START + self.0.random_range(0..600i64);
            let end = start + self.0.random_range(0..400i64);
            let step = self.of(&["15", "60s", "1m30s", "7.5"]);
            return Question::range(&query, &start.to_string(), &end.to_string(), step);
        }
        let at = self.at();
        Question::instant(&query, &at)
    }

    fn number(&mut self) -> String {
        self.of(&["0", "1", "2", "0.5", "10", "-1", "100", "1e3", "3.25", "Inf", "NaN", "7"])
            .to_owned()
    }

    fn selector(&mut self) -> String {
        let name = self.of(&["a", "b", "c", "a", "b"]);
        let matchers = self.of(&[
            "",
            "",
            "{}",
            r#"{x="1"}"#,
            r#"{x!="2"}"#,
            r#"{y=~"u|v"}"#,
            r#"{y!~"u.*",x="3"}"#,
            r#"{z=""}"#,
            r#"{nothing="here"}"#,
            r#"{x=~"[12]",y="u"}"#,
        ]);
        format!("{name}{matchers}")
    }

    /// Modifiers of time.
    fn moment(&mut self) -> String {
        let at = START + self.0.random_range(0..900i64);
        let offset = self.of(&["30s", "1m", "-1m", "5m"]);
        match self.0.random_range(0..12u32) {
            0 | 1 => format!(" offset {offset}"),
            2 => format!(" @ {at}"),
            3 => format!(" @ {at}.500 offset {offset}"),
            4 => " @ start()".to_owned(),
            5 => " @ end()".to_owned(),
            _ => String::new(),
        }
    }

    fn range_of(&mut self, depth: u32) -> String {
        let moment = self.moment();
        if depth > 0 && self.chance(6) {
            let inner = self.vector(depth - 1);
            let steps = self.of(&["[2m:30s]", "[5m:1m]", "[3m:]", "[90s:7s]"]);
            return format!("({inner}){steps}{moment}");
        }
        let selector = self.selector();
        let range = self.of(&["[1m]", "[5m]", "[30s]", "[150s]", "[10m]", "[15s]", "[45001ms]"]);
        format!("{selector}{range}{moment}")
    }

    fn labels(&mut self) -> &'static str {
        self.of(&["x", "y", "x, y", "", "z", "x, z"])
    }

    fn scalar(&mut self, depth: u32) -> String {
        if depth == 0 {
            return self.number();
        }
        match self.0.random_range(0..5u32) {
            0 => "time()".to_owned(),
            1 => format!("scalar({})", self.vector(depth - 1)),
            2 => {
                let op = self.of(&["+", "-", "*", "/", "%", "== bool", "< bool", ">= bool"]);
                format!("({} {op} {})", self.scalar(depth - 1), self.scalar(depth - 1))
            }
            3 => format!("-({})", self.scalar(depth - 1)),
            _ => self.number(),
        }
    }

    fn vector(&mut self, depth: u32) -> String {
        if depth == 0 {
            return format!("{}{}", self.selector(), self.moment());
        }
        match self.0.random_range(0..11u32) {
            0 | 1 => {
                let function = self.of(&[
                    "rate",
                    "increase",
                    "delta",
                    "irate",
                    "idelta",
                    "resets",
                    "changes",
                    "deriv",
                    "last_over_time",
                    "sum_over_time",
                    "avg_over_time",
                    "min_over_time",
                    "max_over_time",
                    "count_over_time",
                    "stddev_over_time",
                    "stdvar_over_time",
                    "present_over_time",
                    "absent_over_time",
                ]);
                format!("{function}({})", self.range_of(depth))
            }
            2 => match self.0.random_range(0..3u32) {
                0 => format!("quantile_over_time({}, {})", self.number(), self.range_of(depth)),
                1 => {
                    // With @ Prometheus 2.42 predicts from samples of other times than it says.
                    let range = self.range_of(0);
                    let range = if range.contains('@') { "a[1m]".to_owned() } else { range };
                    format!("predict_linear({range}, {})", self.number())
                }
                _ => format!("rate({})", self.range_of(depth)),
            },
            3 | 4 => self.aggregation(depth),
            5 => {
                let op =
                    self.of(&["+", "-", "*", "/", "%", "==", "!=", "<", ">", "<=", ">=", "> bool"]);
                let (vector, scalar) = (self.vector(depth - 1), self.scalar(depth - 1));
                if self.chance(2) {
                    format!("{vector} {op} {scalar}")
                } else {
                    format!("{scalar} {op} {vector}")
                }
            }
            6 | 7 => self.operation(depth),
            8 => self.function(depth),
            9 => format!("({})", self.vector(depth - 1)),
            _ => format!("{}{}", self.selector(), self.moment()),
        }
    }

    fn aggregation(&mut self, depth: u32) -> String {
        let op = self.of(&[
            "sum",
            "avg",
            "min",
            "max",
            "count",
            "group",
            "stddev",
            "stdvar",
            "topk",
            "bottomk",
            "quantile",
            "count_values",
        ]);
        let number = self.of(&["1", "2", "3", "5"]);
        let param = match op {
            "topk" | "bottomk" => format!("{number}, "),
            "quantile" => format!("{}, ", self.number()),
            "count_values" => "\"value\", ".to_owned(),
            _ => String::new(),
        };
        let by = match self.0.random_range(0..3u32) {
            0 => String::new(),
            1 => format!(" by ({})", self.labels()),
            _ => format!(" without ({})", self.labels()),
        };
        format!("{op}{by} ({param}{})", self.vector(depth - 1))
    }

    fn operation(&mut self, depth: u32) -> String {
        let op = self.of(&["+", "-", "*", "/", "==", "!=", ">", "< bool", "and", "or", "unless"]);
        let sets = ["and", "or", "unless"].contains(&op);
        let on = match self.0.random_range(0..4u32) {
            0 => format!(" on ({})", self.of(&["x", "x, y", "y"])),
            1 => format!(" ignoring ({})", self.of(&["z", "y", "x, z"])),
            _ => String::new(),
        };
        let group = if sets || on.is_empty() {
            ""
        } else {
            self.of(&["", "", " group_left", " group_right", " group_left (z)"])
        };
        format!("({}) {op}{on}{group} ({})", self.vector(depth - 1), self.vector(depth - 1))
    }

    fn function(&mut self, depth: u32) -> String {
        let inner = self.vector(depth - 1);
        match self.0.random_range(0..12u32) {
            0 => format!("abs({inner})"),
            1 => format!("clamp({inner}, {}, {})", self.number(), self.number()),
            2 => format!("clamp_min({inner}, {})", self.number()),
            3 => format!("round({inner}, {})", self.of(&["1", "0.1", "5"])),
            4 => format!("vector({})", self.scalar(depth - 1)),
            // With @ and offset together Prometheus 2.42 forgets the offset in part.
            5 if inner.contains('@') => "timestamp(a)".to_owned(),
            5 => format!("timestamp({inner})"),
            6 => format!("absent({inner})"),
            7 => format!(
                r#"label_replace({inner}, "new", "$1-{}", "y", "(u|v)")"#,
                self.of(&["k", "$2", ""])
            ),
            8 => format!(r#"label_join({inner}, "both", "-", "x", "y")"#),
            9 => format!(
                "{}({inner})",
                self.of(&["sort", "sort_desc", "floor", "ceil", "sgn", "sqrt"])
            ),
            10 => format!("-({inner})"),
            _ => {
                let (q, range) = (self.number(), self.of(&["1m", "5m"]));
                let by = self.of(&["le", "le, x"]);
                if self.chance(2) {
                    return format!("histogram_quantile({q}, h_bucket{})", self.moment());
                }
                format!("histogram_quantile({q}, sum by ({by}) (rate(h_bucket[{range}])))")
            }
        }
    }
}
