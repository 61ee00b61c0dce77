//! The front door in the model: it is what it was told last, answers one thing after another, and
//! has requests on its nodes, which end by themselves sooner or later.

use octo_local::daemon::message::DoorReport;
use octo_local::daemon::message::DoorWish;
use octo_local::daemon::message::Event as CoreEvent;
use octo_local::web::Feed;
use octo_local::web::message::ListenerState;
use octo_local::web::message::NodeReport;
use octo_local::web::message::NodeState;
use octo_local::web::message::State;

use super::sim::Sim;
use super::world::Ms;

/// How often in a hundred a request runs on a node when the front door is told something.
const BUSY: u64 = 30;
/// Some requests last longer than a node waits for them.
const LONGEST_REQUEST: Ms = 15_000;

impl Sim {
    /// The front door is told how it is to be.
    pub(super) fn tell_the_front_door(&mut self, wish: Option<Box<DoorWish>>) {
        let Some(wish) = wish else {
            return self.front_door_says(1, DoorReport::Ended);
        };
        let feed = wish.feed;
        let busy: Vec<bool> = feed
            .nodes
            .iter()
            .map(|node| node.state != NodeState::Down && self.chance.percent(BUSY))
            .collect();
        let wait = self.chance.between(1, 300);
        self.front_door_says(wait, report(&feed, |place| busy[place]));
        if busy.contains(&true) {
            let wait = self.chance.between(1, LONGEST_REQUEST);
            self.front_door_says(wait, report(&feed, |_| false));
        }
    }

    /// What it says reaches the daemon after what it said before.
    fn front_door_says(&mut self, wait: Ms, report: DoorReport) {
        let at = (self.now + wait).max(self.front_door_said);
        self.front_door_said = at;
        self.deliver_later(at - self.now, CoreEvent::FrontDoor(report));
    }
}

fn report(feed: &Feed, is_busy: impl Fn(usize) -> bool) -> DoorReport {
    let listeners = feed.listeners.iter().map(|one| ListenerState {
        address: one.address,
        failure: None,
        forbidden: false,
    });
    let nodes = feed.nodes.iter().enumerate();
    let nodes = nodes.map(|(place, node)| NodeReport {
        name: node.name.clone(),
        serves: node.state == NodeState::Ready,
        requests: usize::from(is_busy(place)),
        tunnels: 0,
    });
    DoorReport::Is(Box::new(State {
        fed: true,
        listeners: listeners.collect(),
        nodes: nodes.collect(),
        ..State::default()
    }))
}
