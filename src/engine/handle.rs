//! The engine's door: what the admin API and the `send` command may ask of it.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::view::{AccountView, CampaignView, DeadLetter, DeadSelection, Resumed};
use super::{Pulse, Reload};
use crate::campaign::PauseTarget;
use crate::job::CampaignId;

/// Why the engine did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// It is stopping or has stopped.
    #[error("the daemon is stopping")]
    Stopping,
    /// No such campaign or account.
    #[error("there is no {0}")]
    NotFound(PauseTarget),
    /// It cannot be done in the state it is in.
    #[error("{0}")]
    Conflict(String),
    /// Broker or store did not play along; worth trying again.
    #[error("{0}")]
    Unavailable(String),
}

/// Letters between a walk along a shelf and whoever reads them.
const LETTERS: usize = 64;

/// What is asked, and where the answer goes.
#[derive(Debug)]
pub(super) enum Command {
    Reload(Box<Reload>, oneshot::Sender<()>),
    Campaigns(oneshot::Sender<Vec<CampaignView>>),
    Accounts(oneshot::Sender<Vec<AccountView>>),
    Pause { target: PauseTarget, cause: String, length: Option<Duration>, answer: Answer<()> },
    Resume { target: PauseTarget, answer: Answer<Resumed> },
    Cancel { campaign: CampaignId, answer: Answer<()> },
    Dead { campaign: CampaignId, selection: DeadSelection, bodies: bool, reader: Reader },
    Release { campaign: CampaignId, selection: DeadSelection, answer: Answer<u64> },
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, CommandError>>;

/// Where the letters of a shelf go, one by one, and none after the last.
pub(super) type Reader = mpsc::Sender<Result<Option<DeadLetter>, CommandError>>;

/// Asks the engine things. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    pulse: watch::Receiver<Pulse>,
}

impl Handle {
    pub(super) const fn new(commands: mpsc::Sender<Command>, pulse: watch::Receiver<Pulse>) -> Self {
        Self { commands, pulse }
    }

    /// How the engine is doing, as it changes.
    #[must_use]
    pub fn pulse(&self) -> watch::Receiver<Pulse> {
        self.pulse.clone()
    }

    /// Every campaign, by id.
    ///
    /// # Errors
    /// When the engine is stopping.
    pub async fn campaigns(&self) -> Result<Vec<CampaignView>, CommandError> {
        self.ask(Command::Campaigns).await
    }

    /// One campaign.
    ///
    /// # Errors
    /// When there is none of that id, or the engine is stopping.
    pub async fn campaign(&self, id: &CampaignId) -> Result<CampaignView, CommandError> {
        let all = self.campaigns().await?;
        all.into_iter().find(|view| &view.id == id).ok_or_else(|| CommandError::NotFound(PauseTarget::Campaign(id.clone())))
    }

    /// Every account: those configured, and those a campaign asks for in vain.
    ///
    /// # Errors
    /// When the engine is stopping.
    pub async fn accounts(&self) -> Result<Vec<AccountView>, CommandError> {
        self.ask(Command::Accounts).await
    }

    /// Pauses until resumed, or for `length`. Once it returns, no further request of that target starts.
    ///
    /// # Errors
    /// When there is no such target, the store failed, or the engine is stopping.
    pub async fn pause(&self, target: PauseTarget, cause: String, length: Option<Duration>) -> Result<(), CommandError> {
        self.ask(|answer| Command::Pause { target, cause, length, answer }).await?
    }

    /// Lifts the target's own pause.
    ///
    /// # Errors
    /// When there is no such target, the store failed, or the engine is stopping.
    pub async fn resume(&self, target: PauseTarget) -> Result<Resumed, CommandError> {
        self.ask(|answer| Command::Resume { target, answer }).await?
    }

    /// Calls a campaign off; what is in flight finishes, what waits is taken off the queue.
    ///
    /// # Errors
    /// When there is no such campaign or it is over, the store failed, or the engine is stopping.
    pub async fn cancel(&self, campaign: CampaignId) -> Result<(), CommandError> {
        self.ask(|answer| Command::Cancel { campaign, answer }).await?
    }

    /// The campaign's dead letters, oldest first. Nothing is lost or reordered by looking.
    ///
    /// # Errors
    /// When the engine is stopping; what else goes wrong is told by [`Letters::next`].
    pub async fn dead(&self, campaign: CampaignId, selection: DeadSelection, bodies: bool) -> Result<Letters, CommandError> {
        let (reader, letters) = mpsc::channel(LETTERS);
        let command = Command::Dead { campaign, selection, bodies, reader };
        self.commands.send(command).await.map_err(|_| CommandError::Stopping)?;
        Ok(Letters(letters))
    }

    /// Releases dead letters: back to the campaign's jobs under a new release number. How many there were. Once it returns, nothing
    /// keeps them from being sent: a daemon that starts after a kill goes on with it.
    ///
    /// # Errors
    /// When there is no such campaign, broker or store failed (what was released until then stays so), or the engine is stopping.
    pub async fn release(&self, campaign: CampaignId, selection: DeadSelection) -> Result<u64, CommandError> {
        self.ask(|answer| Command::Release { campaign, selection, answer }).await?
    }

    /// Goes on by other accounts, rules and settings. Answered once they are in force.
    ///
    /// # Errors
    /// When the engine is stopping.
    pub async fn reload(&self, reload: Reload) -> Result<(), CommandError> {
        self.ask(|answer| Command::Reload(Box::new(reload), answer)).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, CommandError> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_| CommandError::Stopping)?;
        answered.await.map_err(|_| CommandError::Stopping)
    }
}

/// Dead letters, one after the other: however many there are, few are in memory.
#[derive(Debug)]
pub struct Letters(mpsc::Receiver<Result<Option<DeadLetter>, CommandError>>);

impl Letters {
    /// The next one; none at the end.
    ///
    /// # Errors
    /// When there is no such campaign, the broker failed, or the engine stops. Nothing comes after that.
    pub async fn next(&mut self) -> Result<Option<DeadLetter>, CommandError> {
        self.0.recv().await.unwrap_or(Err(CommandError::Stopping))
    }

    /// All that are left, in memory.
    ///
    /// # Errors
    /// As [`Letters::next`].
    pub async fn all(mut self) -> Result<Vec<DeadLetter>, CommandError> {
        let mut all = Vec::new();
        while let Some(letter) = self.next().await? {
            all.push(letter);
        }
        Ok(all)
    }
}
