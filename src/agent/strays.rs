//! Settings and hooks for names that this host may not have: most often a name that was written wrongly, and so would
//! do nothing without a word.

use std::collections::BTreeSet;

use super::{Agent, hooks};
use crate::diagnostic::closest;
use crate::name::DnsName;

/// What to say of each; `names` are those that this host may have, by what the CA last said, or has a bundle of.
#[must_use]
pub fn strays(agent: &Agent<'_>, names: &BTreeSet<&DnsName>) -> Vec<String> {
    let names: BTreeSet<&str> = names.iter().map(|name| name.as_str()).collect();
    let settings = agent.settings.placement.named().map(|name| (name.to_string(), "names in host.yaml".to_owned()));
    let hooks = hooks::directories(agent).into_iter().map(|name| (name, agent.settings.hooks.display().to_string()));
    let stray = settings.chain(hooks).filter(|(name, _)| !names.contains(name.as_str()));
    let text = |(name, place): (String, String)| {
        let near = closest(&name, names.iter().copied());
        let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
        format!("{place}: {name} is no name that this host may have, and nothing is done for it{near}")
    };
    stray.map(text).collect()
}
