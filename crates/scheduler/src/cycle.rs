//! One attempt to find a node for a pod: PreFilter, Filter, Score. Pure: nothing is written, nothing
//! waits. Upstream: scheduler schedule_one.go and framework/runtime.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::diagnosis::Diagnosis;
use crate::framework::{Code, Cycle, Filter, PluginIndex, PreFilter, Rejection};
use crate::limits;
use crate::node::NodeInfo;
use crate::nominator::Nominator;
use crate::plugins::PLUGINS;
use crate::pod::Pod;

/// Why an attempt gave no node.
#[derive(Debug)]
pub enum Failure {
    /// The pod fits nowhere.
    Unschedulable(Box<Diagnosis>),
    /// Something broke.
    Error(String),
}

/// The filters of one cycle, in order.
pub struct Filters<'a>(Vec<(PluginIndex, Judge<'a>)>);

enum Judge<'a> {
    Own(Box<dyn Filter + 'a>),
    Shared(&'a (dyn Filter + 'a)),
}

/// What PreFilter gives: the filters, and the nodes they are limited to.
pub struct Prepared<'a> {
    pub filters: Filters<'a>,
    only: Option<BTreeSet<String>>,
    /// Plugins that limited the nodes.
    limited_by: Vec<PluginIndex>,
}

/// How nodes are looked for.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// Where in the list of nodes to begin.
    pub start: usize,
    /// `percentageOfNodesToScore`; 0 adapts to the size of the cluster.
    pub percentage: usize,
}

/// Nodes that passed all filters.
pub struct Found<'a> {
    pub feasible: Vec<&'a NodeInfo>,
    /// How many nodes were looked at.
    pub processed: usize,
}

// === Filters ===

impl<'a> Filters<'a> {
    /// Runs all filters on a node; gives the first that rejects.
    pub fn run(&self, node: &NodeInfo) -> Result<(), (PluginIndex, Rejection)> {
        for (plugin, judge) in &self.0 {
            judge.get().filter(node).map_err(|r| (*plugin, r))?;
        }
        Ok(())
    }

    /// Runs all filters, also with the pods that wait for the node and are at least as important.
    pub fn run_with_nominated(
        &self,
        pod: &Pod,
        node: &NodeInfo,
        nominator: &Nominator,
    ) -> Result<(), (PluginIndex, Rejection)> {
        let ahead = |p: &&Arc<Pod>| p.priority >= pod.priority && p.uid != pod.uid;
        let mut ahead = nominator.on(node.name()).iter().filter(ahead).peekable();
        if ahead.peek().is_some() {
            let (mut filters, mut node) = (self.fork(), node.clone());
            for other in ahead {
                node.add_pod(other);
                filters.add_pod(other, &node);
            }
            filters.run(&node)?;
        }
        self.run(node)
    }

    /// Filters to ask what-if questions of.
    pub fn fork(&self) -> Filters<'_> {
        let all = self.0.iter().map(|(plugin, judge)| {
            let own = judge.get().fork();
            (*plugin, own.map_or(Judge::Shared(judge.get()), Judge::Own))
        });
        Filters(all.collect())
    }

    /// Tells the filters of a pod added to `node` (which has it already).
    pub fn add_pod(&mut self, pod: &Pod, node: &NodeInfo) {
        for (_, judge) in &mut self.0 {
            if let Judge::Own(filter) = judge {
                filter.add_pod(pod, node);
            }
        }
    }

    /// Tells the filters of a pod removed from `node` (which no longer has it).
    pub fn remove_pod(&mut self, pod: &Pod, node: &NodeInfo) {
        for (_, judge) in &mut self.0 {
            if let Judge::Own(filter) = judge {
                filter.remove_pod(pod, node);
            }
        }
    }
}

impl Judge<'_> {
    fn get(&self) -> &dyn Filter {
        match self {
            Self::Own(filter) => &**filter,
            Self::Shared(filter) => *filter,
        }
    }
}

// === Steps ===

/// PreFilter of all plugins.
pub fn prepare<'a>(cycle: &Cycle<'a>) -> Result<Prepared<'a>, Failure> {
    let mut out = Prepared {
        filters: Filters(Vec::with_capacity(8)),
        only: None,
        limited_by: Vec::new(),
    };
    let mut rejected: Option<(PluginIndex, Rejection)> = None;
    for (index, listed) in PLUGINS.iter().enumerate() {
        let found = match listed.plugin.pre_filter(cycle) {
            Ok(found) => found,
            Err(r) if r.code == Code::Error => {
                let name = listed.plugin.name();
                let why = format!("running PreFilter plugin {name:?}: {}", r.message());
                return Err(Failure::Error(why));
            }
            Err(r) if r.code == Code::Unresolvable => {
                return Err(pre_filter_failure(cycle, index, r));
            }
            Err(r) => {
                rejected.get_or_insert((index, r));
                continue;
            }
        };
        match found {
            PreFilter::Skip => {}
            PreFilter::Judge(filter) => out.filters.0.push((index, Judge::Own(filter))),
            PreFilter::Only(names, filter) => {
                out.filters.0.push((index, Judge::Own(filter)));
                out.limited_by.push(index);
                out.only = Some(match out.only.take() {
                    None => names,
                    Some(before) => before.intersection(&names).cloned().collect(),
                });
            }
        }
    }
    if let Some((index, r)) = rejected {
        return Err(pre_filter_failure(cycle, index, r));
    }
    if out.only.as_ref().is_some_and(BTreeSet::is_empty) {
        let index = out.limited_by[0];
        let names = plugin_names(&out.limited_by);
        let text = match out.limited_by.len() {
            1 => format!("node(s) didn't satisfy plugin {names}"),
            _ => format!("node(s) didn't satisfy plugin(s) [{names}] simultaneously"),
        };
        let mut failure = pre_filter_failure(cycle, index, Rejection::unresolvable(text));
        if let Failure::Unschedulable(d) = &mut failure {
            out.limited_by.iter().for_each(|p| d.plugins.insert(*p));
        }
        return Err(failure);
    }
    Ok(out)
}

fn plugin_names(all: &[PluginIndex]) -> String {
    let names: Vec<&str> = all.iter().map(|p| PLUGINS[*p].plugin.name()).collect();
    names.join(" ")
}

fn pre_filter_failure(cycle: &Cycle<'_>, plugin: PluginIndex, r: Rejection) -> Failure {
    let mut d = Diagnosis::new(cycle.snapshot.len());
    d.note(plugin, r.code);
    d.pre_filter = Some(r);
    Failure::Unschedulable(Box::new(d))
}

/// Filter: nodes the pod may go to, enough of them to choose from.
pub fn find<'a>(
    cycle: &Cycle<'a>,
    prepared: &Prepared<'a>,
    nominator: &Nominator,
    search: Search,
) -> Result<Found<'a>, Failure> {
    let mut d = Diagnosis::new(cycle.snapshot.len());
    if let Some(node) = nominated_node(cycle, nominator) {
        // A node that was promised is tried alone first.
        let allowed = prepared
            .only
            .as_ref()
            .is_none_or(|o| o.contains(node.name()));
        if allowed && judge(cycle, prepared, nominator, node, &mut d)? {
            return Ok(Found {
                feasible: vec![node],
                processed: 0,
            });
        }
        d = Diagnosis::new(cycle.snapshot.len());
    }
    let all = cycle.snapshot.nodes();
    let mut feasible = Vec::new();
    let mut processed = 0;
    if let Some(only) = &prepared.only {
        let names = plugin_names(&prepared.limited_by);
        let text = format!("node(s) didn't satisfy plugin(s) [{names}]");
        d.absent = Some(Rejection::unresolvable(text));
        prepared
            .limited_by
            .iter()
            .for_each(|p| d.plugins.insert(*p));
        for node in only.iter().filter_map(|n| cycle.snapshot.get(n)) {
            processed += 1;
            if judge(cycle, prepared, nominator, node, &mut d)? {
                feasible.push(node);
            }
        }
    } else {
        let wanted = wanted(all.len(), search.percentage);
        let start = search.start % all.len().max(1);
        for node in all[start..].iter().chain(&all[..start]) {
            processed += 1;
            if judge(cycle, prepared, nominator, node, &mut d)? {
                feasible.push(node);
                if feasible.len() >= wanted {
                    break;
                }
            }
        }
    }
    if feasible.is_empty() {
        return Err(Failure::Unschedulable(Box::new(d)));
    }
    Ok(Found {
        feasible,
        processed,
    })
}

fn nominated_node<'a>(cycle: &Cycle<'a>, nominator: &Nominator) -> Option<&'a NodeInfo> {
    let name = nominator
        .node_of(&cycle.pod.key)
        .unwrap_or(&cycle.pod.nominated_node);
    cycle.snapshot.get(name)
}

/// Whether a node passes; what speaks against it goes into the diagnosis.
fn judge(
    cycle: &Cycle<'_>,
    prepared: &Prepared<'_>,
    nominator: &Nominator,
    node: &NodeInfo,
    d: &mut Diagnosis,
) -> Result<bool, Failure> {
    let verdict = prepared
        .filters
        .run_with_nominated(cycle.pod, node, nominator);
    match verdict {
        Ok(()) => Ok(true),
        Err((plugin, r)) if r.code == Code::Error => {
            let name = PLUGINS[plugin].plugin.name();
            let why = format!("running {name:?} filter plugin: {}", r.message());
            Err(Failure::Error(why))
        }
        Err((plugin, r)) => {
            d.reject(node.node.name.clone(), plugin, r);
            Ok(false)
        }
    }
}

/// How many nodes are enough to choose from.
pub fn wanted(nodes: usize, percentage: usize) -> usize {
    if nodes < limits::FEASIBLE_NODES_MIN {
        return nodes;
    }
    let percentage = match percentage {
        0 => 50_usize
            .saturating_sub(nodes / 125)
            .max(limits::FEASIBLE_PERCENT_MIN),
        fixed => fixed.min(100),
    };
    (nodes * percentage / 100).max(limits::FEASIBLE_NODES_MIN)
}

/// Score: the best of the feasible nodes; the first of equals.
pub fn choose<'a>(cycle: &Cycle<'a>, feasible: &[&'a NodeInfo]) -> Result<&'a NodeInfo, Failure> {
    if let [only] = feasible {
        return Ok(only);
    }
    let totals = totals(cycle, feasible)?;
    let mut best = 0;
    for (at, total) in totals.iter().enumerate() {
        if *total > totals[best] {
            best = at;
        }
    }
    Ok(feasible[best])
}

/// The weighted sum of all plugins' scores, node by node.
pub fn totals<'a>(cycle: &Cycle<'a>, feasible: &[&'a NodeInfo]) -> Result<Vec<i64>, Failure> {
    let mut totals = vec![0_i64; feasible.len()];
    let mut scores = Vec::with_capacity(feasible.len());
    for listed in PLUGINS {
        let name = listed.plugin.name();
        let scorer = listed.plugin.pre_score(cycle, feasible).map_err(|r| {
            Failure::Error(format!("running PreScore plugin {name:?}: {}", r.message()))
        })?;
        let Some(scorer) = scorer else { continue };
        scores.clear();
        scores.extend(feasible.iter().map(|n| scorer.score(n)));
        scorer.normalize(&mut scores);
        for (total, score) in totals.iter_mut().zip(&scores) {
            if !(0..=limits::SCORE_MAX).contains(score) {
                return Err(Failure::Error(format!(
                    "plugin {name:?} returns an invalid score {score}, it should in the range of [0, 100] after normalizing"
                )));
            }
            *total += score * listed.weight;
        }
    }
    Ok(totals)
}

/// `100·s/max`, or with `reverse` 100 minus that. Upstream: helper.DefaultNormalizeScore.
pub fn normalize(scores: &mut [i64], reverse: bool) {
    let max = scores.iter().copied().max().unwrap_or(0);
    for s in scores {
        if max == 0 {
            *s = if reverse { limits::SCORE_MAX } else { *s };
            continue;
        }
        *s = *s * limits::SCORE_MAX / max;
        if reverse {
            *s = limits::SCORE_MAX - *s;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_nodes_looked_for_adapts() {
        let table = [
            (10, 0, 10),
            (99, 0, 99),
            (100, 0, 100),
            (1000, 0, 420),
            (5000, 0, 500),
            (6000, 0, 300),
            (20_000, 0, 1000),
            (1000, 30, 300),
            (200, 10, 100),
        ];
        for (nodes, percentage, expected) in table {
            assert_eq!(wanted(nodes, percentage), expected, "{nodes} {percentage}");
        }
    }

    #[test]
    fn scores_are_normalized_to_a_hundred() {
        let check = |mut scores: Vec<i64>, reverse, expected: &[i64]| {
            normalize(&mut scores, reverse);
            assert_eq!(scores, expected);
        };
        check(vec![1, 2, 4], false, &[25, 50, 100]);
        check(vec![1, 2, 4], true, &[75, 50, 0]);
        check(vec![0, 0], false, &[0, 0]);
        check(vec![0, 0], true, &[100, 100]);
    }
}
