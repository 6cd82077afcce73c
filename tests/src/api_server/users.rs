//! Who may do what: tokens, rules that a test gives, and RBAC objects for tokens that were requested.

use std::collections::{BTreeMap, HashMap};

use super::answer::{self, Answer};
use super::rbac::bound_rules;
use super::request::{Seen, Target};
use super::store::Store;
use crate::admission;

/// Somebody with a token.
#[derive(Clone, Debug, Default)]
pub struct User {
    /// `system:serviceaccount:NAMESPACE:NAME` for a pod.
    pub name: String,
    /// What they may do; nothing given means everything.
    pub rules: Option<Vec<Rule>>,
    /// The node that the token is bound to by its pod.
    pub node: Option<String>,
}

/// One thing that a user may do.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// The API group, empty for the core one.
    pub group: String,
    /// The plural, with its subresource: `nodes/status`.
    pub resource: String,
    /// `get`, `list`, `watch`, `create`, `patch`, `delete`.
    pub verbs: Vec<String>,
    /// Only in this namespace; nothing given means in all, and for what has no namespace.
    pub namespace: Option<String>,
}

impl Rule {
    /// A rule for verbs that are separated by spaces.
    pub fn new(group: &str, resource: &str, verbs: &str, namespace: Option<&str>) -> Self {
        Self {
            group: group.into(),
            resource: resource.into(),
            verbs: verbs.split(' ').map(str::to_owned).collect(),
            namespace: namespace.map(str::to_owned),
        }
    }

    fn allows(&self, asked: &Asked<'_>) -> bool {
        let one = |mine: &str, asked: &str| mine == "*" || mine == asked;
        one(&self.group, asked.group)
            && one(&self.resource, asked.resource)
            && self.verbs.iter().any(|verb| one(verb, asked.verb))
            && self.namespace.as_deref().is_none_or(|mine| mine == asked.namespace)
    }
}

struct Asked<'a> {
    group: &'a str,
    resource: &'a str,
    verb: &'a str,
    namespace: &'a str,
}

/// Where somebody's rights come from.
#[derive(Clone, Debug)]
enum Rights {
    Given(User),
    /// The roles that are bound to a service account in the cluster.
    Bound(User),
}

/// All tokens.
#[derive(Debug, Default)]
pub(super) struct Tokens(HashMap<String, Rights>);

/// Somebody who has shown a token.
#[derive(Clone, Debug)]
pub(super) struct Identity(Rights);

impl Tokens {
    /// A token of somebody with given rules.
    pub(super) fn give(&mut self, user: User) -> String {
        self.add(Rights::Given(user))
    }

    /// A token of a service account, which may do what roles in the cluster allow.
    pub(super) fn request(&mut self, user: User) -> String {
        self.add(Rights::Bound(user))
    }

    fn add(&mut self, rights: Rights) -> String {
        let token = format!("double-token-{}", self.0.len());
        self.0.insert(token.clone(), rights);
        token
    }

    /// Whose token it is.
    pub(super) fn identity(&self, token: &str) -> Option<Identity> {
        self.0.get(token).cloned().map(Identity)
    }
}

impl Identity {
    fn user(&self) -> &User {
        let (Rights::Given(user) | Rights::Bound(user)) = &self.0;
        user
    }

    pub(super) fn name(&self) -> &str {
        &self.user().name
    }

    /// The user as admission sees them.
    pub(super) fn admitted(&self) -> admission::User {
        let node = self.user().node.iter();
        let key = "authentication.kubernetes.io/node-name";
        let extra: BTreeMap<_, _> = node.map(|n| (key.to_owned(), vec![n.clone()])).collect();
        admission::User { name: self.name().into(), groups: Vec::new(), extra }
    }

    /// Refuses a request that the user has no right to, as recorded.
    pub(super) fn authorize(
        &self,
        seen: &Seen,
        target: &Target,
        store: &Store,
    ) -> Result<(), Answer> {
        self.authorize_verb(&seen.verb, target, store)
    }

    /// The same for a verb that the request includes: an apply that creates needs `create`, too.
    pub(super) fn authorize_verb(
        &self,
        verb: &str,
        target: &Target,
        store: &Store,
    ) -> Result<(), Answer> {
        let resource = match target.subresource.as_str() {
            "" => target.kind.resource.clone(),
            subresource => format!("{}/{subresource}", target.kind.resource),
        };
        let group = target.kind.group.as_str();
        let asked = Asked { group, resource: &resource, verb, namespace: &target.namespace };
        let allowed = match &self.0 {
            Rights::Given(user) => {
                user.rules.as_ref().is_none_or(|rules| rules.iter().any(|r| r.allows(&asked)))
            }
            Rights::Bound(user) => bound_rules(&user.name, store).iter().any(|r| r.allows(&asked)),
        };
        if allowed { Ok(()) } else { Err(forbidden(self.name(), &asked, target)) }
    }
}

fn forbidden(user: &str, asked: &Asked<'_>, target: &Target) -> Answer {
    let place = match asked.namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let name = match target.name.as_str() {
        "" => String::new(),
        name => format!(" {name:?}"),
    };
    let message = format!(
        "{}{name} is forbidden: User {user:?} cannot {} resource {:?} in API group {:?} {place}",
        target.kind.qualified_resource(),
        asked.verb,
        asked.resource,
        asked.group,
    );
    Answer::failure(403, "Forbidden", &message, answer::details(&target.kind, &target.name))
}
