//! Numbers that the API carries as text, because the Kubernetes API has no floats.
//!
//! Each type holds what the user wrote and parses it once, when a [`Plan`](crate::plan::Plan) is
//! made. In a template a value may be a placeholder, `{{args.NAME}}`; those are filled in before.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

const PLACEHOLDER: &str = r"\{\{ ?args\.[a-zA-Z][a-zA-Z0-9_]* ?\}\}";

/// What is wrong with a text value, without its place (the plan adds that).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted}")]
pub struct TextError {
    /// What was written.
    pub text: String,
    /// What was expected, with an example.
    pub wanted: &'static str,
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "maxLength": 64,
                    "pattern": format!("^({}|{PLACEHOLDER})$", $pattern),
                })
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

text!(
    /// A share in per cent: `"99.5%"`.
    Percent,
    r"[0-9]{1,3}(\.[0-9]{1,6})?%"
);
text!(
    /// A difference in percentage points: `"0.5pp"`.
    Points,
    r"[0-9]{1,3}(\.[0-9]{1,6})?pp"
);
text!(
    /// A ratio: `"1.5"`.
    Ratio,
    r"[0-9]{1,6}(\.[0-9]{1,6})?"
);
text!(
    /// A number with a sign: `"-2.5"`.
    Number,
    r"-?[0-9]{1,15}(\.[0-9]{1,9})?"
);
text!(
    /// A length of time as Go writes it: `"90s"`, `"1h30m"`; more than zero, at most a day.
    Span,
    r"([0-9]{1,6}(ms|s|m|h))+"
);
text!(
    /// A number of pods or a share of the Deployment's replicas: `"2"` or `"25%"`.
    CountOrPercent,
    r"[0-9]{1,5}|[0-9]{1,3}%"
);

fn number(text: &str, suffix: &str, wanted: &'static str) -> Result<f64, TextError> {
    text.strip_suffix(suffix)
        .and_then(|n| n.parse::<f64>().ok())
        .filter(|n| n.is_finite())
        .ok_or_else(|| TextError { text: text.to_owned(), wanted })
}

impl Percent {
    /// As a fraction: `"99.5%"` is 0.995. At most 1.
    pub fn fraction(&self) -> Result<f64, TextError> {
        let wanted = "a percentage from 0% to 100%, such as \"99.5%\"";
        let n = number(&self.0, "%", wanted)?;
        if (0.0..=100.0).contains(&n) {
            Ok(n / 100.0)
        } else {
            Err(TextError { text: self.0.clone(), wanted })
        }
    }
}

impl Points {
    /// As a fraction: `"0.5pp"` is 0.005. More than 0, at most 1.
    pub fn fraction(&self) -> Result<f64, TextError> {
        let wanted = "a number of percentage points above 0pp, such as \"0.5pp\"";
        let n = number(&self.0, "pp", wanted)?;
        if n > 0.0 && n <= 100.0 {
            Ok(n / 100.0)
        } else {
            Err(TextError { text: self.0.clone(), wanted })
        }
    }
}

impl Ratio {
    /// The ratio; more than 1, since every ratio of this API is a tolerance.
    pub fn value(&self) -> Result<f64, TextError> {
        let wanted = "a ratio above 1, such as \"1.5\"";
        let n = number(&self.0, "", wanted)?;
        if n > 1.0 { Ok(n) } else { Err(TextError { text: self.0.clone(), wanted }) }
    }
}

impl Number {
    /// The number.
    pub fn value(&self) -> Result<f64, TextError> {
        number(&self.0, "", "a number, such as \"100\"")
    }
}

impl Span {
    /// The length of time.
    pub fn duration(&self) -> Result<Duration, TextError> {
        let error = || TextError {
            text: self.0.clone(),
            wanted: "a length of time above 0s and up to 24h, such as \"90s\" or \"1h30m\"",
        };
        let span: jiff::SignedDuration = self.0.parse().map_err(|_| error())?;
        let span = Duration::try_from(span).map_err(|_| error())?;
        if span.is_zero() || span > Duration::from_secs(24 * 3600) {
            return Err(error());
        }
        Ok(span)
    }
}

impl CountOrPercent {
    /// How many pods this is of `replicas`, rounded up, at least one and at most `replicas`.
    pub fn of(&self, replicas: u32) -> Result<u32, TextError> {
        let error = || TextError {
            text: self.0.clone(),
            wanted: "a number of pods or a percentage, such as \"2\" or \"25%\"",
        };
        let wanted = match self.0.strip_suffix('%') {
            Some(n) => {
                let n: u64 = n.parse().map_err(|_| error())?;
                u32::try_from((u64::from(replicas) * n).div_ceil(100)).map_err(|_| error())?
            }
            None => self.0.parse().map_err(|_| error())?,
        };
        Ok(wanted.clamp(1, replicas.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_parse_and_say_what_they_want() {
        assert_eq!(Percent::from("99.5%").fraction(), Ok(0.995));
        assert_eq!(Points::from("0.5pp").fraction(), Ok(0.005));
        assert_eq!(Ratio::from("1.5").value(), Ok(1.5));
        assert_eq!(Span::from("1h30m").duration(), Ok(Duration::from_secs(5400)));
        assert_eq!(CountOrPercent::from("25%").of(5), Ok(2));
        assert_eq!(CountOrPercent::from("9").of(4), Ok(4));
        for bad in ["0s", "25h", "", "1w"] {
            assert!(Span::from(bad).duration().is_err(), "{bad}");
        }
        let said = Ratio::from("0.9").value().map_err(|e| e.to_string());
        assert_eq!(said, Err("\"0.9\" is not a ratio above 1, such as \"1.5\"".to_owned()));
    }
}
