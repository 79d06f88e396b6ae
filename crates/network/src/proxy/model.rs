//! A whole table as a value, and the smallest transaction that turns one such value into another.

use std::collections::BTreeMap;

use linux::nftables::{Base, Batch, Data, Element, Key, Rule, Set, Table};

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
}

/// A set or map. `None` for a set's elements and what rules put into dynamic sets is not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetModel {
    pub set: Set,
    pub elements: BTreeMap<Key, Option<Data>>,
}

/// A table's chains and sets by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub chains: BTreeMap<String, Chain>,
    pub sets: BTreeMap<String, SetModel>,
}

// === Model ===

impl Model {
    /// Appends a rule to a chain, which is made if missing.
    pub fn rule(&mut self, chain: &str, rule: Rule) {
        self.chains
            .entry(chain.into())
            .or_default()
            .rules
            .push(rule);
    }

    /// Makes a chain.
    pub fn chain(&mut self, chain: &str, base: Option<Base>) {
        self.chains.entry(chain.into()).or_default().base = base;
    }

    /// Makes a set.
    pub fn set(&mut self, set: Set) {
        let name = set.name.clone();
        let elements = BTreeMap::new();
        self.sets.insert(name, SetModel { set, elements });
    }

    /// Adds an element. The first one of a key stays: two Services never share an address and port
    /// unless somebody insists by externalIPs, and then the older state wins.
    pub fn element(&mut self, set: &str, key: Key, data: Option<Data>) {
        if let Some(set) = self.sets.get_mut(set) {
            set.elements.entry(key).or_insert(data);
        }
    }

    /// A transaction that makes the table anew.
    pub fn plan_replace(&self, table: Table) -> Batch {
        let mut b = Batch::new(table);
        b.destroy_table();
        b.add_table();
        self.plan_changes(&Self::default(), &mut b);
        b
    }

    /// A transaction with only what differs from `before`; empty where nothing does.
    pub fn plan_update(&self, before: &Self, table: Table) -> Batch {
        let mut b = Batch::new(table);
        self.plan_changes(before, &mut b);
        b
    }

    /// Order matters to the kernel: what is named must exist before, what is deleted must not be
    /// named any more.
    fn plan_changes(&self, before: &Self, b: &mut Batch) {
        for (name, chain) in &self.chains {
            if !before.chains.contains_key(name) {
                b.add_chain(name, chain.base);
            }
        }
        for (name, model) in &self.sets {
            if !before.sets.contains_key(name) {
                b.add_set(&model.set);
            }
        }
        for (name, chain) in &self.chains {
            let known = before.chains.get(name);
            if known.is_some_and(|k| k.rules == chain.rules) {
                continue;
            }
            if known.is_some_and(|k| !k.rules.is_empty()) {
                b.flush_chain(name);
            }
            for rule in &chain.rules {
                b.add_rule(name, rule);
            }
        }
        for (name, model) in &self.sets {
            plan_elements(name, model, before.sets.get(name), b);
        }
        let gone: Vec<_> = before
            .chains
            .iter()
            .filter(|(name, _)| !self.chains.contains_key(*name))
            .collect();
        for (name, chain) in &gone {
            if !chain.rules.is_empty() {
                b.flush_chain(name);
            }
        }
        for (name, _) in &gone {
            b.delete_chain(name);
        }
        for name in before.sets.keys() {
            if !self.sets.contains_key(name) {
                b.delete_set(name);
            }
        }
    }
}

fn plan_elements(name: &str, model: &SetModel, before: Option<&SetModel>, b: &mut Batch) {
    let element = |key: &Key, data: &Option<Data>| Element {
        key: key.clone(),
        end: None,
        data: data.clone(),
    };
    let mut removed = Vec::new();
    let mut added = Vec::new();
    let empty = BTreeMap::new();
    let known = before.map_or(&empty, |k| &k.elements);
    for (key, data) in known {
        if model.elements.get(key) != Some(data) {
            removed.push(element(key, data));
        }
    }
    for (key, data) in &model.elements {
        if known.get(key) != Some(data) {
            added.push(element(key, data));
        }
    }
    b.delete_elements(name, &removed);
    b.add_elements(name, &added);
}
