//! Who subscribes to what: filters, and the sessions a topic reaches.

use std::collections::HashMap;
use std::rc::Rc;

/// Name of a session in the hub.
pub(super) type SessionKey = usize;

/// One session's subscription to one filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) session: SessionKey,
    pub(super) qos: u8,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    /// 0 where there is none.
    pub(super) identifier: u32,
    /// The whole filter of a shared subscription.
    pub(super) group: Option<Rc<str>>,
}

/// All subscriptions; filters without wildcards are found by their hash, the others one by one.
#[derive(Debug, Default)]
pub(super) struct Index {
    exact: HashMap<String, Vec<Subscription>>,
    wildcard: Vec<(String, Vec<Subscription>)>,
    shared: Vec<Shared>,
}

/// Members of a shared subscription, who take turns.
#[derive(Debug)]
struct Shared {
    group: String,
    filter: String,
    members: Vec<Subscription>,
    turn: usize,
}

impl Shared {
    fn turn(&mut self, absent: impl Fn(SessionKey) -> bool) -> Option<Subscription> {
        let count = self.members.len();
        let mut turns = (0..count).map(|it| (self.turn + it) % count);
        let taker = turns.find(|&it| !absent(self.members[it].session))?;
        self.turn = taker + 1;
        Some(self.members[taker].clone())
    }
}

/// Splits `$share/group/filter` into group and filter; a filter that is not shared has no group.
pub(super) fn split_shared(text: &str) -> Option<(Option<&str>, &str)> {
    let Some(rest) = text.strip_prefix("$share/") else {
        return valid_filter(text).then_some((None, text));
    };
    let (group, filter) = rest.split_once('/')?;
    let good = !group.is_empty() && !group.contains(['+', '#']) && valid_filter(filter);
    good.then_some((Some(group), filter))
}

/// Whether a message can be published to `topic`.
pub(super) fn valid_topic(topic: &str) -> bool {
    !topic.is_empty() && !topic.contains(['+', '#'])
}

/// Whether `filter` can be subscribed to.
pub(super) fn valid_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let wildcard = level.contains(['+', '#']);
        if wildcard && (level.len() > 1 || (level == "#" && levels.peek().is_some())) {
            return false;
        }
    }
    !filter.is_empty()
}

/// Whether `filter` takes in `topic`; a wildcard in front does not take in topics that begin with `$`.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut filters, mut levels) = (filter.split('/'), topic.split('/'));
    loop {
        match (filters.next(), levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some(filter), Some(level)) if filter == "+" || filter == level => {}
            _ => return false,
        }
    }
}

impl Index {
    /// Adds or replaces a subscription; returns whether it is new.
    pub(super) fn insert(&mut self, group: Option<&str>, filter: &str, subscription: Subscription) -> bool {
        let list = self.list(group, filter);
        match list.iter_mut().find(|it| it.session == subscription.session) {
            Some(old) => {
                *old = subscription;
                false
            }
            None => {
                list.push(subscription);
                true
            }
        }
    }

    /// Removes a session's subscription; returns whether there was one.
    pub(super) fn remove(&mut self, group: Option<&str>, filter: &str, session: SessionKey) -> bool {
        let list = self.list(group, filter);
        let before = list.len();
        list.retain(|it| it.session != session);
        let removed = list.len() < before;
        if list.is_empty() {
            self.exact.remove(filter);
            self.wildcard.retain(|(_, list)| !list.is_empty());
            self.shared.retain(|it| !it.members.is_empty());
        }
        removed
    }

    /// Puts the subscriptions that a message to `topic` reaches into `found`, one for each session, with the
    /// highest quality of service. `absent` says which sessions a shared subscription passes over.
    pub(super) fn find(
        &mut self,
        topic: &str,
        found: &mut Vec<Subscription>,
        absent: impl Fn(SessionKey) -> bool,
    ) {
        found.clear();
        if let Some(list) = self.exact.get(topic) {
            found.extend_from_slice(list);
        }
        for (_, list) in self.wildcard.iter().filter(|(filter, _)| matches(filter, topic)) {
            for it in list {
                match found.iter_mut().find(|other| other.session == it.session) {
                    Some(other) if other.qos < it.qos => *other = it.clone(),
                    Some(_) => {}
                    None => found.push(it.clone()),
                }
            }
        }
        for shared in self.shared.iter_mut().filter(|it| matches(&it.filter, topic)) {
            let taker = shared.turn(&absent).or_else(|| shared.turn(|_| false));
            found.extend(taker);
        }
    }

    /// The member of a shared subscription whose turn it is, of those that are not absent.
    pub(super) fn turn(
        &mut self,
        group: &str,
        filter: &str,
        absent: impl Fn(SessionKey) -> bool,
    ) -> Option<SessionKey> {
        let shared = self.shared.iter_mut().find(|it| it.group == group && it.filter == filter)?;
        shared.turn(absent).map(|it| it.session)
    }

    fn list(&mut self, group: Option<&str>, filter: &str) -> &mut Vec<Subscription> {
        if let Some(group) = group {
            let known = self.shared.iter().position(|it| it.group == group && it.filter == filter);
            let index = known.unwrap_or_else(|| {
                let (group, filter) = (group.to_owned(), filter.to_owned());
                self.shared.push(Shared { group, filter, members: Vec::new(), turn: 0 });
                self.shared.len() - 1
            });
            return &mut self.shared[index].members;
        }
        if !filter.contains(['+', '#']) {
            return self.exact.entry(filter.to_owned()).or_default();
        }
        let known = self.wildcard.iter().position(|(it, _)| it == filter);
        let index = known.unwrap_or_else(|| {
            self.wildcard.push((filter.to_owned(), Vec::new()));
            self.wildcard.len() - 1
        });
        &mut self.wildcard[index].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(session: SessionKey, qos: u8) -> Subscription {
        Subscription { session, qos, no_local: false, retain_as_published: false, identifier: 0, group: None }
    }

    #[test]
    fn filters_match_as_the_standard_says() {
        let cases = [
            ("a/b", "a/b", true),
            ("a/+", "a/b", true),
            ("a/+", "a/", true),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "a/b", true),
            ("+/b", "/b", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("ü/+", "ü/x", true),
        ];
        for (filter, topic, expected) in cases {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn a_session_is_found_once_with_its_highest_quality() {
        let mut index = Index::default();
        assert!(index.insert(None, "a/b", subscription(1, 0)));
        assert!(index.insert(None, "a/+", subscription(1, 2)));
        assert!(index.insert(None, "#", subscription(2, 1)));
        assert!(!index.insert(None, "#", subscription(2, 0)));
        let mut found = Vec::new();
        index.find("a/b", &mut found, |_| false);
        assert_eq!(found, [subscription(1, 2), subscription(2, 0)]);
        assert!(index.remove(None, "#", 2));
        assert!(!index.remove(None, "#", 2));
        index.find("a/b", &mut found, |_| false);
        assert_eq!(found, [subscription(1, 2)]);
    }

    #[test]
    fn members_of_a_shared_subscription_take_turns_and_the_absent_are_passed_over() {
        let mut index = Index::default();
        assert_eq!(split_shared("$share/g/a/+"), Some((Some("g"), "a/+")));
        assert_eq!(split_shared("$share/g"), None);
        for session in 1..=3 {
            index.insert(Some("g"), "a/+", subscription(session, 1));
        }
        let mut found = Vec::new();
        let mut takers = Vec::new();
        for _ in 0..4 {
            index.find("a/x", &mut found, |it| it == 2);
            takers.extend(found.iter().map(|it| it.session));
        }
        assert_eq!(takers, [1, 3, 1, 3]);
        index.find("a/x", &mut found, |_| true);
        assert_eq!(found.len(), 1);
    }
}
