//! Worlds in which one thing happens at one moment: a disk is lost, a daemon stops, a campaign is cancelled.

use super::*;

impl World {
    pub(super) async fn stop_after_a_loss(&mut self) -> Vec<CampaignView> {
        self.enqueue_all().await;
        let mut life = self.start(None);
        while self.broker.left() > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.stop(&mut life).await;
        self.mourn();
        self.lose_disk();
        self.enqueue_all().await;
        let mut life = self.start(None);
        tokio::time::sleep(Duration::from_millis(self.dice.random_range(500..1_500))).await;
        self.stop(&mut life).await;
        self.mourn();
        let mut life = self.start(None);
        let views = self.until_over(&life).await;
        self.stop(&mut life).await;
        views
    }

    /// Somebody who knows nothing of it publishes jobs of campaigns whose ledger is cleaned up: of people who got theirs, and of others.
    pub(super) async fn outlive_the_ledger(&mut self) -> Vec<CampaignView> {
        self.retention = Duration::from_secs(60);
        self.bereft = true;
        self.enqueue_all().await;
        let mut life = self.start(None);
        self.calm_down(&life).await;
        tokio::time::sleep(Duration::from_secs(300)).await;
        let before = self.look(&life).await;
        if !before.iter().all(|view| view.ledger_gone) {
            self.witness.violation(format!("a ledger is still there: {before:?}"));
        }
        for producer in &mut self.producers {
            producer.stray(&self.broker).await;
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
        let after = self.look(&life).await;
        self.stop(&mut life).await;
        let mut life = self.start(None);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let again = self.look(&life).await;
        self.stop(&mut life).await;
        let told = |views: &[CampaignView]| views.iter().map(|v| (v.state, v.enqueued, v.sent, v.dead)).collect::<Vec<_>>();
        let expected: Vec<_> =
            before.iter().map(|v| (CampaignState::Finished, v.enqueued + STRAYS, v.sent, v.dead + STRAYS)).collect();
        for told in [told(&after), told(&again)] {
            if told != expected {
                self.witness.violation(format!("strays are counted as {told:?}, not {expected:?}"));
            }
        }
        let letters = self.producers.iter().flat_map(|producer| self.broker.dead(&producer.id));
        let others = letters.filter_map(|letter| letter.headers.death).find(|death| death.reason != "campaign-over");
        if let Some(death) = others {
            self.witness.violation(format!("a stray is dead by {}", death.reason));
        }
        again
    }

    /// The disk is lost in the moment of a cancelling.
    pub(super) async fn lose_while_cancelling(&mut self) -> Vec<CampaignView> {
        self.enqueue_all().await;
        let mut life = self.start(None);
        tokio::time::sleep(Duration::from_millis(self.dice.random_range(1..600))).await;
        let id = self.producers[0].id.clone();
        self.cancelled.insert(id.clone());
        let within = Duration::from_millis(self.dice.random_range(1..150));
        if tokio::time::timeout(within, life.handle.cancel(id.clone())).await.is_ok_and(|answer| answer.is_ok()) {
            self.told_cancelled.insert(PauseTarget::Campaign(id.clone()));
            // a broker that takes no note delays no answer
            if self.plan.broker.down <= 0.0 && !self.broker.knows_cancelled(&id) {
                self.witness.violation(format!("somebody was told that {id} is cancelled before the broker knew of it"));
            }
        }
        // another life takes the jobs that come by the intake
        life.tasks.shutdown().await;
        self.mourn();
        let life = self.start(None);
        tokio::time::sleep(Duration::from_millis(self.dice.random_range(100..500))).await;
        self.end_with_another_disk(life).await
    }

    pub(super) async fn lose_once_announced(&mut self) -> Vec<CampaignView> {
        self.enqueue_all().await;
        let life = self.start(None);
        let announced = |disk: &SimDisk| disk.contents().campaigns.iter().filter(|campaign| campaign.announced).count();
        while announced(&self.disk) < self.producers.len() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.end_with_another_disk(life).await
    }

    /// The daemon dies with its disk; another one brings everything to its end.
    async fn end_with_another_disk(&mut self, mut life: Life) -> Vec<CampaignView> {
        life.tasks.shutdown().await;
        self.mourn();
        self.lose_disk();
        let mut life = self.start(None);
        self.calm_down(&life).await;
        let views = self.until_over(&life).await;
        self.stop(&mut life).await;
        views
    }
}
