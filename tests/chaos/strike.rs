//! How the faults are done.

use std::time::Duration;

use tokio::time::Instant;

use crate::plan::{Fault, Moment, Strike};
use crate::world::World;

/// What a slow connection holds back, each way.
const SLOW: Duration = Duration::from_millis(150);
/// After a full disk has room again, the process may still end because of what it met.
const AFTERMATH: Duration = Duration::from_secs(5);
/// From being asked to end to the end: the drain limit of the configuration, and slow machines.
const GONE: Duration = Duration::from_secs(30);
/// A pause is read by then.
const SETTLED: Duration = Duration::from_millis(300);

impl World {
    /// Waits for the moment and strikes.
    pub(crate) async fn meet(&mut self, strike: Strike) {
        if strike.at != Moment::Enqueue {
            self.reach(strike.share).await;
        }
        self.note(&format!("the moment for {strike}"));
        match strike.at {
            Moment::Start if strike.share > 0 => self.kill(),
            Moment::Start | Moment::Enqueue | Moment::Sending | Moment::Finish => {}
            Moment::Paused => self.pause().await,
            Moment::Resumed => {
                self.pause().await;
                self.wait(SETTLED).await;
                self.resume_all().await;
            }
            Moment::Drain => self.ask_to_end(if strike.share.is_multiple_of(2) { "TERM" } else { "INT" }).await,
        }
        self.wait(strike.after).await;
        self.strike(strike).await;
        match strike.at {
            Moment::Paused => self.resume_all().await,
            Moment::Drain => self.until_gone().await,
            _ => {}
        }
        self.note(&format!("{strike} is over"));
    }

    async fn pause(&self) {
        self.daemon.try_post("campaigns/park/pause", "{}").await;
        self.daemon.try_post("accounts/main/pause", "{}").await;
    }

    fn kill(&mut self) {
        if self.done {
            return;
        }
        self.tally.kills += 1;
        self.tally.unknowing += 1;
        self.asked = false;
        self.note("kill -9, and started");
        self.daemon.kill9();
        self.daemon.start();
    }

    async fn signal(&mut self, name: &str) {
        self.look_after().await;
        if !self.done {
            self.daemon.signal(name);
        }
    }

    /// By a signal that lets it finish what is in flight.
    async fn ask_to_end(&mut self, signal: &str) {
        self.signal(signal).await;
        self.asked = true;
        self.tally.unknowing += 1;
    }

    async fn until_gone(&mut self) {
        let gone = self.wait_for(GONE, async |world| !world.asked).await;
        assert!(gone, "it does not end; its log:\n{}", self.daemon.log());
    }

    async fn strike(&mut self, strike: Strike) {
        self.tally.unknowing += u64::from(strike.fault.leaves_unknown());
        self.tally.strikes += 1;
        match strike.fault {
            Fault::Kill => self.kill(),
            Fault::EnqueueKill => {} // see `daemon::enqueue`
            Fault::Terminate | Fault::Interrupt => {
                self.ask_to_end(if strike.fault == Fault::Terminate { "TERM" } else { "INT" }).await;
                self.until_gone().await;
            }
            Fault::Stop => {
                self.signal("STOP").await;
                self.last(strike).await;
                self.signal("CONT").await;
            }
            Fault::DiskFull => self.fill(strike).await,
            Fault::GatewayCut => self.gateway.cut(),
            Fault::GatewaySilent => {
                self.gateway.freeze(true);
                self.last(strike).await;
                self.gateway.freeze(false);
            }
            Fault::GatewaySlow => {
                self.gateway.delay(SLOW);
                self.last(strike).await;
                self.gateway.delay(Duration::ZERO);
            }
            Fault::GatewayDown => {
                self.gateway.down(true);
                self.last(strike).await;
                self.gateway.down(false);
            }
            Fault::BrokerKill | Fault::BrokerCut | Fault::BrokerSilent | Fault::BrokerSlow => self.strike_broker(strike).await,
        }
    }

    async fn strike_broker(&mut self, strike: Strike) {
        let Some(rabbit) = self.rabbit.take() else { return };
        match strike.fault {
            Fault::BrokerKill => {
                self.tally.broker_kills += 1;
                rabbit.node.kill9();
                self.last(strike).await;
                rabbit.node.boot();
            }
            Fault::BrokerCut => rabbit.proxy.cut(),
            Fault::BrokerSilent => {
                rabbit.proxy.freeze(true);
                self.last(strike).await;
                rabbit.proxy.freeze(false);
            }
            _ => {
                rabbit.proxy.delay(SLOW);
                self.last(strike).await;
                rabbit.proxy.delay(Duration::ZERO);
            }
        }
        self.rabbit = Some(rabbit);
    }

    async fn fill(&mut self, strike: Strike) {
        let Some(disk) = self.disk.take() else { return };
        self.full_until = Some(Instant::now() + strike.lasts + AFTERMATH);
        disk.fill(u64::from(strike.lasts.subsec_micros()) % 65_536);
        self.last(strike).await;
        disk.free();
        self.disk = Some(disk);
    }

    /// As long as it lasts, with a kill in the middle if the plan says so.
    async fn last(&mut self, strike: Strike) {
        if strike.and_kill {
            self.wait(strike.lasts / 2).await;
            self.kill();
            self.wait(strike.lasts / 2).await;
        } else {
            self.wait(strike.lasts).await;
        }
    }
}
