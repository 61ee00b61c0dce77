//! The daemon's core, asked one thing at a time: what is kept before it is answered, what a wish
//! does while the daemon ends, and which of two wishes counts.

mod agreement;
mod at_rest;
mod external;
mod front_door;
mod interrupted;
mod known;
mod quiesce;
mod replaced;
mod restore;
mod sa_password;
mod schedule;
mod tentacles;
mod upgrade;
mod wishes;

use std::collections::BTreeMap;
use std::time::Duration;

use octo_local::config::Config;
use octo_local::config::Input;
use octo_local::config::Secret;
use octo_local::config::project::ProjectName;
use octo_local::config::read::read;
use octo_local::daemon::admit::Facts;
use octo_local::daemon::admit::Login;
use octo_local::daemon::admit::NodeKey;
use octo_local::daemon::admit::Taken;
use octo_local::daemon::core::Core;
use octo_local::daemon::core::Duty;
use octo_local::daemon::core::Setup;
use octo_local::daemon::message::About;
use octo_local::daemon::message::Answer;
use octo_local::daemon::message::Cancelled;
use octo_local::daemon::message::DoorWish;
use octo_local::daemon::message::DownPace;
use octo_local::daemon::message::Effect;
use octo_local::daemon::message::Event;
use octo_local::daemon::message::Found;
use octo_local::daemon::message::Invalidated;
use octo_local::daemon::message::LeaseStep;
use octo_local::daemon::message::Leave;
use octo_local::daemon::message::Moment;
use octo_local::daemon::message::NoLease;
use octo_local::daemon::message::Request;
use octo_local::daemon::message::RequestId;
use octo_local::daemon::message::UpRequest;
use octo_local::daemon::store::Loaded;
use octo_local::daemon::store::Stored;
use octo_local::daemon::store::Wish;
use octo_local::engine::Endpoint;
use octo_local::engine::Host;
use octo_local::reconcile::Goal;
use octo_local::reconcile::Mono;
use octo_local::reconcile::Observed;
use octo_local::reconcile::action::Outcome;
use octo_local::reconcile::health::Miss;
use octo_local::reconcile::health::Probe;
use octo_local::reconcile::observed::Run;
use octo_local::spec::UnitId;

/// A core, a disk that answers when it is told to, and an engine that shows what it is told.
struct Bench {
    core: Core,
    now: Duration,
    seen: Observed,
    engine: Result<(), String>,
    disk: Result<(), String>,
    /// The disk answers later: what it was given is among the effects.
    disk_takes_its_time: bool,
    lease: Result<(), NoLease>,
    answers: BTreeMap<RequestId, Answer>,
    left: Option<Leave>,
    /// Everything that was asked of the engine, of the disk excepted.
    effects: Vec<Effect>,
    last_request: u64,
    writes: usize,
    /// What was asked about the lease.
    leases: Vec<LeaseStep>,
    /// What each look was to see afresh.
    looks: Vec<Invalidated>,
    /// What the front door was told.
    door: Vec<Option<DoorWish>>,
}

impl Bench {
    fn new(stored: Stored, duty: Duty) -> Self {
        Self::beginning_at(Duration::ZERO, stored, duty)
    }

    /// One whose daemon begins at this time.
    fn beginning_at(now: Duration, stored: Stored, duty: Duty) -> Self {
        Self::loaded(now, Loaded::Fine(Box::new(stored)), duty)
    }

    fn loaded(now: Duration, loaded: Loaded, duty: Duty) -> Self {
        let setup = Setup {
            project: ProjectName::given("p").unwrap(),
            endpoint: Endpoint::at("unix:///nowhere"),
            host_name: "octo.example".to_owned(),
            state_file: "state.json".to_owned(),
            ends_when_down: duty != Duty::Supervise,
            duty,
            next_backup: |pattern, after_ms| {
                octo_local::backup::schedule::next_due(pattern, after_ms, &chrono::Utc)
            },
        };
        Self {
            core: Core::new(setup, loaded, moment(now)),
            now,
            seen: Observed::default(),
            engine: Ok(()),
            disk: Ok(()),
            disk_takes_its_time: false,
            lease: Ok(()),
            answers: BTreeMap::new(),
            left: None,
            effects: Vec::new(),
            last_request: 0,
            writes: 0,
            leases: Vec::new(),
            looks: Vec::new(),
            door: Vec::new(),
        }
    }

    /// One that has looked once.
    fn awake(stored: Stored) -> Self {
        let mut bench = Self::new(stored, Duty::Supervise);
        bench.settle();
        bench
    }

    fn on(&mut self, event: Event) {
        let effects = self.core.on(event, moment(self.now));
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        // In the order in which they were decided: what follows below decides anew.
        for effect in &effects {
            if let Effect::FrontDoor(wish) = effect {
                self.door.push(wish.as_deref().cloned());
            }
        }
        for effect in effects {
            match effect {
                Effect::Look { invalidated, .. } => {
                    self.looks.push(invalidated);
                    let seen = self.engine.clone();
                    let seen = seen.map(|()| Box::new(self.seen.clone()));
                    self.on(Event::Looked(seen));
                }
                Effect::Save { number, .. } if !self.disk_takes_its_time => {
                    self.writes += 1;
                    let result = self.disk.clone();
                    self.on(Event::Saved { number, result });
                }
                Effect::Lease(step) => {
                    self.leases.push(step);
                    self.on(Event::Leased(self.lease.clone()));
                }
                Effect::Reply(id, answer) => {
                    self.answers.insert(id, *answer);
                }
                Effect::Leave(leave) => self.left = Some(leave),
                Effect::Tell(..) | Effect::FollowEvents | Effect::FrontDoor(_) => {}
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
        self.found_with(id, Facts::default(), fresh_key);
    }

    fn found(&mut self, id: RequestId, facts: Facts) {
        self.found_with(id, facts, "AAAAAAAAAAAAAAAAAAAAAA==");
    }

    fn found_with(&mut self, id: RequestId, facts: Facts, fresh_key: &str) {
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

    /// The engine is looked at afresh.
    fn look(&mut self) {
        self.on(Event::StreamOpened);
        self.settle();
    }

    /// No node runs any more; what was asked of the engine is done.
    fn end_nodes(&mut self) {
        for container in &mut self.seen.containers {
            if container.unit.is_server() {
                container.run = Run::Exited {
                    started_at: "1".to_owned(),
                    code: 0,
                    oom: false,
                    error: String::new(),
                };
            }
        }
        self.finish_actions();
        self.look();
    }

    /// Another daemon of what is kept, which sees what this one saw.
    fn followed_by(&self, stored: Stored) -> Self {
        let mut next = Self::new(stored, Duty::Supervise);
        next.seen = self.seen.clone();
        next.now = self.now;
        next.settle();
        next.look();
        next
    }

    /// Every action under way ends well.
    fn finish_actions(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            if let Effect::Act(action, _) = effect {
                self.on(Event::Done(action, Ok(Outcome::default())));
            }
        }
    }

    /// What was asked of the engine.
    fn acts(&self) -> Vec<&Effect> {
        let acts = |effect: &&Effect| matches!(effect, Effect::Act(..));
        self.effects.iter().filter(acts).collect()
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
        // Drains and the front door have tests of their own.
        ("DRAIN_TIMEOUT", "0"),
        ("FRONT_DOOR", "off"),
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
        no_backup: false,
        giving_way: None,
    })
}

fn down(volumes: bool) -> Request {
    Request::Down {
        volumes,
        pace: DownPace::default(),
        endpoint: None,
    }
}

/// A core whose configuration was applied, with nothing made yet.
fn applied() -> Bench {
    applied_with(&[])
}

fn applied_with(more: &[(&str, &str)]) -> Bench {
    let mut bench = Bench::awake(Stored::default());
    let id = bench.ask(Request::Up(up(more)));
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
    assert!(matches!(
        bench.answers[&nobody],
        Answer::Cancelled(Cancelled::Followed)
    ));
    assert_eq!(
        bench.goal(),
        Goal::Up,
        "who never got an answer holds nothing"
    );
    let own = bench.ask(Request::Cancel(1));
    assert!(matches!(
        bench.answers[&own],
        Answer::Cancelled(Cancelled::Held)
    ));
    assert_eq!(bench.goal(), Goal::Hold);
    let next = Bench::awake(bench.core.stored().clone());
    assert_eq!(next.goal(), Goal::Hold);
}

#[test]
fn who_only_answers_changes_nothing_whatever_was_kept_and_goes() {
    let kept = known::ready_with(&[("FRONT_DOOR", "on")])
        .core
        .stored()
        .clone();
    for stored in [Stored::default(), kept] {
        let mut bench = Bench::new(stored.clone(), Duty::Answer);
        bench.settle();
        known::wait(&mut bench, 60_000);
        let id = bench.ask(Request::Plan(up(&[("TASK_CAP", "7")])));
        let facts = Facts {
            has_data: stored.spec.is_some(),
            ..Facts::default()
        };
        bench.found(id, facts);
        let answer = &bench.answers[&id];
        assert!(matches!(answer, Answer::Plan(Ok(_))), "{answer:?}");
        assert_eq!((bench.left, bench.writes), (Some(Leave::End), 0));
        assert_eq!((bench.leases.len(), bench.door.len()), (0, 0));
        let is_question =
            |effect: &Effect| matches!(effect, Effect::Gather(..) | Effect::Look { .. });
        assert!(bench.effects.iter().all(is_question), "{:?}", bench.effects);
    }
}

#[test]
fn a_refused_password_is_asked_again_with_growing_waits() {
    let refused = || Probe::Refused("error 18456".to_owned());
    let logins = logins_in_ten_minutes(refused);
    assert!((5..=25).contains(&logins), "{logins} logins in ten minutes");
}

/// Each question brings somebody else's server the password again.
#[test]
fn a_server_that_does_not_serve_is_asked_again_with_growing_waits() {
    let answers = [
        Probe::Failure(Miss::Broken, "a bad token".to_owned()),
        Probe::Failure(Miss::Gone, "closed in the login".to_owned()),
        Probe::Alive("error 40615: not from this address".to_owned()),
        Probe::Suspect("suspect database: O".to_owned()),
    ];
    for answer in answers {
        let logins = logins_in_ten_minutes(|| answer.clone());
        assert!((60..=140).contains(&logins), "{answer:?}: {logins} logins");
    }
}

/// How often an external database that answers so is asked.
fn logins_in_ten_minutes(says: impl Fn() -> Probe) -> u32 {
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
                let probe = says();
                bench.on(Event::Probed {
                    number,
                    unit,
                    instance,
                    probe,
                });
            }
        }
    }
    logins
}

#[test]
fn what_another_host_looks_after_is_left_alone_until_it_ended() {
    let mut bench = Bench::awake(Stored::default());
    bench.lease = Err(NoLease::Held("process 7 of user 0 on another".to_owned()));
    let id = bench.ask(Request::Up(up(&[])));
    bench.gathered(id, "AAAAAAAAAAAAAAAAAAAAAA==");
    assert!(bench.answers.is_empty(), "it may just be ending");
    while bench.answers.is_empty() && bench.now < Duration::from_secs(5) {
        bench.now += Duration::from_millis(100);
        bench.settle();
    }
    let Some(Answer::Up(Err(denied))) = bench.answers.get(&id) else {
        panic!("{:?}", bench.answers);
    };
    assert!(format!("{denied:?}").contains("process 7 of user 0 on another"));
    assert!(bench.acts().is_empty() && bench.writes == 0);
    // It ended: the next wish is taken at once.
    bench.now += Duration::from_secs(5);
    bench.lease = Ok(());
    let id = bench.ask(Request::Up(up(&[])));
    bench.gathered(id, "AAAAAAAAAAAAAAAAAAAAAA==");
    assert!(bench.is_taken(id) && !bench.acts().is_empty());
}

#[test]
fn a_daemon_that_lost_its_lease_acts_no_more_and_says_who_does() {
    let mut bench = applied();
    bench.finish_actions();
    bench.lease = Err(NoLease::Held("process 7 of user 0 on another".to_owned()));
    bench.now += Duration::from_secs(61);
    bench.settle();
    assert_eq!(bench.goal(), Goal::Hold);
    let status = bench.core.status(Mono(bench.now));
    let says = format!("{status:?}");
    assert!(says.contains("process 7 of user 0 on another"), "{says}");
    bench.effects.clear();
    bench.now += Duration::from_secs(10);
    bench.settle();
    assert!(bench.acts().is_empty());
    bench.lease = Ok(());
    bench.now += Duration::from_secs(15);
    bench.settle();
    assert_eq!(bench.goal(), Goal::Up, "it has it again");
}

#[test]
fn an_up_of_what_is_applied_does_not_overrule_a_down_that_came_meanwhile() {
    let mut bench = applied();
    bench.finish_actions();
    // The next daemon has seen nothing yet, so it asks what it would be.
    let mut bench = Bench::awake(bench.core.stored().clone());
    let earlier = bench.ask(Request::Up(up(&[])));
    let later = bench.ask(down(false));
    assert!(bench.is_taken(later));
    bench.gathered(earlier, "BBBBBBBBBBBBBBBBBBBBBB==");
    assert!(
        matches!(bench.answers.get(&earlier), Some(Answer::Up(Err(_)))),
        "{:?}",
        bench.answers
    );
    assert_ne!(bench.core.stored().wish, Wish::Up);
}

/// Facts, each of which may refuse a configuration by itself.
fn odd_facts() -> Vec<fn(&mut Facts)> {
    vec![
        |facts| facts.has_data = true,
        |facts| facts.other_dir = Some("/elsewhere".to_owned()),
        |facts| facts.is_demo = Some(true),
        |facts| facts.sa_login = Login::Refused,
        |facts| facts.elsewhere = Some(("unix:///there".to_owned(), "unix:///here".to_owned())),
        |facts| facts.versions.image = Some("2020.1.1".to_owned()),
        |facts| {
            facts.ports.taken = vec![Taken {
                key: "OCTOPUS_PORT".to_owned(),
                ip: std::net::Ipv4Addr::LOCALHOST.into(),
                port: 8080,
                holder: "somebody".to_owned(),
            }];
        },
        |facts| {
            facts.node.key = Some(NodeKey {
                key: Secret::new("BBBBBBBBBBBBBBBBBBBBBB=="),
                serves: true,
            });
        },
        |facts| {
            facts.host = Some(Host {
                memory: 1024 * 1024 * 1024,
                architecture: "arm64".to_owned(),
                processors: 2,
                ..Host::default()
            });
        },
    ]
}

/// Every combination of facts, before anything was applied, with something applied, and after a
/// `down`: what `plan` calls fine is what `up` takes, and what one refuses the other does too, with
/// the same words.
#[test]
fn what_plan_calls_fine_up_takes_and_what_it_refuses_up_refuses() {
    let mut applied_before = applied().core.stored().clone();
    let mut rested = applied_before.clone();
    rested.wish = Wish::Rest;
    applied_before.config = Some(config(&[("OCTOPUS_NODES", "2")]));
    let odd = odd_facts();
    let (mut fine, mut refused) = (0, 0);
    for stored in [Stored::default(), applied_before, rested] {
        for bits in 0..1u32 << odd.len() {
            let mut facts = Facts::default();
            let chosen = odd.iter().enumerate();
            chosen
                .filter(|(place, _)| bits & (1 << place) != 0)
                .for_each(|(_, change)| change(&mut facts));
            let mut bench = Bench::awake(stored.clone());
            let plan = bench.ask(Request::Plan(up(&[])));
            bench.found(plan, facts.clone());
            let asked = bench.ask(Request::Up(up(&[])));
            bench.found(asked, facts);
            match (&bench.answers[&plan], &bench.answers[&asked]) {
                (Answer::Plan(Ok(changes)), Answer::Up(Ok(accepted))) => {
                    assert_eq!(*changes, accepted.changes);
                    fine += 1;
                }
                (Answer::Plan(Err(plan)), Answer::Up(Err(up))) => {
                    assert_eq!(plan, up);
                    refused += 1;
                }
                others => panic!("{bits:b}: {others:?}"),
            }
        }
    }
    assert!(fine > 3 && refused > 500, "{fine} {refused}");
}
