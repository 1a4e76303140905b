//! The group's state machine, driven by hand and at random.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::log::group_member::Joined;

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);

/// A group with a clock that only moves when told.
struct Scene {
    group: Group,
    now: Instant,
    tickets: u64,
    replies: Vec<Reply>,
}

impl Scene {
    fn new() -> Self {
        Self { group: Group::new(Duration::ZERO), now: Instant::now(), tickets: 0, replies: Vec::new() }
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn join_as(&mut self, id: &str, instance: Option<&str>, new_id: &str, metadata: &str) -> Ticket {
        let ticket = self.ticket();
        let join = Join {
            member_id: id.to_owned(),
            instance: instance.map(str::to_owned),
            client_id: "client".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session: SESSION,
            rebalance: REBALANCE,
            protocol_type: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), Bytes::copy_from_slice(metadata.as_bytes()))],
            must_know_id: false,
            may_skip_assignment: true,
        };
        self.group.join(ticket, join, new_id.to_owned(), self.now, &mut self.replies);
        ticket
    }

    /// A member that keeps its id joins.
    fn join(&mut self, id: &str) -> Ticket {
        let known = self.group.members.contains_key(id);
        self.join_as(if known { id } else { "" }, None, id, "topics")
    }

    fn sync(&mut self, id: &str, assignments: &[(&str, &str)]) -> Ticket {
        let ticket = self.ticket();
        let caller = Caller { member_id: id, instance: None, generation: self.group.generation };
        let assignments = assignments
            .iter()
            .map(|(id, it)| ((*id).to_owned(), Bytes::copy_from_slice(it.as_bytes())))
            .collect();
        let sync = Sync { protocol_type: None, protocol: Some("range".to_owned()), assignments };
        self.group.sync(ticket, caller, sync, self.now, &mut self.replies);
        ticket
    }

    fn heartbeat(&mut self, id: &str) -> Result<(), ResponseError> {
        let generation = self.group.generation;
        self.group.heartbeat(Caller { member_id: id, instance: None, generation }, self.now)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.group.tick(self.now, &mut self.replies);
    }

    fn joined(&self, ticket: Ticket) -> Option<Result<Joined, ResponseError>> {
        self.replies.iter().find_map(|it| match it {
            Reply::Join(to, answer) if *to == ticket => Some(answer.clone().map_err(|it| it.error)),
            _ => None,
        })
    }

    fn synced(&self, ticket: Ticket) -> Option<Result<String, ResponseError>> {
        self.replies.iter().find_map(|it| match it {
            Reply::Sync(to, answer) if *to == ticket => {
                Some(answer.clone().map(|it| String::from_utf8(it.assignment.to_vec()).unwrap()))
            }
            _ => None,
        })
    }

    /// Two members in a stable group; `a` leads.
    fn two() -> Self {
        let mut scene = Self::new();
        scene.join("a");
        scene.sync("a", &[]);
        let b = scene.join("b");
        assert_eq!(scene.joined(b), None, "b waits for a");
        assert_eq!(scene.heartbeat("a"), Err(ResponseError::RebalanceInProgress));
        let a = scene.join("a");
        assert_eq!(scene.joined(a).unwrap().unwrap().members.len(), 2);
        assert_eq!(scene.joined(b).unwrap().unwrap().leader, "a");
        let b = scene.sync("b", &[]);
        assert_eq!(scene.synced(b), None, "b waits for the leader");
        let a = scene.sync("a", &[("a", "0"), ("b", "1")]);
        assert_eq!(scene.synced(a), Some(Ok("0".to_owned())));
        assert_eq!(scene.synced(b), Some(Ok("1".to_owned())));
        assert_eq!(scene.group.state, State::Stable);
        scene
    }
}

#[test]
fn members_join_sync_and_leave() {
    let mut scene = Scene::two();
    assert_eq!(scene.heartbeat("a"), Ok(()));
    scene.group.leave("b", None, scene.now, &mut scene.replies).unwrap();
    assert_eq!(scene.heartbeat("a"), Err(ResponseError::RebalanceInProgress));
    let a = scene.join("a");
    assert_eq!(scene.joined(a).unwrap().unwrap().members.len(), 1);
    scene.group.leave("a", None, scene.now, &mut scene.replies).unwrap();
    assert_eq!(scene.group.state, State::Empty);
    assert_eq!(scene.group.deadline(), None);
}

#[test]
fn a_silent_member_is_removed_and_a_late_one_left_behind() {
    let mut scene = Scene::two();
    scene.pass(SESSION / 2);
    assert_eq!(scene.heartbeat("a"), Ok(()));
    scene.pass(SESSION / 2);
    assert_eq!(scene.group.members.keys().collect::<Vec<_>>(), ["a"], "b was silent for a session");

    let mut scene = Scene::two();
    let c = scene.join("c");
    let a = scene.join("a");
    for _ in 0..7 {
        let _ = scene.heartbeat("b"); // alive, but it does not join again
        scene.pass(REBALANCE / 6);
    }
    assert_eq!(scene.joined(a).unwrap().unwrap().members.len(), 2);
    assert!(scene.joined(c).unwrap().is_ok());
    assert_eq!(scene.heartbeat("b"), Err(ResponseError::UnknownMemberId));
}

#[test]
fn requests_of_the_wrong_ones_get_the_errors_of_kafka() {
    use ResponseError::{FencedInstanceId, IllegalGeneration, RebalanceInProgress, UnknownMemberId};
    let mut scene = Scene::two();
    scene.join_as("", Some("i"), "s1", "topics");
    let generation = scene.group.generation;
    let cases = [
        // name, member, instance, generation, answer to a heartbeat
        ("a member during a rebalance", "a", None, generation, Err(RebalanceInProgress)),
        ("a stranger", "z", None, generation, Err(UnknownMemberId)),
        ("an old generation", "a", None, generation - 1, Err(IllegalGeneration)),
        ("an unknown instance", "a", Some("j"), generation, Err(UnknownMemberId)),
        ("an instance that another has", "a", Some("i"), generation, Err(FencedInstanceId)),
    ];
    for (name, member_id, instance, generation, expected) in cases {
        let caller = Caller { member_id, instance, generation };
        assert_eq!(scene.group.heartbeat(caller, scene.now), expected, "{name}");
    }
}

#[test]
fn commits_are_taken_from_members_and_from_nobody_else() {
    use ResponseError::{IllegalGeneration, RebalanceInProgress, UnknownMemberId};
    let mut empty = Group::new(Duration::ZERO);
    let outside = Caller { member_id: "", instance: None, generation: -1 };
    assert_eq!(empty.may_commit(outside, false, Instant::now()), Ok(()));
    let mut scene = Scene::two();
    let generation = scene.group.generation;
    let member = |generation| Caller { member_id: "a", instance: None, generation };
    assert_eq!(scene.group.may_commit(outside, false, scene.now), Err(UnknownMemberId));
    assert_eq!(
        scene.group.may_commit(outside, true, scene.now),
        Ok(()),
        "transactions may leave the group out"
    );
    assert_eq!(scene.group.may_commit(member(generation), false, scene.now), Ok(()));
    assert_eq!(scene.group.may_commit(member(generation - 1), true, scene.now), Err(IllegalGeneration));
    scene.join("a"); // the leader joins again: everybody does
    assert_eq!(scene.group.may_commit(member(generation), false, scene.now), Ok(()), "until all have joined");
    scene.join("b");
    assert_eq!(scene.group.may_commit(member(generation + 1), false, scene.now), Err(RebalanceInProgress));
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let mut scene = Scene::new();
    let first = scene.join_as("", Some("i"), "s1", "topics");
    assert_eq!(scene.joined(first).unwrap().unwrap().member_id, "s1");
    scene.sync("s1", &[("s1", "all")]);
    let again = scene.join_as("", Some("i"), "s2", "topics");
    let joined = scene.joined(again).unwrap().unwrap();
    assert_eq!((joined.member_id.as_str(), joined.generation, joined.skip_assignment), ("s2", 1, true));
    assert_eq!(scene.group.state, State::Stable);
    let synced = scene.sync("s2", &[]);
    assert_eq!(scene.synced(synced), Some(Ok("all".to_owned())));
    let old = Caller { member_id: "s1", instance: Some("i"), generation: 1 };
    assert_eq!(scene.group.heartbeat(old, scene.now), Err(ResponseError::FencedInstanceId));
    let changed = scene.join_as("", Some("i"), "s3", "other topics");
    assert_eq!(scene.joined(changed).unwrap().unwrap().generation, 2, "other topics need a rebalance");
}

#[test]
fn the_first_members_of_a_group_gather() {
    let gather = Duration::from_millis(300);
    let mut scene = Scene { group: Group::new(gather), ..Scene::new() };
    let a = scene.join("a");
    scene.pass(gather / 2);
    let b = scene.join("b");
    scene.pass(gather / 2);
    assert_eq!(scene.joined(a), None, "b has extended the time");
    scene.pass(gather / 2);
    let generations = [a, b].map(|it| scene.joined(it).unwrap().unwrap().generation);
    assert_eq!(generations, [1, 1], "one rebalance for both");
}

#[test]
fn a_new_member_comes_back_with_its_id() {
    let mut scene = Scene::new();
    let ticket = scene.ticket();
    let mut join = Join {
        member_id: String::new(),
        instance: None,
        client_id: String::new(),
        client_host: String::new(),
        session: SESSION,
        rebalance: REBALANCE,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), Bytes::new())],
        must_know_id: true,
        may_skip_assignment: true,
    };
    scene.group.join(ticket, join.clone(), "a".to_owned(), scene.now, &mut scene.replies);
    let refused = JoinRefused { error: ResponseError::MemberIdRequired, member_id: "a".to_owned() };
    assert_eq!(scene.replies.pop(), Some(Reply::Join(ticket, Err(refused))));
    assert!(scene.group.members.is_empty());
    join.member_id = "a".to_owned();
    scene.group.join(Ticket(99), join.clone(), "x".to_owned(), scene.now, &mut scene.replies);
    assert_eq!(scene.joined(Ticket(99)).unwrap().unwrap().member_id, "a");
    join.member_id = "never handed out".to_owned();
    scene.group.join(Ticket(100), join.clone(), "x".to_owned(), scene.now, &mut scene.replies);
    assert_eq!(scene.joined(Ticket(100)), Some(Err(ResponseError::UnknownMemberId)));
    join.protocols = vec![("unheard of".to_owned(), Bytes::new())];
    join.member_id.clear();
    scene.group.join(Ticket(101), join, "x".to_owned(), scene.now, &mut scene.replies);
    assert_eq!(scene.joined(Ticket(101)), Some(Err(ResponseError::InconsistentGroupProtocol)));
}

#[derive(Debug, Clone)]
enum Step {
    Join(usize),
    Sync(usize),
    Leave(usize),
    Heartbeat(usize),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..4_usize).prop_map(Step::Join),
        4 => (0..4_usize).prop_map(Step::Sync),
        1 => (0..4_usize).prop_map(Step::Leave),
        3 => (0..4_usize).prop_map(Step::Heartbeat),
        2 => (1..20_000_u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    /// Whatever members do: the generation never falls, each ticket is answered at most once, nobody waits for
    /// ever, and of one generation everybody hears the same leader, who alone sees the members.
    #[test]
    fn a_group_keeps_its_promises(steps in steps()) {
        let names = ["a", "b", "c", "d"];
        let mut scene = Scene::new();
        let mut generation = 0;
        for step in steps {
            match step {
                Step::Join(who) => drop(scene.join(names[who])),
                Step::Sync(who) => drop(scene.sync(names[who], &[("a", "0"), ("b", "1"), ("c", "2"), ("d", "3")])),
                Step::Leave(who) => drop(scene.group.leave(names[who], None, scene.now, &mut scene.replies)),
                Step::Heartbeat(who) => drop(scene.heartbeat(names[who])),
                Step::Pass(ms) => scene.pass(Duration::from_millis(ms)),
            }
            prop_assert!(scene.group.generation >= generation);
            generation = scene.group.generation;
        }
        for _ in 0..10 {
            scene.pass(REBALANCE);
        }
        prop_assert_eq!(scene.group.state, State::Empty, "silent members are gone");
        let answered: Vec<_> = scene.replies.iter().map(|it| match it {
            Reply::Join(ticket, _) | Reply::Sync(ticket, _) => *ticket,
        }).collect();
        let once: BTreeSet<_> = answered.iter().copied().collect();
        prop_assert_eq!(answered.len(), once.len());
        prop_assert_eq!(once.len() as u64, scene.tickets);
        let mut leaders = BTreeMap::new();
        for reply in &scene.replies {
            if let Reply::Join(_, Ok(joined)) = reply {
                let leader = leaders.entry(joined.generation).or_insert_with(|| joined.leader.clone());
                prop_assert_eq!(&*leader, &joined.leader);
                prop_assert_eq!(joined.members.is_empty(), joined.member_id != joined.leader);
            }
        }
    }
}
