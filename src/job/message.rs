//! The gateway's message object: checked for what its documentation fixes, passed through untouched otherwise.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny};
use serde_json::value::RawValue;

use super::Recipient;

/// Longest `text.body`, in characters (gateway documentation, send-whatsapp-message).
const MAX_TEXT_CHARS: usize = 4096;

/// The documented message types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageKind {
    /// Free text, only inside the 24-hour window.
    Text,
    /// An image by public link.
    Image,
    /// An audio file by public link.
    Audio,
    /// A document by public link.
    Document,
    /// A template approved by Meta.
    Template,
    /// Buttons, lists and the like.
    Interactive,
}

/// A checked message object, kept as the JSON text it came in.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    kind: MessageKind,
    json: Arc<str>,
}

impl Message {
    /// Checks one message object.
    ///
    /// # Errors
    /// What is missing or wrong, as serde says it; the caller keeps quoted values out of sight.
    pub fn parse(raw: &RawValue) -> Result<Self, serde_json::Error> {
        if !raw.get().trim_ascii_start().starts_with('{') {
            return Err(refuse("message must be a JSON object"));
        }
        let shape: Shape<'_> = serde_json::from_str(raw.get())?;
        let kind = shape.check()?;
        Ok(Self { kind, json: raw.get().trim_ascii().into() })
    }

    /// Which of the documented types it is.
    #[must_use]
    pub const fn kind(&self) -> MessageKind {
        self.kind
    }

    /// The object as JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.json
    }

    /// The request body for one recipient. The JSON is spliced, not parsed again: it was checked to be an object.
    pub(super) fn addressed_to(&self, to: Recipient) -> Vec<u8> {
        let members = self.json.get(1..).unwrap_or("}");
        let head = format!(r#"{{"messaging_product":"whatsapp","recipient_type":"individual","to":"{}","#, to.digits());
        [head.as_bytes(), members.as_bytes()].concat()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({:?}, {} bytes)", self.kind, self.json.len())
    }
}

#[derive(Deserialize)]
struct Shape<'a> {
    #[serde(rename = "type")]
    kind: MessageKind,
    #[serde(borrow)]
    text: Option<Text<'a>>,
    image: Option<Media<'a>>,
    audio: Option<Media<'a>>,
    document: Option<Media<'a>>,
    #[serde(borrow)]
    template: Option<Template<'a>>,
    interactive: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default, deserialize_with = "is_there")]
    to: bool,
    #[serde(default, deserialize_with = "is_there")]
    messaging_product: bool,
    #[serde(default, deserialize_with = "is_there")]
    recipient_type: bool,
}

#[derive(Deserialize)]
struct Text<'a> {
    #[serde(borrow)]
    body: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Media<'a> {
    #[serde(borrow)]
    link: Option<Cow<'a, str>>,
    id: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Template<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    language: Language<'a>,
    #[serde(default, rename = "components")]
    _components: Vec<Component>,
}

#[derive(Deserialize)]
struct Language<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Component {
    #[serde(rename = "type")]
    _kind: IgnoredString,
    #[serde(default, rename = "parameters")]
    _parameters: Vec<Parameter>,
}

#[derive(Deserialize)]
struct Parameter {
    #[serde(rename = "type")]
    _kind: IgnoredString,
}

/// A member that is there, be it `null`: the request would hold it twice.
fn is_there<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// A string whose content does not matter.
struct IgnoredString;

impl<'de> Deserialize<'de> for IgnoredString {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer).map(|_| Self)
    }
}

impl Shape<'_> {
    fn check(&self) -> Result<MessageKind, serde_json::Error> {
        let ours = [("to", self.to), ("messaging_product", self.messaging_product), ("recipient_type", self.recipient_type)];
        if let Some((name, _)) = ours.iter().find(|(_, is_there)| *is_there) {
            return Err(refuse(format_args!("message must not hold `{name}`: the sender sets it")));
        }
        match self.kind {
            MessageKind::Text => self.text.as_ref().map(Text::check),
            MessageKind::Image => self.image.as_ref().map(|m| m.check("image")),
            MessageKind::Audio => self.audio.as_ref().map(|m| m.check("audio")),
            MessageKind::Document => self.document.as_ref().map(|m| m.check("document")),
            MessageKind::Template => self.template.as_ref().map(Template::check),
            MessageKind::Interactive => self.interactive.as_ref().map(|_| Ok(())),
        }
        .unwrap_or_else(|| Err(refuse("message lacks the object that its `type` names")))?;
        Ok(self.kind)
    }
}

impl Text<'_> {
    fn check(&self) -> Result<(), serde_json::Error> {
        match self.body.chars().count() {
            0 => Err(refuse("text.body is empty")),
            n if n > MAX_TEXT_CHARS => {
                Err(refuse(format_args!("text.body has {n} characters; at most {MAX_TEXT_CHARS} are allowed")))
            }
            _ => Ok(()),
        }
    }
}

impl Media<'_> {
    fn check(&self, name: &str) -> Result<(), serde_json::Error> {
        match (&self.link, &self.id) {
            (Some(link), _) if link.starts_with("https://") || link.starts_with("http://") => Ok(()),
            (Some(_), _) => Err(refuse(format_args!("{name}.link must be a public http(s) address"))),
            (None, Some(_)) => Ok(()),
            (None, None) => Err(refuse(format_args!("{name} needs a `link`"))),
        }
    }
}

impl Template<'_> {
    fn check(&self) -> Result<(), serde_json::Error> {
        if self.name.is_empty() {
            return Err(refuse("template.name is empty"));
        }
        if self.language.code.is_empty() {
            return Err(refuse("template.language.code is empty"));
        }
        Ok(())
    }
}

fn refuse(reason: impl fmt::Display) -> serde_json::Error {
    serde_json::Error::custom(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Message, String> {
        let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
        Message::parse(&raw).map_err(|e| e.to_string())
    }

    #[test]
    fn accepts_each_documented_type_and_passes_it_through() {
        for json in [
            r#"{"type":"text","text":{"body":"hi","preview_url":true},"context":{"message_id":"x"}}"#,
            r#"{"type":"image","image":{"link":"https://x.example/a.png"}}"#,
            r#"{"type":"audio","audio":{"id":"123"}}"#,
            r#"{"type":"document","document":{"link":"http://x.example/a.pdf","filename":"a.pdf"}}"#,
            r#"{"type":"template","template":{"name":"n","language":{"code":"tr"}}}"#,
            r#"{"type":"template","template":{"name":"n","language":{"code":"tr"},"components":[{"type":"body","parameters":[{"type":"text","text":"Ali"}]}]}}"#,
            r#"{"type":"interactive","interactive":{"type":"button"}}"#,
        ] {
            assert_eq!(parse(json).unwrap().as_json(), json);
        }
    }

    #[test]
    fn refuses_what_the_documentation_rules_out() {
        let long = format!(r#"{{"type":"text","text":{{"body":"{}"}}}}"#, "ä".repeat(4097));
        for (json, says) in [
            (r#"{"type":"text"}"#, "lacks the object"),
            (r#"{"type":"text","text":{"body":""}}"#, "empty"),
            (long.as_str(), "4097 characters"),
            (r#"{"type":"video","video":{}}"#, "unknown variant"),
            (r#"{"type":"image","image":{}}"#, "needs a `link`"),
            (r#"{"type":"image","image":{"link":"file:///etc/passwd"}}"#, "public http"),
            (r#"{"type":"template","template":{"name":"n"}}"#, "missing field `language`"),
            (r#"{"type":"template","template":{"name":"","language":{"code":"tr"}}}"#, "name is empty"),
            (
                r#"{"type":"template","template":{"name":"n","language":{"code":"tr"},"components":[{"parameters":[]}]}}"#,
                "missing field `type`",
            ),
            (r#"{"type":"text","text":{"body":"hi"},"to":"90"}"#, "must not hold `to`"),
            (r#"["text"]"#, "must be a JSON object"),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.contains(says), "{json}: {error}");
        }
    }

    #[test]
    fn debug_text_holds_nothing_of_what_is_said() {
        let message = parse(r#"{"type":"text","text":{"body":"hi"}}"#).unwrap();
        assert_eq!(format!("{message:?}"), "Message(Text, 36 bytes)");
    }

    #[test]
    fn request_body_is_one_object_with_the_recipient_in_front() {
        let message = parse(r#" {"type":"text","text":{"body":"hi"}} "#).unwrap();
        let body = message.addressed_to("905321234567".parse().unwrap());
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(value["to"], "905321234567");
        assert_eq!(value["messaging_product"], "whatsapp");
        assert_eq!(value["text"]["body"], "hi");
    }
}
