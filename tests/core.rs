//! The daemon's core, asked one thing at a time: what is kept before it is answered, what a wish
//! does while the daemon ends, and which of two wishes counts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::time::Duration;

use octo_local::config::Config;
use octo_local::config::Input;
use octo_local::config::Secret;
use octo_local::config::project::ProjectName;
use octo_local::config::read::read;
use octo_local::daemon::admit::Facts;
use octo_local::daemon::admit::Taken;
use octo_local::daemon::core::Core;
use octo_local::daemon::core::Setup;
use octo_local::daemon::message::About;
use octo_local::daemon::message::Answer;
use octo_local::daemon::message::Effect;
use octo_local::daemon::message::Event;
use octo_local::daemon::message::Found;
use octo_local::daemon::message::Leave;
use octo_local::daemon::message::Moment;
use octo_local::daemon::message::Request;
use octo_local::daemon::message::RequestId;
use octo_local::daemon::message::UpRequest;
use octo_local::daemon::store::Loaded;
use octo_local::daemon::store::Stored;
use octo_local::daemon::store::Wish;
use octo_local::engine::Endpoint;
use octo_local::reconcile::Goal;
use octo_local::reconcile::Mono;
use octo_local::reconcile::Observed;
use octo_local::reconcile::action::Outcome;
use octo_local::reconcile::health::Probe;
use octo_local::spec::UnitId;

/// A core, a disk that answers when it is told to, and an engine that shows what it is told.
struct Bench {
    core: Core,
    now: Duration,
    seen: Observed,
    disk: Result<(), String>,
    answers: BTreeMap<RequestId, Answer>,
    left: Option<Leave>,
    /// Everything that was asked of the engine, of the disk excepted.
    effects: Vec<Effect>,
    last_request: u64,
    writes: usize,
}

impl Bench {
    fn new(stored: Stored, held: bool) -> Self {
        let setup = Setup {
            project: ProjectName::given("p").unwrap(),
            endpoint: Endpoint("unix:///nowhere".to_owned()),
            state_file: "state.json".to_owned(),
            ends_when_down: held,
            held,
        };
        let now = Duration::ZERO;
        Self {
            core: Core::new(setup, Loaded::Fine(Box::new(stored)), moment(now)),
            now,
            seen: Observed::default(),
            disk: Ok(()),
            answers: BTreeMap::new(),
            left: None,
            effects: Vec::new(),
            last_request: 0,
            writes: 0,
        }
    }

    /// One that has looked once.
    fn awake(stored: Stored) -> Self {
        let mut bench = Self::new(stored, false);
        bench.settle();
        bench
    }

    fn on(&mut self, event: Event) {
        let effects = self.core.on(event, moment(self.now));
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Look { .. } => {
                    let seen = Ok(Box::new(self.seen.clone()));
                    self.on(Event::Looked(seen));
                }
                Effect::Save { number, .. } => {
                    self.writes += 1;
                    let result = self.disk.clone();
                    self.on(Event::Saved { number, result });
                }
                Effect::Reply(id, answer) => {
                    self.answers.insert(id, *answer);
                }
                Effect::Leave(leave) => self.left = Some(leave),
                Effect::Tell(..) | Effect::FollowEvents => {}
                other => self.effects.push(other),
            }
        }
    }

    fn settle(&mut self) {
        let effects = self.core.decide(moment(self.now));
        self.take(effects);
    }

    fn ask(&mut self, request: Request) -> RequestId {
        self.last_request += 1;
        let id = RequestId(self.last_request);
        self.on(Event::Requested(id, request));
        id
    }

    fn gathered(&mut self, id: RequestId, fresh_key: &str) {
        self.found(id, Facts::default(), fresh_key);
    }

    fn found(&mut self, id: RequestId, facts: Facts, fresh_key: &str) {
        let found = Found {
            facts,
            images: BTreeMap::new(),
            fresh_key: Secret::new(fresh_key),
        };
        self.on(Event::Gathered {
            id,
            asker_left: false,
            found: Ok(Box::new(found)),
        });
    }

    /// Every action under way ends well.
    fn finish_actions(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            if let Effect::Act(action, _) = effect {
                self.on(Event::Done(action, Ok(Outcome::default())));
            }
        }
    }

    fn goal(&self) -> Goal {
        self.core.state().desired.goal
    }

    fn is_taken(&self, id: RequestId) -> bool {
        matches!(
            self.answers.get(&id),
            Some(Answer::Up(Ok(_)) | Answer::Wished(Ok(_)))
        )
    }
}

fn moment(now: Duration) -> Moment {
    Moment {
        mono: Mono(now),
        suspended: Duration::ZERO,
        wall: time::OffsetDateTime::UNIX_EPOCH + now,
    }
}

fn config(more: &[(&str, &str)]) -> Config {
    let vars = [
        ("SA_PASSWORD", "Str0ng-enough"),
        ("ADMIN_PASSWORD", "Str0ng-enough"),
        ("ACCEPT_EULA", "Y"),
        ("ACCEPT_OCTOPUS_EULA", "Y"),
        ("OCTOPUS_SERVER_TAG", "2026.1.1"),
    ];
    let vars = vars.iter().chain(more);
    let vars = vars.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let input = Input {
        vars: vars.collect(),
        ..Input::default()
    };
    read(&input).unwrap().config
}

fn up(more: &[(&str, &str)]) -> Box<UpRequest> {
    Box::new(UpRequest {
        config: config(more),
        working_dir: "/".to_owned(),
        name_on_purpose: false,
        generated: None,
        endpoint: None,
        fresh: false,
    })
}

fn down(volumes: bool) -> Request {
    Request::Down {
        volumes,
        node_grace: None,
        endpoint: None,
    }
}

/// A core whose configuration was applied, with nothing made yet.
fn applied() -> Bench {
    let mut bench = Bench::awake(Stored::default());
    let id = bench.ask(Request::Up(up(&[])));
    bench.gathered(id, "AAAAAAAAAAAAAAAAAAAAAA==");
    assert!(bench.is_taken(id), "{:?}", bench.answers);
    bench
}

#[test]
fn a_wish_is_on_the_disk_before_it_is_answered() {
    let mut bench = applied();
    let before = bench.writes;
    let id = bench.ask(Request::Units(About::Stop, vec![UnitId::Node(1)], None));
    assert!(bench.is_taken(id) && bench.writes > before);
    // A disk that has not answered yet: neither has the core.
    let id = RequestId(99);
    let request = Request::Units(About::Start, Vec::new(), None);
    let effects = bench
        .core
        .on(Event::Requested(id, request), moment(bench.now));
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Save { .. }))
    );
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Reply(..)))
    );
}

#[test]
fn after_the_data_went_there_is_nothing_to_start() {
    let mut bench = applied();
    let id = bench.ask(down(true));
    assert!(bench.is_taken(id));
    bench.finish_actions();
    bench.settle();
    assert_eq!(bench.core.stored().wish, Wish::Rest, "it is down");
    bench.effects.clear();
    for about in [About::Start, About::Restart] {
        let id = bench.ask(Request::Units(about, Vec::new(), None));
        assert!(!bench.is_taken(id), "{:?}", bench.answers);
    }
    bench.settle();
    assert!(bench.effects.is_empty(), "{:?}", bench.effects);
}

#[test]
fn a_wish_while_the_daemon_ends_is_kept_and_not_acted_on() {
    for about in [About::Start, About::Restart] {
        let mut bench = applied();
        let number = bench.effects.len();
        assert!(
            number > 0,
            "the network is being made, so the end takes a while"
        );
        bench.on(Event::Terminated);
        let id = bench.ask(Request::Units(about, Vec::new(), None));
        assert!(bench.is_taken(id));
        assert_eq!(bench.goal(), Goal::Halt);
        assert_eq!(bench.core.stored().wish, Wish::Up);
        bench.finish_actions();
        bench.settle();
        assert_eq!(bench.left, Some(Leave::End));
    }
}

#[test]
fn a_later_down_is_not_overruled_by_an_earlier_up() {
    let mut bench = Bench::awake(Stored::default());
    let earlier = bench.ask(Request::Up(up(&[])));
    let later = bench.ask(down(false));
    assert!(bench.is_taken(later));
    bench.gathered(earlier, "AAAAAAAAAAAAAAAAAAAAAA==");
    assert!(!bench.is_taken(earlier), "{:?}", bench.answers);
    assert_ne!(bench.core.stored().wish, Wish::Up);
}

#[test]
fn two_first_ups_at_once_make_one_key() {
    let mut bench = Bench::awake(Stored::default());
    let one = bench.ask(Request::Up(up(&[])));
    let two = bench.ask(Request::Up(up(&[])));
    bench.gathered(one, "AAAAAAAAAAAAAAAAAAAAAA==");
    let spec = bench.core.stored().spec.clone();
    bench.gathered(two, "BBBBBBBBBBBBBBBBBBBBBA==");
    assert!(
        bench.is_taken(one) && bench.is_taken(two),
        "{:?}",
        bench.answers
    );
    assert_eq!(
        bench.core.stored().spec,
        spec,
        "the nodes have the first key"
    );
}

#[test]
fn nothing_is_started_with_a_key_that_the_disk_does_not_take() {
    let mut bench = Bench::awake(Stored::default());
    bench.disk = Err("no space left on device".to_owned());
    let id = bench.ask(Request::Up(up(&[])));
    bench.gathered(id, "AAAAAAAAAAAAAAAAAAAAAA==");
    let answer = format!("{:?}", bench.answers[&id]);
    assert!(answer.contains("cannot be kept"), "{answer}");
    bench.settle();
    let acts = |effect: &Effect| matches!(effect, Effect::Act(..));
    assert!(!bench.effects.iter().any(acts), "{:?}", bench.effects);
}

#[test]
fn an_interrupted_start_is_held_also_by_the_next_daemon() {
    let mut bench = applied();
    let nobody = bench.ask(Request::Cancel(0));
    assert!(matches!(bench.answers[&nobody], Answer::Alone(false)));
    assert_eq!(
        bench.goal(),
        Goal::Up,
        "who never got an answer holds nothing"
    );
    let own = bench.ask(Request::Cancel(1));
    assert!(matches!(bench.answers[&own], Answer::Alone(true)));
    assert_eq!(bench.goal(), Goal::Hold);
    let next = Bench::awake(bench.core.stored().clone());
    assert_eq!(next.goal(), Goal::Hold);
}

/// What may be found of a host, all of it that these bits choose.
fn facts(bits: u32) -> Facts {
    let has = |bit: u32| bits & (1 << bit) != 0;
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut facts = Facts {
        has_data: has(0),
        other_dir: has(1).then(|| "/elsewhere".to_owned()),
        is_demo: has(2).then_some(true),
        elsewhere: has(3).then(|| ("unix:///there".to_owned(), "unix:///here".to_owned())),
        host: has(4).then(|| (1 << 30, "x86_64".to_owned())),
        image_version: has(5).then(|| "2026.1.1".to_owned()),
        ..Facts::default()
    };
    if has(6) {
        facts.volume_users.push("somebody".to_owned());
    }
    if has(7) {
        facts.taken.push(Taken {
            key: "OCTOPUS_PORT".to_owned(),
            ip,
            port: 8_080,
            holder: "process 1".to_owned(),
        });
    }
    if has(8) {
        facts.no_such_address.push(("BIND_ADDRESS".to_owned(), ip));
    }
    facts
}

#[test]
fn what_plan_calls_fine_up_takes_and_what_it_refuses_up_refuses() {
    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAA==";
    let mut fine = 0;
    let mut refused = 0;
    for bits in 0..1 << 9 {
        let mut bench = Bench::awake(Stored::default());
        let plan = bench.ask(Request::Plan(up(&[])));
        bench.found(plan, facts(bits), KEY);
        let up = bench.ask(Request::Up(up(&[])));
        bench.found(up, facts(bits), KEY);
        match (&bench.answers[&plan], &bench.answers[&up]) {
            (Answer::Plan(Ok(changes)), Answer::Up(Ok(accepted))) => {
                assert_eq!(*changes, accepted.changes, "{:?}", facts(bits));
                fine += 1;
            }
            (Answer::Plan(Err(plan)), Answer::Up(Err(up))) => {
                assert_eq!(format!("{plan:?}"), format!("{up:?}"));
                refused += 1;
            }
            differ => panic!("{differ:?} for {:?}", facts(bits)),
        }
    }
    assert!(fine > 0 && refused > 0, "{fine} fine, {refused} refused");
}

#[test]
fn since_when_something_is_wanted_is_known_where_this_daemon_was_told() {
    let since = |bench: &Bench| {
        let status = bench.core.status(Mono(bench.now));
        status.goal_for_seconds
    };
    let mut bench = applied();
    assert_eq!(since(&bench), Some(0));
    bench.now += Duration::from_secs(7);
    bench.settle();
    assert_eq!(since(&bench), Some(7));
    bench.ask(Request::Cancel(1));
    assert_eq!((bench.goal(), since(&bench)), (Goal::Hold, Some(0)));
    bench.now += Duration::from_secs(3);
    assert_eq!(since(&bench), Some(3));
    let next = Bench::awake(bench.core.stored().clone());
    assert_eq!((next.goal(), since(&next)), (Goal::Hold, None));
}

#[test]
fn a_daemon_that_was_started_for_a_plan_goes_without_a_trace() {
    let mut bench = Bench::new(Stored::default(), true);
    bench.settle();
    let id = bench.ask(Request::Plan(up(&[])));
    bench.gathered(id, "AAAAAAAAAAAAAAAAAAAAAA==");
    assert!(matches!(bench.answers[&id], Answer::Plan(Ok(_))));
    assert_eq!((bench.left, bench.writes), (Some(Leave::End), 0));
}

#[test]
fn a_refused_password_is_asked_again_with_growing_waits() {
    let external = [
        ("SQL_IMAGE", ""),
        (
            "DB_CONNECTION_STRING",
            "Server=sql.example.com;Database=O;User Id=sa;Password=Str0ng-1x",
        ),
        ("MASTER_KEY", "AAAAAAAAAAAAAAAAAAAAAA=="),
    ];
    let mut bench = Bench::awake(Stored::default());
    let id = bench.ask(Request::Up(up(&external)));
    bench.gathered(id, "AAAAAAAAAAAAAAAAAAAAAA==");
    assert!(bench.is_taken(id), "{:?}", bench.answers);
    let mut logins = 0;
    for _ in 0..600_000 {
        bench.now = bench
            .core
            .wake_at()
            .0
            .max(bench.now + Duration::from_millis(1));
        if bench.now > Duration::from_secs(600) {
            break;
        }
        bench.settle();
        for effect in std::mem::take(&mut bench.effects) {
            if let Effect::Probe {
                number,
                unit,
                instance,
                ..
            } = effect
            {
                logins += 1;
                let probe = Probe::Refused("error 18456".to_owned());
                bench.on(Event::Probed {
                    number,
                    unit,
                    instance,
                    probe,
                });
            }
        }
    }
    assert!((5..=25).contains(&logins), "{logins} logins in ten minutes");
}
