//! A wrong configuration as the operator meets it: one clear message, exit 78, whatever the command.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::process::campaignd;

fn run(dir: &std::path::Path, text: Option<&str>) -> (Option<i32>, String) {
    let path = dir.join("campaignd.toml");
    if let Some(text) = text {
        std::fs::write(&path, text).unwrap();
    }
    let output = campaignd().args(["run", "--config"]).arg(&path).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap().replace(dir.to_str().unwrap(), "DIR");
    (output.status.code(), said)
}

#[test]
fn a_file_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = run(dir.path(), None);
    assert_eq!(code, Some(78));
    insta::assert_snapshot!(said, @r"
    campaignd: the configuration has a mistake
      DIR/campaignd.toml: cannot be read: No such file or directory (os error 2)
        name the file with --config or CAMPAIGND_CONFIG; without one, the built-in defaults apply
    ");
}

#[test]
fn a_wrong_type() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = run(dir.path(), Some("[engine]\ndrain-timeout = 30\n[broker]\nprefetch = \"many\"\n"));
    assert_eq!(code, Some(78));
    insta::assert_snapshot!(said, @r#"
    campaignd: the configuration has 2 mistakes
      DIR/campaignd.toml:2:17: [engine] drain-timeout: must be a duration in quotes, for example "30s"
      DIR/campaignd.toml:4:12: [broker] prefetch: must be a number from 1 to 2000
    "#);
}

#[test]
fn no_account() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = run(dir.path(), Some("[broker]\nkind = \"embedded\"\n"));
    assert_eq!(code, Some(78));
    insta::assert_snapshot!(said, @r#"
    campaignd: the configuration has a mistake
      DIR/campaignd.toml: there is no account to send by
        add [accounts.main] with key-file = "…", the file that holds your gateway API key
    "#);
}

#[test]
fn a_key_in_the_file_is_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = run(dir.path(), Some("[accounts.main]\nkey = \"pk_live_secret\"\n"));
    assert_eq!(code, Some(78));
    assert!(said.contains("key-file") && !said.contains("pk_live_secret"), "{said}");
}

#[test]
fn completions_and_man_pages_are_made_of_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let output = campaignd().args(["completions", "bash"]).output().unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("enqueue"));
    assert!(campaignd().arg("man").arg(dir.path()).status().unwrap().success());
    for page in ["campaignd.1", "campaignd-run.1", "campaignd-check.1"] {
        assert!(dir.path().join(page).exists(), "{page}");
    }
}
