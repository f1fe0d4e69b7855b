//! `campaignd simulate`: run the simulated gateway, for rehearsals and tests.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::table::{harmless, print};
use super::{Exit, Failure};
use crate::gateway::simulator::{
    Books, DEFAULT_BALANCE, DEFAULT_KEY, DEFAULT_LIMITS, ENDPOINTS, Fault, Key, Options, Running, Simulator, Tail, check_faults,
    magic_table,
};
use crate::pacer::Limits;
use crate::units::Length;

const ABOUT: &str = "\
Run the simulated gateway, for rehearsals and tests

It answers POST /v1/wa/message as the Connexease Gateway does: keys, both sliding rate windows with their headers, balance,
is_fake, mmlite, and every documented error code. It sends nothing to anyone. It can fail on purpose in two ways: by recipient
(magic numbers, see --magic) and by rate (--fault). It keeps the truth of who got how many messages, and prints a summary when
it is stopped with Ctrl-C or SIGTERM.

Point a configuration at it with base-url = \"http://127.0.0.1:8080\" and the key sk_simulated.";

/// Arguments of `campaignd simulate`.
#[derive(Debug, clap::Args)]
#[command(long_about = ABOUT, after_long_help = format!("Endpoints for looking and steering while it runs (JSON):\n{ENDPOINTS}"))]
pub(super) struct Args {
    /// Address and port; port 0 takes a free one and prints it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Allow an address that other machines can reach; anyone who reaches it can steer it
    #[arg(long)]
    allow_remote: bool,
    /// An API key it knows; may be given several times, each with its own windows and balance
    #[arg(long = "key", value_name = "KEY", default_value = DEFAULT_KEY)]
    keys: Vec<String>,
    /// Requests per second of each key: 80/s, or unlimited
    #[arg(long, value_name = "RATE", default_value = "80/s")]
    rate: Limits,
    /// Requests per minute of each key [default: 4800, none with --rate unlimited]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    per_minute: Option<u32>,
    /// Balance of each key
    #[arg(long, value_name = "AMOUNT", default_value_t = DEFAULT_BALANCE, allow_negative_numbers = true)]
    balance: i64,
    /// What one accepted message costs
    #[arg(long, value_name = "AMOUNT", default_value_t = 1, value_parser = clap::value_parser!(i64).range(0..))]
    price: i64,
    /// From request to answer, half of it before the request is counted
    #[arg(long, value_name = "DURATION", default_value = "0ms")]
    latency: Length,
    /// How far the latency strays, either way
    #[arg(long, value_name = "DURATION", default_value = "0ms")]
    jitter: Length,
    /// Let this per cent of ways, up and down each for itself, take up to so much longer: 260ms=3
    #[arg(long, value_name = "DURATION=PERCENT")]
    tail: Option<Tail>,
    /// Let this per cent of requests meet a fault, for example html=0.5 or meta:131026=2; may be given several times
    #[arg(long = "fault", value_name = "NAME=PERCENT", value_parser = parse_fault)]
    faults: Vec<(Fault, f64)>,
    /// The same seed gives the same faults to the same recipients
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print the magic recipients and the names of all faults, and end
    #[arg(long)]
    magic: bool,
}

fn parse_fault(text: &str) -> Result<(Fault, f64), String> {
    let (name, percent) = text.split_once('=').ok_or("write NAME=PERCENT, for example html=0.5")?;
    let fault = name.trim().parse().map_err(|error| format!("{error}"))?;
    let percent = percent.trim().trim_end_matches('%').parse().map_err(|_| format!("{percent:?} is no number of per cent"))?;
    Ok((fault, percent))
}

/// Runs it.
pub(super) async fn run(args: Args, _globals: &super::Globals) -> Result<Exit, Failure> {
    if args.magic {
        print(magic_table())?;
        return Ok(Exit::Ok);
    }
    if !args.listen.ip().is_loopback() && !args.allow_remote {
        let why = "is not on this machine alone, and anyone who reaches the simulator can steer it";
        return Err(Failure::new(
            Exit::Usage,
            format_args!("--listen {}: {why}; add --allow-remote if that is meant", args.listen),
        ));
    }
    let mut stop = Stop::listen()?;
    let listen = args.listen;
    let options = options(args)?;
    let limits = options.keys.first().map_or(DEFAULT_LIMITS, |key| key.limits);
    let running = start(options, listen).await?;
    print(format_args!("campaignd simulate: listening on {} ({limits} per key); Ctrl-C stops it", running.base_url()))?;
    stop.wait().await;
    print(summary(&running.stop().await))?;
    Ok(Exit::Ok)
}

async fn start(options: Options, listen: SocketAddr) -> Result<Running, Failure> {
    let failed = |error| {
        Failure::new(
            Exit::Unavailable,
            format_args!("cannot listen on {listen}: {error}; choose another port with --listen, or 0 for a free one"),
        )
    };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    Simulator::start(options, listener).map_err(failed)
}

fn options(args: Args) -> Result<Options, Failure> {
    let Args { keys, rate, per_minute, balance, price, latency, jitter, tail, faults, seed, .. } = args;
    if jitter > latency {
        return Err(Failure::new(
            Exit::Usage,
            format_args!("--jitter {jitter} is more than --latency {latency}; it strays either way"),
        ));
    }
    let faults = check_faults(faults).map_err(|error| Failure::new(Exit::Usage, format_args!("--fault: {error}")))?;
    let unlimited = rate == Limits { second: None, minute: None };
    let limits = Limits {
        second: rate.second,
        minute: per_minute.or(rate.minute).or(if unlimited { None } else { DEFAULT_LIMITS.minute }),
    };
    let keys = keys.iter().map(|secret| Key { limits, balance, ..Key::new(secret) }).collect();
    let (latency, jitter): (Duration, Duration) = (latency.0, jitter.0);
    Ok(Options { keys, latency, jitter, tail: tail.unwrap_or_default(), price, faults, seed })
}

/// Both ways of being told to stop, caught from before the first request.
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> Result<Self, Failure> {
        let failed = |error| Failure::new(Exit::Software, format_args!("cannot listen for signals: {error}"));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn summary(books: &Books) -> String {
    let mut text = format!(
        "{} requests, {} messages accepted for {} recipients ({} of them got more than one), {} sandboxed",
        books.requests,
        books.accepted,
        books.recipients().len(),
        books.more_than_once().len(),
        books.sandboxed,
    );
    for (outcome, count) in &books.outcomes {
        let _ = write!(text, "\n{count:>10}  {}", harmless(outcome));
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::gateway::simulator::Special;

    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &str) -> Result<Options, String> {
        let words = std::iter::once("simulate").chain(words.split_whitespace());
        let wrapper = Wrapper::try_parse_from(words).map_err(|error| error.to_string())?;
        options(wrapper.args).map_err(|failure| failure.to_string())
    }

    #[test]
    fn reads_every_option() {
        let options = parse("--key a --key b --rate 100/s --per-minute 1000 --balance -1 --price 2 --latency 50ms --jitter 20ms --tail 260ms=3 --fault html=0.5 --fault meta:131026=2% --seed 7").unwrap();
        assert_eq!(options.keys.len(), 2);
        let key = &options.keys[1];
        assert_eq!((key.secret.as_str(), key.balance, options.price, options.seed), ("b", -1, 2, 7));
        assert_eq!(key.limits, Limits { second: Some(100), minute: Some(1000) });
        assert_eq!((options.latency, options.jitter), (Duration::from_millis(50), Duration::from_millis(20)));
        assert_eq!(options.tail, Tail { longer: Duration::from_millis(260), percent: 3.0 });
        assert_eq!(options.faults, [(Fault::Special(Special::Html), 0.5), (Fault::Meta(131_026), 2.0)]);
    }

    #[test]
    fn limits_are_the_documented_ones_unless_lifted() {
        assert_eq!(parse("").unwrap().keys[0].limits, DEFAULT_LIMITS);
        assert_eq!(parse("--rate unlimited").unwrap().keys[0].limits, Limits { second: None, minute: None });
        assert_eq!(parse("--rate unlimited --per-minute 5").unwrap().keys[0].limits, Limits { second: None, minute: Some(5) });
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for (words, says) in [
            ("--fault nonsense=1", "no fault is called"),
            ("--fault html", "NAME=PERCENT"),
            ("--fault html=many", "per cent"),
            ("--fault html=60 --fault empty=60", "together at most 100"),
            ("--fault html=-1", "from 0 to 100"),
            ("--fault html=NaN", "from 0 to 100"),
            ("--latency 10ms --jitter 20ms", "more than --latency"),
            ("--latency 10", "no duration"),
            ("--per-minute 0", "per-minute"),
        ] {
            let error = parse(words).unwrap_err();
            assert!(error.contains(says), "{words}: {error}");
        }
    }
}
