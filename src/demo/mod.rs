//! `surefoot demo`: a good release and a bad one in a cluster in memory, in one process. kubectl and
//! the plugin work against it from another terminal.

mod screen;
pub mod shop;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use surefoot_core::api::status::{Outcome, PastRelease};

use self::screen::Screen;
use self::shop::{NAMESPACE, Shop, number};
use crate::cli::terminal::{Terminal, show};
use crate::cli::times::{between, length};
use crate::clock::{Clock, pace};
use crate::sandbox::{self, App};

/// A release that isn't over by then has failed.
const LIMIT: Duration = Duration::from_secs(1200);
/// So that one can read in between.
const PAUSE: Duration = Duration::from_secs(3);

/// Options of `surefoot demo`.
#[derive(Debug, Args)]
pub struct Options {
    /// How many times as fast as real time
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// The port of the API server, on the loopback address; 0 is any that is free
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Where to write the kubeconfig; default: a file among the temporary ones
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Release nothing: only have the shop there, for kubectl
    #[arg(long, conflicts_with = "exit")]
    idle: bool,
    /// End after both releases, also on a terminal
    #[arg(long)]
    exit: bool,
    /// What chance comes from: the same seed gives the same traffic
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.1..=1000.0).contains(&number) => Ok(number),
        _ => Err("give a number from 0.1 to 1000, such as 60".to_owned()),
    }
}

/// The kubeconfig, which goes when the demo ends.
struct Kubeconfig(PathBuf);

impl Kubeconfig {
    fn write(path: Option<&Path>, text: &str) -> Result<Self> {
        let own = || {
            let name = format!("surefoot-demo-{}.kubeconfig", std::process::id());
            std::env::temp_dir().join(name)
        };
        let path = path.map_or_else(own, Path::to_owned);
        std::fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Kubeconfig {
    fn drop(&mut self) {
        // Somebody may have taken it away already.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Run it. On a terminal it goes on after its releases until Ctrl-C.
///
/// # Errors
/// When a release ends otherwise than it should, or the port can't be had.
pub fn run(options: &Options) -> Result<ExitCode> {
    sandbox::runtime().context("starting a runtime")?.block_on(play(options))
}

async fn play(options: &Options) -> Result<ExitCode> {
    let terminal = Terminal::look();
    let shop = Shop::open(options.seed, Clock::System.now()).await?;
    let server = shop.cluster.api.listen(options.port).await.context("listening for kubectl")?;
    let config = Kubeconfig::write(options.kubeconfig.as_deref(), &server.kubeconfig())?;
    let mut screen = Screen::new(&shop, terminal, &config.0, options.speed);
    show(&screen.begin())?;
    let stays = options.idle || (terminal.lines.is_some() && !options.exit);
    // From here on time goes as told; before, it jumped.
    let pace = tokio::spawn(pace(options.speed));
    let controller = tokio::spawn(shop.cluster.operate(None));
    let outcome = {
        let news = screen.news();
        let script = async {
            if options.idle {
                shop.ready().await?;
                news.say(&shop, "the shop is open");
            } else {
                script(&shop, &news).await?;
            }
            if stays {
                std::future::pending::<()>().await;
            }
            Ok(())
        };
        tokio::select! {
            outcome = script => outcome.map(|()| ExitCode::SUCCESS),
            shown = screen.keep(&shop) => shown.map(|()| ExitCode::SUCCESS),
            _ = tokio::signal::ctrl_c() => Ok(news.exit_code()),
        }
    };
    controller.abort();
    pace.abort();
    show(&screen.end(&shop))?;
    outcome
}

/// The two releases.
async fn script(shop: &Shop, news: &screen::News) -> Result<()> {
    shop.ready().await?;
    tokio::time::sleep(PAUSE).await;
    let good = released(shop, news, "cart", "v2", Outcome::Promoted).await?;
    tokio::time::sleep(PAUSE).await;
    let bad = released(shop, news, "checkout", "v2-bad", Outcome::RolledBack).await?;
    // The last news first.
    tokio::time::sleep(PAUSE).await;
    let [good, bad] = [good, bad].map(|past| length(between(past.started_at, past.ended_at)));
    news.say(
        shop,
        &format!("the good one was promoted after {good}, the bad one was back after {bad}"),
    );
    news.done();
    Ok(())
}

async fn released(
    shop: &Shop,
    news: &screen::News,
    name: &str,
    version: &str,
    expected: Outcome,
) -> Result<PastRelease> {
    let service = shop::of(name);
    let before = number(&service.rollout(&shop.cluster)?);
    let image = App::image(name, version);
    news.say(shop, &format!("$ kubectl set image deployment/{name} {name}={image} -n {NAMESPACE}"));
    service.set_version(&shop.cluster, version)?;
    let past = shop.ended(name, before, LIMIT).await?;
    ensure!(past.outcome == expected, "{name} {version} ended otherwise: {}", past.why);
    Ok(past)
}
