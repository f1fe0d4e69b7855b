//! `campaignd simulate` as a process: its ready line, its answer, its end.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::support::{TO, client, send, word};

fn simulate(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_campaignd"));
    command.arg("simulate").args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Starts it on a free port; gives its base URL once it is ready.
async fn start(args: &[&str]) -> (Child, BufReader<ChildStdout>, String) {
    let mut child = simulate(&[&["--listen", "127.0.0.1:0"], args].concat()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    timeout(Duration::from_secs(20), out.read_line(&mut line)).await.unwrap().unwrap();
    let base_url = line.split_whitespace().find(|word| word.starts_with("http://")).expect(&line).to_owned();
    (child, out, base_url)
}

async fn ended_by(signal: &str) -> String {
    let (mut child, mut out, base_url) = start(&["--balance", "1", "--latency", "2ms", "--jitter", "1ms"]).await;
    let client = client(&base_url);
    assert_eq!(word(&send(&client, TO).await.reply), "accepted");
    assert_eq!(word(&send(&client, TO).await.reply), "refused 402 BILL_001");
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
    let mut rest = String::new();
    timeout(Duration::from_secs(20), out.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert!(timeout(Duration::from_secs(20), child.wait()).await.unwrap().unwrap().success(), "{rest}");
    rest
}

#[tokio::test]
async fn it_says_where_it_listens_and_sums_up_when_stopped() {
    for signal in ["-TERM", "-INT"] {
        let summary = ended_by(signal).await;
        assert!(summary.contains("2 requests, 1 messages accepted for 1 recipients (0 of them got more than one)"), "{summary}");
        assert!(summary.contains("1  BILL_001"), "{summary}");
    }
}

#[tokio::test]
async fn it_refuses_what_it_cannot_do() {
    let (_child, _out, base_url) = start(&[]).await;
    let taken = base_url.trim_start_matches("http://");
    for (args, code, says) in [
        (&["--listen", "0.0.0.0:0"][..], 64, "--allow-remote"),
        (&["--listen", taken][..], 69, "cannot listen on"),
        (&["--fault", "nonsense=1"][..], 64, "--magic"),
        (&["--latency", "5"][..], 64, "unit"),
    ] {
        let output = timeout(Duration::from_secs(20), simulate(args).output()).await.unwrap().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(error.contains(says), "{args:?}: {error}");
    }
}

#[tokio::test]
async fn it_prints_its_magic_numbers_and_explains_its_endpoints() {
    let output = simulate(&["--magic"]).output().await.unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("43 670 CCCCCC SSSS") && table.contains("reset-after"), "{table}");
    let output = simulate(&["--help"]).output().await.unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("/sim/balance") && help.contains("--fault"), "{help}");
}
