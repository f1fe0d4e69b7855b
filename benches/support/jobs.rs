//! What is sent: campaigns of jobs of some 400 bytes, put into any broker.

use campaignd::broker::{Bound, Broker, Headers, Message, Target};
use campaignd::campaign::{Announcement, Options};
use campaignd::job::{AccountName, CampaignId, Job, JobId, Message as Template, Recipient};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};

/// First recipient; none of these numbers is magic to the simulator.
const FIRST_RECIPIENT: u64 = 905_300_000_000;

/// Publishes awaiting their confirm.
const UNCONFIRMED: usize = 1000;

/// Who a campaign's jobs are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// The daemon: announced, and in its own form.
    Daemon,
    /// A bare worker: bodies are what the gateway takes as they are.
    Bare,
}

/// Puts a campaign with `jobs` jobs into its queue; recipients are numbered from `first` on.
pub(crate) async fn enqueue(
    broker: &dyn Broker,
    name: &str,
    account: Option<&str>,
    first: u64,
    jobs: u64,
    whom: For,
) -> anyhow::Result<CampaignId> {
    let id: CampaignId = name.parse()?;
    broker.prepare(&id, Bound::Unknown).await?;
    let batch = Some(format!("{name}-batch"));
    if whom == For::Daemon {
        let account = account.map(str::parse::<AccountName>).transpose()?;
        let announcement = Announcement {
            campaign_id: id.clone(),
            account,
            options: Options::default(),
            jobs: Some(jobs),
            batch: batch.clone(),
        };
        let message = Message { body: serde_json::to_vec(&announcement)?.into(), headers: Headers::default() };
        broker.publish(Target::Announce(&id), &message).await?;
    }
    let message = Template::parse(&serde_json::value::to_raw_value(&template())?)?;
    let publish = async |number: u64| {
        let to: Recipient = (FIRST_RECIPIENT + first + number).to_string().parse()?;
        let job_id = JobId::derived(&id, to);
        let headers = Headers { message_id: Some(job_id.as_str().to_owned()), batch: batch.clone(), ..Headers::default() };
        let job = Job { id: job_id, campaign: id.clone(), account: None, to, message: message.clone(), not_after: None };
        let body = if whom == For::Daemon { job.to_wire() } else { job.request_body() };
        let message = Message { body: body.into(), headers };
        anyhow::Ok(broker.publish(Target::Jobs(&id), &message).await?)
    };
    stream::iter(0..jobs).map(publish).buffer_unordered(UNCONFIRMED).try_collect::<()>().await?;
    Ok(id)
}

fn template() -> Value {
    json!({
        "type": "template",
        "template": {
            "name": "spring_sale_2026",
            "language": {"code": "tr"},
            "components": [{
                "type": "body",
                "parameters": [{"type": "text", "text": "Deniz"}, {"type": "text", "text": "20 %"}, {"type": "text", "text": "30.11."}],
            }],
        },
    })
}
