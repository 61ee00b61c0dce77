//! What may happen in a run, and how often: each seed has one of these mixes.

/// How often something happens; percentages unless said otherwise.
#[derive(Clone, Debug)]
pub(super) struct Mix {
    pub(super) name: &'static str,
    /// The most nodes.
    pub(super) nodes: u64,
    /// Weights of what goes wrong: processes, people, the host, the engine, the daemon, the
    /// operator.
    pub(super) weights: [u64; 6],
    /// Milliseconds between two troubles, at most. None: the operator acts only when all is at
    /// rest, and nothing goes wrong.
    pub(super) pause: Option<u64>,
    /// Runs that crash, hang or take long by themselves.
    pub(super) bad_runs: u64,
    /// Processes that do not end when asked to.
    pub(super) deaf: u64,
    /// Calls to the engine that fail, hang, or lose their answer.
    pub(super) odd_calls: u64,
    /// Looks that show nothing.
    pub(super) blind: u64,
    pub(super) lost_events: u64,
    /// Probes that could not be judged.
    pub(super) starved: u64,
    /// The operator makes mistakes in the `.env`.
    pub(super) mistakes: bool,
}

const CALM: Mix = Mix {
    name: "calm",
    nodes: 4,
    weights: [0; 6],
    pause: None,
    bad_runs: 0,
    deaf: 5,
    odd_calls: 0,
    blind: 0,
    lost_events: 0,
    starved: 0,
    mistakes: false,
};

/// All is well, and the daemon sees it badly.
pub(super) const ADOPTION: Mix = Mix {
    name: "adoption",
    nodes: 2,
    blind: 5,
    lost_events: 20,
    starved: 10,
    ..CALM
};

/// All mixes.
pub(super) const MIXES: [Mix; 8] = [
    CALM,
    Mix {
        name: "processes",
        weights: [8, 1, 0, 0, 0, 1],
        pause: Some(12_000),
        bad_runs: 20,
        starved: 2,
        ..CALM
    },
    Mix {
        name: "people",
        weights: [1, 8, 3, 0, 0, 1],
        pause: Some(9_000),
        lost_events: 10,
        ..CALM
    },
    Mix {
        name: "engine",
        weights: [1, 1, 0, 4, 0, 2],
        pause: Some(14_000),
        odd_calls: 20,
        blind: 6,
        lost_events: 30,
        ..CALM
    },
    Mix {
        name: "operator",
        weights: [0, 0, 0, 0, 0, 8],
        pause: Some(6_000),
        mistakes: true,
        ..CALM
    },
    Mix {
        name: "operator and calls",
        weights: [1, 0, 0, 0, 0, 6],
        pause: Some(8_000),
        odd_calls: 15,
        ..CALM
    },
    Mix {
        name: "daemon",
        weights: [2, 1, 0, 1, 6, 3],
        pause: Some(7_000),
        odd_calls: 5,
        bad_runs: 5,
        starved: 5,
        ..CALM
    },
    Mix {
        name: "everything",
        weights: [3, 3, 2, 2, 2, 3],
        pause: Some(8_000),
        bad_runs: 8,
        deaf: 10,
        odd_calls: 10,
        blind: 3,
        lost_events: 10,
        starved: 3,
        mistakes: true,
        ..CALM
    },
];
