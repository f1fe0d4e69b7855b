//! `campaignd enqueue`: the plan, and what is refused before anything is published.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::process::{Output, Stdio};

use crate::live::{binary, err, exits, out};

const TEMPLATE: &str = r#"{"type": "template", "template": {"name": "spring", "language": {"code": "tr"},
  "components": [{"type": "body", "parameters": [{"type": "text", "text": "{{ name }}"}]}]}}"#;

fn enqueue(recipients: &str, message: &str, more: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("r.csv"), recipients).unwrap();
    std::fs::write(dir.path().join("m.json"), message).unwrap();
    in_dir(dir.path(), more)
}

fn in_dir(dir: &Path, more: &[&str]) -> Output {
    let args = ["enqueue", "--campaign", "spring", "--recipients", "r.csv", "--message", "m.json"];
    binary(dir).args(args).args(more).output().unwrap()
}

#[test]
fn the_plan_tells_what_will_happen_and_nothing_does() {
    let file = "to;name\r\n+90 532 123 45 67;Ayşe\r\n905321234567;Ayşe again\r\n12015550123;Bob\r\n901111111111;\r\n";
    let output = enqueue(file, TEMPLATE, &["--dry-run", "--account", "main"]);
    exits(&output, 0);
    insta::assert_snapshot!(out(&output));
    assert!(!out(&output).contains("905321234567"), "recipients are masked");
}

#[test]
fn wrong_rows_are_listed_by_line_and_nothing_is_published() {
    let file = "to,name\n905321234567,A\nnobody,B\n90532123,C\n905321234569\n";
    let output = enqueue(file, TEMPLATE, &[]);
    exits(&output, 65);
    insta::assert_snapshot!(err(&output), @r"
    campaignd: r.csv has rows that cannot be sent:
      line 3: recipient has a character that is no digit; write the country code and digits, for example 905321234567
      line 4: recipient has 6 digits after country code +90; no number there is that long
      line 5: row has 1 fields, the header has 2
    3 of 4 rows are wrong; nothing was published. Mend them, or add --skip-invalid to go on without them
    ");
    exits(&enqueue(file, TEMPLATE, &["--dry-run"]), 65);
    exits(&enqueue(file, TEMPLATE, &["--dry-run", "--skip-invalid"]), 0);
}

#[test]
fn a_placeholder_without_a_column_is_named_with_its_place() {
    let output = enqueue("to,nam\n905321234567,A\n", TEMPLATE, &["--dry-run"]);
    exits(&output, 65);
    insta::assert_snapshot!(err(&output), @"campaignd: m.json:2:76: the recipients file has no column `name`; it has: to, nam");
}

#[test]
fn a_missing_file_and_a_missing_broker_have_codes_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    exits(&in_dir(dir.path(), &["--dry-run"]), 66);
    std::fs::write(dir.path().join("m.json"), TEMPLATE).unwrap();
    std::fs::write(dir.path().join("r.csv"), "to,name\n905321234567,A\n").unwrap();
    // Port 1 answers nobody.
    let args = ["enqueue", "--campaign", "spring", "--recipients", "r.csv", "--message", "m.json"];
    let output = binary(dir.path()).args(args).env("CAMPAIGND_BROKER_URI", "amqp://u:secret@127.0.0.1:1").output().unwrap();
    exits(&output, 69);
    let said = err(&output);
    assert!(said.contains("127.0.0.1:1") && said.contains("Nothing was published") && !said.contains("secret"), "{said}");
}

#[test]
fn standard_input_is_read_as_what_it_looks_like() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("m.json"), TEMPLATE).unwrap();
    let args = ["enqueue", "--campaign", "spring", "--recipients", "-", "--message", "m.json", "--dry-run", "--json"];
    let mut child = binary(dir.path()).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let rows = b"{\"to\": 905321234567, \"name\": \"A\"}\n{\"to\": \"905321234568\", \"name\": 2.50}\n";
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), rows).unwrap();
    let output = child.wait_with_output().unwrap();
    exits(&output, 0);
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((plan["jobs"].as_u64(), plan["countries"]["TR"]["jobs"].as_u64()), (Some(2), Some(2)));
}
