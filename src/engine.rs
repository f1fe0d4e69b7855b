//! The loop that joins the parts: one lane per account takes deliveries, paces them, sends them and settles what came of it.

mod handle;
mod view;

pub use handle::{CommandError, Handle};
pub use view::{AccountView, CampaignView, DeadLetter, DeadSelection, PauseView, Resumed, WindowView};
