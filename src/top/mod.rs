//! `quipu top`: the cluster in a terminal, as it changes.
//!
//! ```text
//!   keys, what the cluster says, the clock --> App::step (pure) --> orders: cancel, drain, explain, quit
//!                                                  |
//!                                               view::draw --> the screen
//! ```
//! [`app`] decides, [`view`] draws, [`feed`] asks the cluster, [`run`] holds them together and gives the terminal back,
//! whatever happens.

mod app;
mod feed;
mod keys;
mod meter;
mod view;

#[cfg(test)]
mod tests;

use crate::failure::{Exit, Failure};
use app::{App, Input, Order};
use quipu_shared::service::JobService;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// How often the clock is told and the screen drawn at least: ages and the word of a lost master go with it.
const TICK: Duration = Duration::from_millis(250);
/// Inputs that wait at most; whoever has more waits.
const INPUTS_MAX: usize = 64;

/// Gives the terminal back when it goes.
struct Screen(ratatui::DefaultTerminal);

impl Screen {
    /// Takes the terminal. A panic gives it back before it is printed.
    fn take() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Shows the cluster until the user or a signal ends it.
pub(crate) async fn run(service: Arc<dyn JobService>, cluster: String, colour: bool) -> Result<(), Failure> {
    let trouble =
        |doing: &'static str| move |error: io::Error| Failure::new(Exit::Internal, format!("{doing}: {error}"));
    // Before the screen is taken, so that a wrong address or token is told like by any other command.
    let first = feed::look(&*service).await?;
    let listen = |kind| signal(kind).map_err(trouble("listen for signals"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let (mut hangup, mut quit) = (listen(SignalKind::hangup())?, listen(SignalKind::quit())?);
    let begun = Instant::now();
    let mut app = App::new(cluster, colour);
    app.step(Duration::ZERO, Input::Seen(Box::new(first)));

    let (inputs, mut received) = mpsc::channel(INPUTS_MAX);
    let feed = tokio::spawn(feed::follow(Arc::clone(&service), inputs.clone()));
    let mut screen = Screen::take().map_err(trouble("take the terminal"))?;
    keys::read(inputs.clone());
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let outcome = loop {
        if let Err(error) = screen.0.draw(|frame| view::draw(frame, &app)) {
            break Err(trouble("draw on the terminal")(error));
        }
        let input = tokio::select! {
            input = received.recv() => input.unwrap_or(Input::Tick),
            _ = tick.tick() => Input::Tick,
            _ = interrupt.recv() => break Ok(()),
            _ = terminate.recv() => break Ok(()),
            _ = hangup.recv() => break Ok(()),
            _ = quit.recv() => break Ok(()),
        };
        match app.step(begun.elapsed(), input) {
            None => {}
            Some(Order::Quit) => break Ok(()),
            Some(order) => drop(tokio::spawn(feed::carry_out(Arc::clone(&service), order, inputs.clone()))),
        }
    };
    feed.abort();
    drop(screen);
    outcome
}
