//! What `quipu top` knows and decides. Pure: keys, time and what the cluster says come in; orders go out.

use super::meter::Meter;
use quipu_shared::ids::{JobId, NodeId, Role};
use quipu_shared::service::{JobView, NodeState, NodeView};
use std::collections::BTreeMap;
use std::time::Duration;

/// Without news for this long, the master counts as away.
const AWAY_AFTER: Duration = Duration::from_secs(3);
/// How long a notice stays.
const NOTICE_FOR: Duration = Duration::from_secs(6);
/// How far a page is.
const PAGE_ROWS: usize = 10;
/// Characters of a filter at most.
const FILTER_CHARS_MAX: usize = 64;

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Tab,
    Enter,
    Esc,
    Backspace,
    /// Ctrl-C.
    Interrupt,
}

/// The cluster at one look.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// By id.
    pub nodes: Vec<NodeView>,
    /// Newest first.
    pub jobs: Vec<JobView>,
}

/// What happens.
#[derive(Debug)]
pub(super) enum Input {
    Key(Key),
    /// The cluster as it is.
    Seen(Box<Seen>),
    /// It could not be asked.
    Trouble(String),
    /// What came of an order.
    Notice(String),
    /// Why a job stands where it stands.
    Explained(JobId, Vec<String>),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Cancel(JobId),
    Drain(NodeId),
    Explain(JobId),
    Quit,
}

/// Where keys go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pane {
    Nodes,
    Jobs,
}

/// What lies over the panes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Overlay {
    None,
    Help,
    /// Everything about what is chosen.
    Details,
    /// Whether this is really to be done.
    Confirm(Order),
    /// A filter is being typed.
    Filter,
}

/// The state.
pub(super) struct App {
    pub cluster: String,
    pub colour: bool,
    pub pane: Pane,
    pub overlay: Overlay,
    pub filter: String,
    pub meter: Meter,
    /// What was chosen last of each kind; it stays chosen while others come and go.
    node: Option<NodeId>,
    job: Option<JobId>,
    seen: Seen,
    /// When the cluster was last seen.
    seen_at: Option<Duration>,
    now: Duration,
    trouble: Option<String>,
    notice: Option<(String, Duration)>,
    explained: BTreeMap<JobId, Vec<String>>,
}

impl App {
    pub(super) fn new(cluster: String, colour: bool) -> Self {
        Self {
            cluster,
            colour,
            pane: Pane::Jobs,
            overlay: Overlay::None,
            filter: String::new(),
            meter: Meter::default(),
            node: None,
            job: None,
            seen: Seen::default(),
            seen_at: None,
            now: Duration::ZERO,
            trouble: None,
            notice: None,
            explained: BTreeMap::new(),
        }
    }

    /// The sole entry point. `now` is time since any fixed origin.
    pub(super) fn step(&mut self, now: Duration, input: Input) -> Option<Order> {
        self.now = self.now.max(now);
        self.notice.take_if(|(_, until)| *until <= self.now);
        match input {
            Input::Key(key) => return self.press(key),
            Input::Seen(seen) => {
                self.meter.look(self.now, &seen.jobs);
                self.seen = *seen;
                self.seen_at = Some(self.now);
                self.trouble = None;
                self.settle();
                // What it waits for changes while it is looked at.
                if self.overlay == Overlay::Details {
                    return self.explain();
                }
            }
            Input::Trouble(trouble) => self.trouble = Some(trouble),
            Input::Notice(text) => self.notice = Some((text, self.now + NOTICE_FOR)),
            Input::Explained(job, lines) => self.explained = BTreeMap::from([(job, lines)]),
            Input::Tick => {}
        }
        None
    }

    /// Why the picture is an old one, while it is.
    pub(super) fn away(&self) -> Option<&str> {
        let is_old = self.seen_at.is_none_or(|at| self.now.saturating_sub(at) >= AWAY_AFTER);
        match &self.trouble {
            Some(trouble) => Some(trouble),
            None if is_old => Some("no news of the master"),
            None => None,
        }
    }

    pub(super) fn notice(&self) -> Option<&str> {
        self.notice.as_ref().map(|(text, _)| text.as_str())
    }

    pub(super) fn explanation(&self, job: JobId) -> &[String] {
        self.explained.get(&job).map_or(&[], Vec::as_slice)
    }

    /// Every node, the masters first.
    pub(super) fn all_nodes(&self) -> &[NodeView] {
        &self.seen.nodes
    }

    pub(super) fn all_jobs(&self) -> &[JobView] {
        &self.seen.jobs
    }

    /// Nodes that fit the filter: masters, then workers, those that are there first.
    pub(super) fn nodes(&self) -> Vec<&NodeView> {
        let mut nodes: Vec<&NodeView> = self.seen.nodes.iter().filter(|node| self.fits(&node_text(node))).collect();
        nodes.sort_by_key(|node| (node.role != Role::Master, node.state == NodeState::Down, &node.id));
        nodes
    }

    /// Jobs that fit the filter: those that have not ended first, then the newest.
    pub(super) fn jobs(&self) -> Vec<&JobView> {
        let mut jobs: Vec<&JobView> = self.seen.jobs.iter().filter(|job| self.fits(&job_text(job))).collect();
        jobs.sort_by_key(|job| (job.state.is_final(), std::cmp::Reverse(job.id)));
        jobs
    }

    /// Each word of the filter is somewhere in the text, in any case.
    fn fits(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.filter.split_whitespace().all(|word| text.contains(&word.to_lowercase()))
    }

    /// Index of what is chosen, among what is shown.
    pub(super) fn chosen_index(&self, pane: Pane) -> Option<usize> {
        match pane {
            Pane::Nodes => self.nodes().iter().position(|node| Some(&node.id) == self.node.as_ref()),
            Pane::Jobs => self.jobs().iter().position(|job| Some(job.id) == self.job),
        }
    }

    pub(super) fn chosen_node(&self) -> Option<&NodeView> {
        self.nodes().into_iter().find(|node| Some(&node.id) == self.node.as_ref())
    }

    pub(super) fn chosen_job(&self) -> Option<&JobView> {
        self.jobs().into_iter().find(|job| Some(job.id) == self.job)
    }

    /// Chooses something where nothing is, or what was is gone.
    fn settle(&mut self) {
        for pane in [Pane::Nodes, Pane::Jobs] {
            if self.chosen_index(pane).is_none() {
                self.choose(pane, 0);
            }
        }
    }

    fn choose(&mut self, pane: Pane, index: usize) {
        match pane {
            Pane::Nodes => self.node = self.nodes().get(index).map(|node| node.id.clone()),
            Pane::Jobs => self.job = self.jobs().get(index).map(|job| job.id),
        }
    }

    fn shown(&self) -> usize {
        match self.pane {
            Pane::Nodes => self.nodes().len(),
            Pane::Jobs => self.jobs().len(),
        }
    }

    fn press(&mut self, key: Key) -> Option<Order> {
        if key == Key::Interrupt {
            return Some(Order::Quit);
        }
        match &self.overlay {
            Overlay::Confirm(order) => {
                let order = order.clone();
                self.overlay = Overlay::None;
                return matches!(key, Key::Char('y' | 'Y')).then_some(order);
            }
            Overlay::Filter => {
                self.type_filter(key);
                return None;
            }
            Overlay::Help => {
                self.overlay = Overlay::None;
                return (key == Key::Char('q')).then_some(Order::Quit);
            }
            Overlay::Details if matches!(key, Key::Esc | Key::Enter | Key::Backspace) => {
                self.overlay = Overlay::None;
                return None;
            }
            Overlay::Details | Overlay::None => {}
        }
        match key {
            Key::Char('q') => return Some(Order::Quit),
            Key::Char('?') => self.overlay = Overlay::Help,
            Key::Char('/') => self.overlay = Overlay::Filter,
            Key::Char('c') => return self.ask_to_cancel(),
            Key::Char('d') => return self.ask_to_drain(),
            Key::Enter => {
                if self.chosen_index(self.pane).is_some() {
                    self.overlay = Overlay::Details;
                    return self.explain();
                }
            }
            Key::Tab => {
                self.pane = if self.pane == Pane::Nodes { Pane::Jobs } else { Pane::Nodes };
                return self.explain_if_looked_at();
            }
            Key::Esc => {
                self.filter.clear();
                self.settle();
            }
            Key::Up | Key::Char('k') => return self.move_by(-1),
            Key::Down | Key::Char('j') => return self.move_by(1),
            Key::PageUp => return self.move_by(-(PAGE_ROWS as isize)),
            Key::PageDown => return self.move_by(PAGE_ROWS as isize),
            Key::Home | Key::Char('g') => return self.move_by(isize::MIN),
            Key::End | Key::Char('G') => return self.move_by(isize::MAX),
            Key::Char(_) | Key::Backspace | Key::Interrupt => {}
        }
        None
    }

    fn move_by(&mut self, rows: isize) -> Option<Order> {
        let last = self.shown().checked_sub(1)?;
        let index = self.chosen_index(self.pane).unwrap_or(0).saturating_add_signed(rows).min(last);
        self.choose(self.pane, index);
        self.explain_if_looked_at()
    }

    fn explain_if_looked_at(&self) -> Option<Order> {
        if self.overlay == Overlay::Details { self.explain() } else { None }
    }

    fn explain(&self) -> Option<Order> {
        let job = self.chosen_job().filter(|_| self.pane == Pane::Jobs)?;
        Some(Order::Explain(job.id))
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Enter => self.overlay = Overlay::None,
            Key::Esc => {
                self.filter.clear();
                self.overlay = Overlay::None;
            }
            Key::Backspace => drop(self.filter.pop()),
            Key::Char(letter) if self.filter.chars().count() < FILTER_CHARS_MAX => self.filter.push(letter),
            _ => return,
        }
        self.settle();
    }

    fn ask_to_cancel(&mut self) -> Option<Order> {
        match self.chosen_job().filter(|_| self.pane == Pane::Jobs) {
            Some(job) if !job.state.is_final() => self.overlay = Overlay::Confirm(Order::Cancel(job.id)),
            Some(job) => self.say(format!("job {} has ended: {}", job.id, job.state.name())),
            None => self.say("choose a job to cancel (tab switches to the jobs)".to_owned()),
        }
        None
    }

    fn ask_to_drain(&mut self) -> Option<Order> {
        match self.chosen_node().filter(|_| self.pane == Pane::Nodes) {
            Some(node) if node.role == Role::Worker && node.state == NodeState::Up => {
                self.overlay = Overlay::Confirm(Order::Drain(node.id.clone()));
            }
            Some(node) => self.say(format!("{} is no worker that could be drained now", node.id)),
            None => self.say("choose a worker to drain (tab switches to the nodes)".to_owned()),
        }
        None
    }

    fn say(&mut self, text: String) {
        self.notice = Some((text, self.now + NOTICE_FOR));
    }
}

fn node_text(node: &NodeView) -> String {
    format!("{} {} {} {}", node.id, node.role, crate::cmd::state_name(node.state), node.zone)
}

fn job_text(job: &JobView) -> String {
    let labels: String = job.labels.iter().map(|(key, value)| format!(" {key}={value}")).collect();
    format!("{} {} {} {}{labels}", job.id, job.kind, job.state.name(), job.name.as_deref().unwrap_or_default())
}
