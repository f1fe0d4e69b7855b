//! One request as the simulated gateway reads it, and what Meta would say of its body.

use std::borrow::Cow;

use axum::body::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// Longest `text.body`, in characters (gateway documentation, send-whatsapp-message).
const MAX_TEXT_CHARS: usize = 4096;
/// Meta's number for a parameter that is wrong or missing.
const INVALID_PARAMETER: u32 = 100;

/// What the `Authorization` header holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Authorization<'a> {
    Missing,
    NotBearer,
    Bearer(&'a str),
}

impl<'a> Authorization<'a> {
    pub(super) fn read(value: Option<&'a [u8]>) -> Self {
        match value.map(std::str::from_utf8) {
            None => Self::Missing,
            Some(Ok(text)) => text.strip_prefix("Bearer ").filter(|key| !key.is_empty()).map_or(Self::NotBearer, Self::Bearer),
            Some(Err(_)) => Self::NotBearer,
        }
    }
}

/// One request, read.
#[derive(Debug)]
pub(super) struct Post<'a> {
    pub(super) authorization: Authorization<'a>,
    pub(super) sandbox: bool,
    /// The recipient, if there is one: also for faults that strike before anyone looks at the body.
    pub(super) to: Option<u64>,
    /// What Meta has to say against the body.
    pub(super) objection: Option<Objection>,
}

/// Meta's number and words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Objection {
    pub(super) number: u32,
    pub(super) words: String,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    messaging_product: Option<Text<'a>>,
    #[serde(borrow)]
    to: Option<Text<'a>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    template: Option<&'a RawValue>,
    #[serde(borrow)]
    image: Option<&'a RawValue>,
    #[serde(borrow)]
    audio: Option<&'a RawValue>,
    #[serde(borrow)]
    document: Option<&'a RawValue>,
    #[serde(borrow)]
    interactive: Option<&'a RawValue>,
}

/// A string without a copy, if it can be had without one.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct TextObject<'a> {
    #[serde(borrow)]
    body: Text<'a>,
}

#[derive(Deserialize)]
struct TemplateObject<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    language: Language<'a>,
}

#[derive(Deserialize)]
struct Language<'a> {
    #[serde(borrow)]
    code: Text<'a>,
}

#[derive(Deserialize)]
struct Media {
    link: Option<IgnoredAny>,
    id: Option<IgnoredAny>,
}

impl<'a> Post<'a> {
    /// Reads one request. `None` if the body is no JSON object of the known shape.
    pub(super) fn read(authorization: Option<&'a [u8]>, query: Query, body: &Bytes) -> Option<Self> {
        let body: Body<'_> = serde_json::from_slice(body).ok()?;
        let to = body.to.as_ref().and_then(|to| number(&to.0));
        let objection = body.check(to, query.mmlite).err();
        Some(Self { authorization: Authorization::read(authorization), sandbox: query.sandbox, to, objection })
    }
}

/// The two options of the query; absent ones are false.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Query {
    pub(super) sandbox: bool,
    pub(super) mmlite: bool,
}

impl Query {
    pub(super) fn read(query: Option<&str>) -> Self {
        let mut read = Self::default();
        for pair in query.unwrap_or_default().split('&') {
            match pair {
                "is_fake=true" | "is_fake=1" => read.sandbox = true,
                "mmlite=true" | "mmlite=1" => read.mmlite = true,
                _ => {}
            }
        }
        read
    }
}

impl Body<'_> {
    fn check(&self, to: Option<u64>, mmlite: bool) -> Result<(), Objection> {
        if self.messaging_product.as_ref().is_none_or(|product| product.0 != "whatsapp") {
            return Err(invalid("The parameter messaging_product is required and must be whatsapp."));
        }
        match (&self.to, to) {
            (None, _) => return Err(invalid("The parameter to is required.")),
            (Some(_), None) => return Err(invalid("Invalid parameter: to must be digits with country code.")),
            _ => {}
        }
        let Some(kind) = &self.kind else { return Err(invalid("The parameter type is required.")) };
        if mmlite && kind.0 != "template" {
            return Err(invalid("Invalid parameter: must be a template message."));
        }
        match kind.0.as_ref() {
            "text" => check_text(object("text", self.text)?),
            "template" => check_template(object("template", self.template)?),
            "image" => check_media("image", object("image", self.image)?),
            "audio" => check_media("audio", object("audio", self.audio)?),
            "document" => check_media("document", object("document", self.document)?),
            "interactive" => object("interactive", self.interactive).map(drop),
            _ => Err(invalid("Param type must be one of text, image, audio, document, template, interactive.")),
        }
    }
}

fn object<'a>(name: &str, value: Option<&'a RawValue>) -> Result<&'a str, Objection> {
    let json = value.map(RawValue::get).filter(|json| json.starts_with('{'));
    json.ok_or_else(|| invalid(&format!("The parameter {name} is required.")))
}

fn check_text(json: &str) -> Result<(), Objection> {
    let text: TextObject<'_> = serde_json::from_str(json).map_err(|_| invalid("The parameter text['body'] is required."))?;
    match text.body.0.len() {
        0 => Err(invalid("The parameter text['body'] is required.")),
        bytes if bytes > MAX_TEXT_CHARS && text.body.0.chars().count() > MAX_TEXT_CHARS => {
            Err(invalid("Param text['body'] must be at most 4096 characters long."))
        }
        _ => Ok(()),
    }
}

fn check_template(json: &str) -> Result<(), Objection> {
    let whole = serde_json::from_str(json)
        .is_ok_and(|template: TemplateObject<'_>| !template.name.0.is_empty() && !template.language.code.0.is_empty());
    if whole { Ok(()) } else { Err(invalid("The parameters template['name'] and template['language'] are required.")) }
}

fn check_media(name: &str, json: &str) -> Result<(), Objection> {
    let whole = serde_json::from_str(json).is_ok_and(|media: Media| media.link.is_some() || media.id.is_some());
    if whole { Ok(()) } else { Err(invalid(&format!("The parameter {name}['link'] is required."))) }
}

fn invalid(words: &str) -> Objection {
    Objection { number: INVALID_PARAMETER, words: words.to_owned() }
}

/// Digits only, as the newer documentation has it: 7 to 15, not beginning with 0.
fn number(text: &str) -> Option<u64> {
    let plain = (7..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objection(body: &str, mmlite: bool) -> Option<String> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let post = Post::read(None, Query { sandbox: false, mmlite }, &body).expect("JSON");
        post.objection.map(|objection| format!("{} {}", objection.number, objection.words))
    }

    #[test]
    fn accepts_what_the_documentation_describes() {
        for message in [
            r#""type":"text","text":{"body":"hi","preview_url":true}"#,
            r#""type":"image","image":{"link":"https://x.example/a.png"}"#,
            r#""type":"audio","audio":{"id":"1"}"#,
            r#""type":"document","document":{"link":"https://x.example/a.pdf"}"#,
            r#""recipient_type":"individual","type":"template","template":{"name":"n","language":{"code":"tr"},"components":[]}"#,
            r#""type":"interactive","interactive":{"type":"button"}"#,
        ] {
            assert_eq!(
                objection(&format!(r#"{{"messaging_product":"whatsapp","to":"905321234567",{message}}}"#), false),
                None,
                "{message}"
            );
        }
    }

    #[test]
    fn objects_as_meta_does() {
        let long = format!(
            r#"{{"messaging_product":"whatsapp","to":"905321234567","type":"text","text":{{"body":"{}"}}}}"#,
            "ä".repeat(4097)
        );
        for (body, says) in [
            (r"{}", "messaging_product"),
            (r#"{"messaging_product":"sms"}"#, "messaging_product"),
            (r#"{"messaging_product":"whatsapp"}"#, "parameter to is required"),
            (r#"{"messaging_product":"whatsapp","to":"+905321234567"}"#, "to must be digits"),
            (r#"{"messaging_product":"whatsapp","to":"0905321234567"}"#, "to must be digits"),
            (r#"{"messaging_product":"whatsapp","to":"905321234567"}"#, "type is required"),
            (r#"{"messaging_product":"whatsapp","to":"905321234567","type":"video"}"#, "must be one of"),
            (r#"{"messaging_product":"whatsapp","to":"905321234567","type":"text"}"#, "text is required"),
            (r#"{"messaging_product":"whatsapp","to":"905321234567","type":"text","text":{}}"#, "['body'] is required"),
            (r#"{"messaging_product":"whatsapp","to":"905321234567","type":"image","image":{}}"#, "image['link']"),
            (r#"{"messaging_product":"whatsapp","to":"905321234567","type":"template","template":{"name":"n"}}"#, "language"),
            (long.as_str(), "at most 4096"),
        ] {
            let said = objection(body, false).expect(body);
            assert!(said.starts_with("100 ") && said.contains(says), "{body}: {said}");
        }
        let text = r#"{"messaging_product":"whatsapp","to":"905321234567","type":"text","text":{"body":"hi"}}"#;
        assert!(objection(text, true).unwrap().contains("must be a template message"));
    }

    #[test]
    fn reads_header_and_query() {
        assert_eq!(Authorization::read(None), Authorization::Missing);
        for wrong in [&b"Basic abc"[..], b"Bearer", b"Bearer ", b"bearer x", b"\xff"] {
            assert_eq!(Authorization::read(Some(wrong)), Authorization::NotBearer);
        }
        assert_eq!(Authorization::read(Some(b"Bearer sk_1")), Authorization::Bearer("sk_1"));
        assert_eq!(Query::read(Some("is_fake=true&mmlite=false")), Query { sandbox: true, mmlite: false });
        assert_eq!(Query::read(Some("mmlite=true")), Query { sandbox: false, mmlite: true });
        assert_eq!(Query::read(None), Query::default());
    }
}
