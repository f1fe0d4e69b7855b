//! A producer's word about a campaign: who sends it, how, and how many jobs there are.

use serde::{Deserialize, Serialize};

use super::Options;
use crate::job::{AccountName, CampaignId, without_values};

/// Body of a message of AMQP type `campaign.v1`. With `jobs`, the batch is sealed: that many jobs, no more, belong to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Which campaign.
    pub campaign_id: CampaignId,
    /// By which account; the daemon's default account when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountName>,
    /// How.
    #[serde(flatten)]
    pub options: Options,
    /// How many distinct jobs the batch has, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<u64>,
    /// The batch's name, as in its jobs' headers; none for producers without batches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
}

/// Why a message is no announcement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a campaign announcement: {0}")]
pub struct AnnouncementError(String);

impl Announcement {
    /// Reads an announcement.
    ///
    /// # Errors
    /// When the body is not the JSON described here; the reason never quotes it.
    pub fn parse(body: &[u8]) -> Result<Self, AnnouncementError> {
        let known = ["campaign_id", "account", "sandbox", "mmlite", "on_unknown", "priority", "jobs", "batch"];
        let fail = |e: serde_json::Error| AnnouncementError(without_values(&e));
        let members: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body).map_err(fail)?;
        if members.keys().any(|name| !known.contains(&name.as_str())) {
            return Err(AnnouncementError(format!("it has a field that is none of {}", known.join(", "))));
        }
        serde_json::from_value(members.into()).map_err(fail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::{OnUnknown, Priority};

    #[test]
    fn it_says_who_how_and_how_many() {
        let body = br#"{"campaign_id":"spring","account":"main","sandbox":true,"mmlite":true,"on_unknown":"resend","priority":"high","jobs":7,"batch":"a"}"#;
        let options = Options { sandbox: true, mmlite: true, on_unknown: OnUnknown::Resend, priority: Priority::High };
        let expected = Announcement {
            campaign_id: "spring".parse().unwrap(),
            account: "main".parse().ok(),
            options,
            jobs: Some(7),
            batch: Some("a".into()),
        };
        assert_eq!(Announcement::parse(body), Ok(expected));
        let least = Announcement::parse(br#"{"campaign_id":"spring"}"#).unwrap();
        assert_eq!((least.account, least.options, least.jobs, least.batch), (None, Options::default(), None, None));
    }

    #[test]
    fn a_field_nobody_knows_is_refused_and_no_value_is_quoted() {
        for body in [r#"{"campaign_id":"spring","job":7}"#, r#"{"campaign_id":"spring","jobs":"905321234567"}"#, "7", "{}"] {
            let error = Announcement::parse(body.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("not a campaign announcement: ") && !error.contains("9053"), "{error}");
        }
    }
}
