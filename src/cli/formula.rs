//! The formulas behind a verdict with the numbers put in: what a reader needs to compute it again.

use surefoot_core::api::status::{BoundKind, MetricStatus, ReleaseEvidence, TestSide, TestStatus};
use surefoot_stats::grid;

use super::account::{Account, bound};
use super::explain::Section;

/// One section a metric, then one of the whole; empty where the status keeps no tests.
#[must_use]
pub fn formulas(account: &Account<'_>) -> Vec<Section> {
    let Some(evidence) = account.evidence else { return Vec::new() };
    let told: Vec<&MetricStatus> = account.metrics.iter().filter(|m| !m.tests.is_empty()).collect();
    if told.is_empty() {
        return Vec::new();
    }
    let mut sections = vec![legend(evidence)];
    sections.extend(told.into_iter().map(|m| metric(m, evidence)));
    sections.push(whole(account, evidence));
    sections
}

fn legend(evidence: &ReleaseEvidence) -> Section {
    let points = [
        format!(
            "n1 and k1 are the canary's requests and the bad ones of them, n0 and k0 stable's, \
             since step {} began; p1 and p0 are the true shares. φ is the dispersion: how many times \
             more counts vary than those of independent requests.",
            evidence.step
        ),
        "Each test is an e-process: while its null is true, E ever reaches x with a chance of at \
         most 1/x, however often one looks (Ville's inequality). It mixes alternatives: E is the \
         weighted mean of e."
            .to_owned(),
        "The controller adds up ln e block by block (15 to 60 s), each with the rate of stable \
         that was predicted before it. Computed again from the totals, as one block, it comes near \
         that: both are given."
            .to_owned(),
    ];
    Section { title: "The formula: what the letters mean".to_owned(), points: points.into() }
}

fn metric(metric: &MetricStatus, evidence: &ReleaseEvidence) -> Section {
    let phi = metric.dispersion.as_deref().unwrap_or("1");
    let mut points: Vec<String> = metric.tests.iter().filter_map(|t| test(t, phi)).collect();
    points.extend(votes(metric));
    let sides = |side: TestSide| metric.tests.iter().filter(|t| t.side == side).count();
    if sides(TestSide::Harm) > 1 || metric.slower_than.is_some() {
        points.push(
            "Harm since a step began: of several tolerances (difference, ratio) the smallest E; \
             of an objective the smaller of its own and, while stable has traffic, that of ratio \
             1; of a tolerance and an objective the mean; of a slowdown the mean over all \
             boundaries of the histogram, of which the loudest is shown."
                .to_owned(),
        );
    }
    if sides(TestSide::Safety) > 1 {
        points.push(
            "Safety: the mean of a difference's and a ratio's; an objective's only where nothing \
             can be compared."
                .to_owned(),
        );
    }
    points.extend(over_steps(metric, evidence));
    Section { title: format!("The formula: {}", metric.name), points }
}

/// What the minutes vote on, and how that goes with the requests' half.
fn votes(metric: &MetricStatus) -> Option<String> {
    let exponent = metric.vote_exponent.as_deref()?;
    metric.tests.iter().find(|t| t.votes.is_some())?;
    let grid: &[f64] = if metric.slower_than.is_some() { &grid::SLOW_VOTE } else { &grid::HARM };
    Some(format!(
        "Votes: where requests fail in bursts they are no independent witnesses, so that every \
         minute has one vote as well, with its own n1, n0 and the canary's share S = k1/(k1 + k0) of \
         its bad requests: e(h) = (1 + S·(h − 1))·(R·n1 + n0)/(h·R·n1 + n0), h = {} with equal \
         weights, R = (R0 − {rare})/(1 − {rare}) for the null's ratio R0. A minute that is not over \
         counts as min(1, e). E of harm is the mean of the requests' and of the votes' to the power \
         of η = {exponent}.",
        list(grid),
        rare = surefoot_stats::vote::HIGHEST_RATE,
    ))
}

/// "Harm over 3 steps: E = (e^5.42 + e^0.80 + 1)/3".
fn over_steps(metric: &MetricStatus, evidence: &ReleaseEvidence) -> Option<String> {
    let harm = metric.harm.as_ref()?;
    let steps = usize::try_from(evidence.steps).ok()?;
    let begun = metric.harm_by_step.iter().map(|log_e| format!("e^{log_e}"));
    let terms: Vec<String> =
        begun.chain(std::iter::repeat_n("1".to_owned(), steps)).take(steps).collect();
    Some(format!(
        "Harm of the metric: the mean over the release's steps of E since each began, 1 for those \
         that haven't: E = ({})/{steps}, ln E = {}.",
        terms.join(" + "),
        harm.log_e
    ))
}

fn whole(account: &Account<'_>, evidence: &ReleaseEvidence) -> Section {
    let share = |budget: &str, log_e: &str| format!("{budget}·e^{log_e}");
    let metrics = account
        .metrics
        .iter()
        .filter_map(|m| Some(share(m.budget.as_deref()?, &m.harm.as_ref()?.log_e)));
    let guard = &evidence.crash_guard;
    let terms: Vec<String> = metrics.chain([share(&guard.budget, &guard.log_e)]).collect();
    let points = vec![
        format!(
            "The sum of budget·E over metrics and crash guard, {}, rolls back at 1/falseRollback = \
             1/{}. The largest after any block counts: ln of it is {}.",
            terms.join(" + "),
            evidence.false_rollback,
            evidence.harm.log_e
        ),
        format!(
            "A required metric passes the step while its E of safety is at least 1/falsePass = 1/{}.",
            evidence.false_pass
        ),
    ];
    Section { title: "The formula: the release".to_owned(), points }
}

fn test(test: &TestStatus, phi: &str) -> Option<String> {
    let [n1, k1, n0, k0] = test.counts.as_slice() else { return None };
    let value = &test.value;
    let within = match (test.side, test.bound) {
        (TestSide::Harm, BoundKind::Difference) => format!("p1 ≤ p0 + {value}"),
        (TestSide::Safety, BoundKind::Difference) => format!("p1 ≥ p0 + {value}"),
        (TestSide::Harm, BoundKind::Ratio) => format!("p1 ≤ {value}·p0"),
        (TestSide::Safety, BoundKind::Ratio) => format!("p1 ≥ {value}·p0"),
        (TestSide::Harm, BoundKind::Objective) => format!("p1 ≤ {value}"),
        (TestSide::Safety, BoundKind::Objective) => format!("p1 ≥ {value}"),
        (TestSide::Harm, BoundKind::Pairs) => "p1 ≤ 1/2".to_owned(),
        (TestSide::Safety, BoundKind::Pairs) => "p1 ≥ 1/2".to_owned(),
    };
    let side = match test.side {
        TestSide::Harm => "Harm",
        TestSide::Safety => "Safety",
    };
    let formula = match test.bound {
        BoundKind::Difference => difference(test, [*n1, *k1, *n0, *k0], phi)?,
        BoundKind::Ratio => format!(
            "ln e(R) = ({k1}·ln(R/{value}) − {}·ln((R·{n1} + {n0})/({value}·{n1} + {n0})))/{phi}, \
             {}",
            k1.saturating_add(*k0),
            ratios(test)
        ),
        BoundKind::Objective => format!(
            "ln e(h) = ({k1}·ln h − {n1}·ln(1 + (h − 1)·{value}))/{phi}, h = {} with equal weights",
            list(match test.side {
                TestSide::Harm => &grid::HARM,
                TestSide::Safety => &grid::OBJECTIVE_SAFE,
            })
        ),
        BoundKind::Pairs => {
            let (with, against) = match test.side {
                TestSide::Harm => (*k1, n1.saturating_sub(*k1)),
                TestSide::Safety => (n1.saturating_sub(*k1), *k1),
            };
            format!(
                "n1 are pairs of numbers taken at the same time, k1 those in which the canary's was \
                 above {value} times stable's. ln e(λ) = ({with}·ln(1 + λ) + {against}·ln(1 − λ))/{phi}, \
                 λ = {} with equal weights",
                list(&surefoot_stats::sign::STAKES)
            )
        }
    };
    let votes = test.votes.as_ref().map(|votes| format!(" The minutes' votes: ln E = {votes}."));
    Some(format!(
        "{side}, {}. Null: {within}. n1 = {n1}, k1 = {k1}, n0 = {n0}, k0 = {k0}. {formula}. ln E = \
         {} as one block, {} as added up.{}",
        bound(test)?,
        test.in_one_block,
        test.log_e,
        votes.unwrap_or_default()
    ))
}

fn ratios(test: &TestStatus) -> String {
    match test.side {
        TestSide::Harm => {
            let grid: &[f64] = if test.slower_than.is_some() { &grid::SLOW } else { &grid::HARM };
            format!("R = {}·h, h = {} with equal weights", test.value, list(grid))
        }
        TestSide::Safety => {
            format!("R = {} with weights {}", list(&grid::SAFE), list(&grid::SAFE_WEIGHTS))
        }
    }
}

fn difference(test: &TestStatus, [n1, k1, n0, k0]: [i64; 4], phi: &str) -> Option<String> {
    let (d, th0) = (&test.value, test.predicted.as_deref()?);
    let alternatives = match test.side {
        TestSide::Harm => format!(
            "θ1 = {th0} + {d}·h, at most 1, h = {} with equal weights",
            list(&grid::ABSOLUTE)
        ),
        TestSide::Safety => format!(
            "θ1 = {th0}/2, {th0} and {th0} + {d}/4 with weights {}",
            list(&grid::ABSOLUTE_SAFE_WEIGHTS)
        ),
    };
    let n = n1.saturating_add(n0);
    Some(format!(
        "Stable's rate is predicted to be θ0 = {th0}; {alternatives}; t is the positive root of \
         {n}·t² + ({n}·{d} − {n1}·θ1 − {n0}·{th0})·t − {n0}·{th0}·{d} = 0. ln e(θ1) = \
         ({k1}·ln(θ1/(t + {d})) + {k0}·ln({th0}/t) − {n1}·(θ1 − t − {d}) − {n0}·({th0} − t))/{phi}"
    ))
}

fn list(numbers: &[f64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(f64::to_string).collect();
    numbers.join(", ")
}
