//! What the demo shows: a screen on a terminal, lines elsewhere.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use mesh_sandbox::Tally;

use super::shop::{NAMESPACE, SERVICES, Shop, of};
use crate::cli::page::{Page, Tone};
use crate::cli::table::{self, Columns};
use crate::cli::terminal::{Terminal, frame, show};
use crate::cli::times::between;
use crate::cli::view::View;
use crate::sandbox::timeline::Timeline;

/// How often a screen is drawn.
const FRAME: Duration = Duration::from_millis(250);
/// Over how long requests are counted that are shown as so many a second.
const WINDOW: usize = 20;
/// Columns of a bar.
const BAR: usize = 20;

/// What is told, and whether all is over. Clones are the same.
#[derive(Clone, Default)]
pub struct News {
    lines: Rc<RefCell<Vec<String>>>,
    done: Rc<Cell<bool>>,
}

impl News {
    /// Tell something.
    pub fn say(&self, shop: &Shop, text: &str) {
        self.lines.borrow_mut().push(format!("{} {text}", time(shop.cluster.clock.now())));
    }

    /// Both releases have ended as they should.
    pub fn done(&self) {
        self.done.set(true);
    }

    /// What Ctrl-C ends with: well only after both releases.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        // 128 and the number of the signal, as shells have it.
        if self.done.get() { ExitCode::SUCCESS } else { ExitCode::from(130) }
    }
}

/// The screen.
pub struct Screen {
    terminal: Terminal,
    /// How to reach the cluster from elsewhere.
    hints: String,
    timelines: Vec<Timeline>,
    news: News,
    told: usize,
    /// Requests of each service.
    counts: Vec<Counts>,
}

/// Requests to stable and to the canary so far, as counted at some moments, the latest last.
type Counts = VecDeque<(Timestamp, [Tally; 2])>;

fn time(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string()
}

impl Screen {
    /// Of the shop as it is now.
    #[must_use]
    pub fn new(shop: &Shop, terminal: Terminal, kubeconfig: &Path, speed: f64) -> Self {
        let mut hints = format!(
            "In another terminal, with `kubectl-surefoot` on the PATH:\n\
             \n  export KUBECONFIG={}\
             \n  kubectl get rollouts -n {NAMESPACE}\
             \n  kubectl set image deployment/web web=registry.test/web:v2 -n {NAMESPACE}\
             \n  kubectl surefoot status web --watch -n {NAMESPACE}\
             \n  kubectl surefoot abort web -n {NAMESPACE}\
             \n\nA version with \"bad\" or \"slow\" in its tag is so.",
            kubeconfig.display()
        );
        if (speed - 1.0).abs() > f64::EPSILON {
            // Writing to a String doesn't fail.
            let _ = write!(hints, " Time goes {speed} times as fast here: ages look wrong there.");
        }
        let counts = vec![Counts::new(); SERVICES.len()];
        let timelines = SERVICES.iter().map(|name| of(name).timeline(&shop.cluster)).collect();
        Self { terminal, hints, timelines, news: News::default(), told: 0, counts }
    }

    /// What comes first.
    #[must_use]
    pub fn begin(&self) -> String {
        match self.terminal.lines {
            Some(_) => "\u{1b}[2J".to_owned(),
            None => format!("{}\n\n", self.hints),
        }
    }

    /// Where to tell things.
    #[must_use]
    pub fn news(&self) -> News {
        self.news.clone()
    }

    /// Show what happens, as it happens.
    ///
    /// # Errors
    /// When standard output is closed.
    pub async fn keep(&mut self, shop: &Shop) -> Result<()> {
        loop {
            self.draw(shop)?;
            tokio::time::sleep(FRAME).await;
        }
    }

    /// What comes last: everything that hasn't been shown.
    pub fn end(&mut self, shop: &Shop) -> String {
        self.look(shop);
        match self.terminal.lines {
            Some(lines) => frame(&self.page(shop), lines),
            None => self.fresh(),
        }
    }

    fn draw(&mut self, shop: &Shop) -> Result<()> {
        self.look(shop);
        match self.terminal.lines {
            Some(lines) => show(&frame(&self.page(shop), lines)),
            None => show(&self.fresh()),
        }
    }

    /// Take in what has happened.
    fn look(&mut self, shop: &Shop) {
        for (name, timeline) in SERVICES.iter().zip(&mut self.timelines) {
            for line in timeline.follow(&shop.cluster.api) {
                self.news.say(shop, &format!("{name:<9} {:<11} {}", line.what, line.note));
            }
        }
        if self.terminal.lines.is_none() {
            return;
        }
        for (name, counts) in SERVICES.iter().zip(&mut self.counts) {
            let mut sums = [Tally::default(); 2];
            for ((service, _), tally) in shop.cluster.mesh(|m| m.tallies(NAMESPACE, name)) {
                sums[usize::from(service.ends_with("-canary"))] += tally;
            }
            counts.push_back((shop.cluster.clock.now(), sums));
            if counts.len() > WINDOW {
                counts.pop_front();
            }
        }
    }

    /// The screen, as high as it is: tables, traffic, news and hints.
    fn page(&self, shop: &Shop) -> String {
        let (now, style) = (shop.cluster.clock.now(), self.terminal.style);
        let mut page = Page::new(style);
        let title = format!("Surefoot demo · {} · shop of {}", time(now), SERVICES.join(", "));
        page.heading(&title);
        let rollouts: Vec<_> =
            SERVICES.iter().filter_map(|name| of(name).rollout(&shop.cluster).ok()).collect();
        let views: Vec<View> = rollouts.iter().map(|rollout| View::new(rollout, now)).collect();
        let mut text = page.finish() + "\n" + &table::render(&views, Columns::default(), style);
        let mut page = Page::new(style);
        page.put("", "");
        for (name, counts) in SERVICES.iter().zip(&self.counts) {
            page.put(&format!("{name:<9} "), &self.traffic(shop, name, counts));
        }
        text += &page.finish();
        let mut hints = Page::new(style);
        hints.put("", "");
        for line in self.hints.lines() {
            let command = line.strip_prefix("  ");
            hints.put(if command.is_some() { "  " } else { "" }, command.unwrap_or(line));
        }
        hints.put("", "Ctrl-C ends it.");
        let hints = hints.finish();
        let height = |text: &str| text.lines().count();
        // What is left of the screen, with a line to spare.
        let lines = self.terminal.lines.unwrap_or(usize::MAX);
        let room = lines.saturating_sub(height(&text) + height(&hints) + 2);
        let mut told = Page::new(style);
        told.put("", "");
        let news = self.news.lines.borrow();
        for line in &news[news.len().saturating_sub(room)..] {
            let cut: String = line.chars().take(style.width).collect();
            told.put("", &cut);
        }
        text + &told.finish() + &hints
    }

    /// Who gets the requests of a service: "██████████████████░░ 900 req/s, 0.1% fail → 100 req/s, …".
    fn traffic(&self, shop: &Shop, name: &str, counts: &Counts) -> String {
        let (Some((then, before)), Some((now, after))) = (counts.front(), counts.back()) else {
            return String::new();
        };
        let seconds = between(*then, *now).as_secs_f64().max(0.001);
        let share = usize::try_from(of(name).weight(&shop.cluster)).unwrap_or(0).min(100);
        let canary = share * BAR / 100;
        let bar = "█".repeat(BAR - canary) + &"░".repeat(canary);
        let side = |i: usize, what: &str| {
            let Tally { requests, failed } = after[i] - before[i];
            #[expect(clippy::cast_precision_loss, reason = "requests of some seconds")]
            let (rate, failing) =
                (requests as f64 / seconds, failed as f64 / requests.max(1) as f64);
            let tone = if failing > 0.01 { Tone::Bad } else { Tone::Good };
            let failing = self.terminal.style.paint(tone, &format!("{:.1}%", failing * 100.0));
            format!("{what} {rate:.0} req/s, {failing} fail")
        };
        let canary = if share > 0 { format!("   {}", side(1, "canary")) } else { String::new() };
        format!("{bar} {}{canary}", side(0, "stable"))
    }

    /// News that hasn't been shown.
    fn fresh(&mut self) -> String {
        let lines = self.news.lines.borrow();
        let fresh: String = lines[self.told..].iter().map(|line| format!("{line}\n")).collect();
        self.told = lines.len();
        fresh
    }
}
