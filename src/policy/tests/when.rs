//! What a rule matches: every condition it gives must hold.

use super::*;

/// Whether a rule with these conditions decides about the reply.
fn decides(when: &str, reply: &Reply) -> bool {
    let mut world = World::parse(&format!("[[rule]]\nname = \"mine\"\n{when}\njob = \"hold\""));
    &*world.decide(&subject(), reply).rule == "mine"
}

#[test]
fn trouble_on_the_way_is_matched_by_its_kind_and_its_status() {
    let unreachable = |kind, http_status| Reply::Unreachable(Trouble { http_status, ..trouble(kind) });
    let unavailable = unreachable(TroubleKind::Unavailable, Some(503));
    for (when, expected) in [
        ("", true),
        ("trouble = \"unavailable\"", true),
        ("trouble = \"dns\"", false),
        ("http = 503", true),
        ("http = 500", false),
        ("trouble = \"unavailable\"\nhttp = 503", true),
        ("trouble = \"unavailable\"\nhttp = 500", false),
        ("trouble = \"dns\"\nhttp = 503", false),
        ("code = \"A\"", false),
        ("meta = 503", false),
    ] {
        assert_eq!(decides(when, &unavailable), expected, "{when}");
    }
    assert!(!decides("http = 503", &unreachable(TroubleKind::Dns, None)));
    assert!(!decides("trouble = \"unavailable\"", &refused("A", 503)), "a refusal is no trouble on the way");
}
