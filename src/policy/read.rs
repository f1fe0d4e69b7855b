//! Reads a rules file: the shape of a rule, and every mistake at once.

mod action;
mod values;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use toml::de::DeTable;

use self::values::{Reader, Value};
use super::decide::{ACCEPTED, NO_RULE};
use super::mistakes::Found;
use super::rules::Rule;
use super::when::{ReplyKind, When};

/// More rules than anyone writes by hand.
const MAX_RULES: usize = 1000;
const MAX_NAME: usize = 64;

const RULE_KEYS: [&str; 16] = [
    "name",
    "kind",
    "code",
    "meta",
    "http",
    "trouble",
    "description",
    "mmlite",
    "message",
    "job",
    "pause",
    "hold-account",
    "slow-down",
    "alert",
    "repeated",
    "advice",
];

pub(super) fn rules(text: &str) -> Result<Vec<Rule>, Vec<Found>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(errors.iter().map(|error| syntax(error.message(), error.span())).collect());
    }
    let mut reader = Reader::default();
    let rules = document_rules(&mut reader, document.get_ref());
    reader.finish(rules)
}

fn syntax(message: &str, span: Option<Range<usize>>) -> Found {
    Found { at: span.map_or(0, |span| span.start), text: format!("this is not TOML: {}", message.replace('\n', ", ")) }
}

fn document_rules(reader: &mut Reader, document: &DeTable<'_>) -> Vec<Rule> {
    reader.only(document, "a rules file", &["rule"]);
    let items = document.get("rule").map_or(&[][..], |list| reader.array(list, "[[rule]] tables"));
    if items.is_empty() && reader.is_clean() {
        reader.wrong(0, "there is no rule; write [[rule]] and below it name, what it matches, and job");
    }
    if items.len() > MAX_RULES {
        reader.wrong(0, format!("more than {MAX_RULES} rules; one with lists can stand for many"));
    }
    let mut read = Vec::new();
    let mut names = HashSet::new();
    for item in items.iter().take(MAX_RULES) {
        if let Some(rule) = rule(reader, item, &mut names) {
            read.push((item.span().start, rule));
        }
    }
    if reader.is_clean() {
        find_unreachable(reader, &read);
    }
    read.into_iter().map(|(_, rule)| rule).collect()
}

fn rule(reader: &mut Reader, item: &Value<'_>, names: &mut HashSet<String>) -> Option<Rule> {
    let table = reader.table(item, "a [[rule]] table")?;
    reader.only(table, "a rule", &RULE_KEYS);
    let name = match table.get("name") {
        Some(value) => name(reader, value, names),
        None => reader.missing(item, "a rule", "name", "name = \"what-it-is-about\""),
    };
    let when = when(reader, table);
    let job = match table.get("job") {
        Some(value) => reader.job(value),
        None => reader.missing(item, "a rule", "job", "job = \"dead-letter\""),
    };
    let rule = Rule {
        pause: table.get("pause").and_then(|value| reader.pause(value)),
        hold_account: table.get("hold-account").and_then(|value| reader.delay(value)),
        slow_down: table.get("slow-down").and_then(|value| reader.slow_down(value)),
        alert: table.get("alert").and_then(|value| reader.word(value)),
        repeated: table.get("repeated").and_then(|value| reader.repeated(value)),
        advice: table.get("advice").and_then(|value| advice(reader, value)).unwrap_or_else(|| "".into()),
        name: name?,
        job: job?,
        when,
    };
    Some(rule)
}

fn name(reader: &mut Reader, value: &Value<'_>, names: &mut HashSet<String>) -> Option<Arc<str>> {
    let text = reader.text(value)?;
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(allowed) {
        return reader.refuse(value, format!("{text:?} is no rule name; write 1 to {MAX_NAME} of a-z 0-9 -"));
    }
    if text == ACCEPTED || text == NO_RULE {
        return reader.refuse(value, format!("{text:?} is a name of campaignd's own; choose another"));
    }
    if !names.insert(text.to_owned()) {
        return reader.refuse(value, format!("there is a rule {text:?} already; choose another name"));
    }
    Some(text.into())
}

fn when(reader: &mut Reader, table: &DeTable<'_>) -> When {
    let mut when = When {
        kind: table.get("kind").map_or_else(Vec::new, |value| reader.list(value, Reader::word)),
        code: table.get("code").map_or_else(Vec::new, |value| reader.list(value, Reader::code)),
        meta: table.get("meta").map_or_else(Vec::new, |value| reader.list(value, |r, v| r.range(v, 0, u32::MAX, "Meta code"))),
        http: table.get("http").map_or_else(Vec::new, |value| reader.list(value, |r, v| r.range(v, 100, 599, "HTTP status"))),
        trouble: table.get("trouble").map_or_else(Vec::new, |value| reader.list(value, Reader::word)),
        description: table.get("description").and_then(|value| reader.regex(value)),
        mmlite: table.get("mmlite").and_then(|value| reader.flag(value)),
        message: table.get("message").map_or_else(Vec::new, |value| reader.list(value, Reader::word)),
    };
    let of_refusals = !when.code.is_empty() || !when.meta.is_empty();
    let of_troubles = !when.trouble.is_empty();
    let kind_at = table.get("kind").or_else(|| table.get("trouble")).map_or(0, |value| value.span().start);
    if of_refusals && (of_troubles || when.kind.iter().any(|&kind| kind != ReplyKind::Refused)) {
        reader.wrong(kind_at, "only a refusal has code or meta; a rule with them matches nothing else: take this out");
    } else if of_troubles && when.kind.contains(&ReplyKind::Refused) {
        reader.wrong(kind_at, "a refusal has no trouble; a rule with trouble matches none: take \"refused\" out");
    }
    if of_refusals {
        when.kind = vec![ReplyKind::Refused];
    }
    when
}

fn advice(reader: &mut Reader, value: &Value<'_>) -> Option<Arc<str>> {
    let text = reader.text(value)?;
    let rest = text.replace("{account}", "").replace("{campaign}", "");
    if rest.contains(['{', '}']) {
        return reader.refuse(value, "advice may hold {account} and {campaign}, and no other braces");
    }
    Some(text.into())
}

fn find_unreachable(reader: &mut Reader, rules: &[(usize, Rule)]) {
    for (index, (at, later)) in rules.iter().enumerate() {
        let above = rules.iter().take(index).find(|(_, earlier)| earlier.when.covers(&later.when));
        if let Some((_, earlier)) = above {
            let text = format!(
                "rule {:?} can never decide: {:?} above it matches all it would; move it up, or say more in {:?}",
                later.name, earlier.name, earlier.name
            );
            reader.wrong(*at, text);
        }
    }
}
