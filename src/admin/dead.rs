//! Dead letters of a campaign: list, group, release.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};

use super::Desk;
use super::campaigns::{Body as Text, Id, json_or_default};
use super::refusal::Refusal;
use super::wire::{DeadGroup, DeadQuery, Requeued};
use crate::broker::Death;
use crate::engine::{DeadLetter, DeadSelection, Letters};
use crate::job::CampaignId;

/// Dead letters shown when no limit is asked for.
const DEFAULT_LIMIT: u64 = 1000;

type Shelf = Result<Path<String>, PathRejection>;
type Asked = Result<Query<DeadQuery>, QueryRejection>;

/// A JSON array, written while the shelf is walked along: however many there are, few are in memory.
pub(super) async fn list(State(desk): State<Desk>, shelf: Shelf, asked: Asked) -> Result<Response, Refusal> {
    let Query(query) = asked?;
    let mut selection = selection(&query)?;
    selection.limit.get_or_insert(DEFAULT_LIMIT);
    let mut letters = desk.engine.dead(named(shelf)?, selection, query.bodies).await?;
    let first = letters.next().await?;
    let rest = stream::try_unfold((letters, first), async |(mut letters, next): (Letters, Option<DeadLetter>)| {
        let Some(letter) = next else { return Ok(None) };
        let mut text = serde_json::to_vec(&letter).map_err(std::io::Error::other)?;
        let next = letters.next().await.map_err(std::io::Error::other)?;
        text.extend(next.iter().map(|_| b','));
        Ok::<_, std::io::Error>(Some((Bytes::from(text), (letters, next))))
    });
    let bracket = |text: &'static str| stream::iter([Ok(Bytes::from_static(text.as_bytes()))]);
    let body = Body::from_stream(bracket("[").chain(rest).chain(bracket("]")));
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

pub(super) async fn groups(State(desk): State<Desk>, shelf: Shelf, asked: Asked) -> Result<Json<Vec<DeadGroup>>, Refusal> {
    let mut letters = desk.engine.dead(named(shelf)?, selection(&asked?.0)?, false).await?;
    let mut groups = Groups::default();
    while let Some(letter) = letters.next().await? {
        groups.add(letter.death);
    }
    Ok(Json(groups.sorted()))
}

pub(super) async fn requeue(State(desk): State<Desk>, id: Id, body: Text) -> Result<Json<Requeued>, Refusal> {
    let selection: DeadSelection = json_or_default(body)?;
    let requeued = desk.engine.release(id?.0, selection).await?;
    Ok(Json(Requeued { requeued }))
}

fn named(shelf: Shelf) -> Result<CampaignId, Refusal> {
    CampaignId::shelf(&shelf?.0).map_err(|error| Refusal::bad(error, "name a campaign, or _unsorted for what belongs to none"))
}

fn selection(query: &DeadQuery) -> Result<DeadSelection, Refusal> {
    let named = query.jobs.iter().flat_map(|jobs| jobs.split(',')).map(str::trim).filter(|id| !id.is_empty());
    let jobs = named.map(str::parse).collect::<Result<_, _>>();
    Ok(DeadSelection {
        jobs: jobs.map_err(|error| Refusal::bad(error, "separate job ids by commas"))?,
        reason: query.reason.clone(),
        code: query.code.clone(),
        meta: query.meta,
        limit: query.limit,
        unknown_too: false,
    })
}

/// Dead letters added up by reason and codes.
#[derive(Default)]
pub(crate) struct Groups(BTreeMap<(String, Option<String>, Option<u32>, bool), DeadGroup>);

impl Groups {
    pub(crate) fn add(&mut self, death: Death) {
        let key = (death.reason.clone(), death.code.clone(), death.meta, death.may_have_been_sent);
        let group = self.0.entry(key).or_insert_with(|| DeadGroup {
            reason: death.reason,
            code: death.code,
            meta: death.meta,
            may_have_been_sent: death.may_have_been_sent,
            count: 0,
            first: death.at,
            last: death.at,
            description: String::new(),
        });
        group.count += 1;
        group.first = group.first.min(death.at);
        if death.at >= group.last {
            group.last = death.at;
            group.description = death.description;
        }
    }

    /// The most frequent first.
    pub(crate) fn sorted(self) -> Vec<DeadGroup> {
        let mut groups: Vec<DeadGroup> = self.0.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_count_and_keep_the_last_words() {
        let mut groups = Groups::default();
        for (reason, meta, at) in [("a", None, 3), ("b", Some(1), 5), ("b", Some(1), 9), ("b", Some(2), 1)] {
            let at = jiff::Timestamp::from_second(at).unwrap();
            groups.add(Death { meta, description: format!("at {at}"), ..Death::new(at, reason) });
        }
        let groups = groups.sorted();
        let seen: Vec<_> = groups.iter().map(|g| (g.reason.as_str(), g.meta, g.count)).collect();
        assert_eq!(seen, [("b", Some(1), 2), ("a", None, 1), ("b", Some(2), 1)]);
        assert_eq!((groups[0].first.as_second(), groups[0].last.as_second()), (5, 9));
        assert!(groups[0].description.ends_with("09Z"));
    }

    #[test]
    fn a_query_says_the_same_as_its_selection() {
        let selection = DeadSelection {
            jobs: ["a", "b:c"].into_iter().map(|id| id.parse().unwrap()).collect(),
            reason: Some("r".into()),
            code: None,
            meta: Some(7),
            limit: Some(3),
            unknown_too: false,
        };
        assert_eq!(super::selection(&DeadQuery::new(&selection, true)).unwrap(), selection);
        assert_eq!(super::selection(&DeadQuery::new(&DeadSelection::default(), false)).unwrap(), DeadSelection::default());
    }
}
