//! Which CPUs the mask of the kernel's unbound workqueues is to have, when more than one has a say.
//!
//! ```text
//! others   what the mask has without kcm
//! shield   what the shield makes of that
//! hooks    CPUs of partitions, taken out of either       ─► the mask
//! ```
//!
//! Each layer is changed by itself, and the mask is made of all of them: so neither takes what another
//! one did for somebody else's, in whatever order they come and go. They are noted before the mask is
//! written, beside those that it had until then: by which of the two masks it has, a later one tells
//! whether whoever wrote the note came to writing the mask. A CPU that is otherwise than in either,
//! somebody else has put in or taken out: it is his.

use serde::{Deserialize, Serialize};

use crate::CpuSet;

/// What the mask is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layers {
    /// What it would be without kcm.
    others: CpuSet,
    /// What the shield wants it to be; none without a shield.
    #[serde(skip_serializing_if = "Option::is_none")]
    shield: Option<CpuSet>,
    /// The CPUs that hooks have taken out.
    hooks: CpuSet,
    /// What it is, of all that.
    mask: CpuSet,
}

/// What is remembered of the mask in a boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What it is to be made of.
    pub now: Layers,
    /// What it was made of until that was written.
    pub before: Layers,
}

impl Note {
    /// What the mask is made of, by what it is.
    pub fn layers(note: Option<Self>, mask: CpuSet) -> Layers {
        match note {
            None => Layers { others: mask.clone(), shield: None, hooks: CpuSet::new(), mask },
            Some(note) if note.now.mask == mask => note.now,
            Some(note) if note.before.mask == mask => note.before,
            Some(note) => note.now.changed(mask),
        }
    }
}

impl Layers {
    /// The same after somebody else has put CPUs in, or taken some out.
    fn changed(self, mask: CpuSet) -> Self {
        let (put, taken) = (mask.difference(&self.mask), self.mask.difference(&mask));
        let changed = |cpus: &CpuSet| cpus.difference(&taken).union(&put);
        Self {
            others: changed(&self.others),
            shield: self.shield.as_ref().map(changed),
            hooks: self.hooks.difference(&put),
            mask,
        }
    }

    /// What it would be without kcm.
    pub fn others(&self) -> &CpuSet {
        &self.others
    }

    fn without_hooks(&self) -> &CpuSet {
        self.shield.as_ref().unwrap_or(&self.others)
    }

    /// The mask as it would be had no hook taken anything.
    pub fn seen_by_the_shield(&self) -> CpuSet {
        self.without_hooks().intersection(&self.mask.union(&self.hooks))
    }

    /// With CPUs of a partition taken out, where the kernel's work is on `used` of the mask: it leaves
    /// out what *isolated* partitions have, until the mask is written. None where it has to be somewhere.
    pub fn keep_off(&self, cpus: &CpuSet, used: &CpuSet) -> Option<Self> {
        let mask = used.difference(cpus);
        let hooks = self.hooks.union(cpus).union(&self.mask.difference(&mask));
        (!mask.is_empty()).then(|| Self { hooks, mask, ..self.clone() })
    }

    /// With the shield's wish, but for CPUs that partitions have.
    pub fn shielded(&self, wish: &CpuSet, partitions: &CpuSet) -> Self {
        let shield = (*wish != self.others).then(|| wish.clone());
        Self { shield, ..self.clone() }.made_without(partitions)
    }

    /// Without what hooks have taken out; CPUs that partitions have stay out.
    pub fn given_back(&self, partitions: &CpuSet) -> Self {
        let mut left = Self { hooks: CpuSet::new(), ..self.clone() }.made_without(partitions);
        left.hooks = left.without_hooks().difference(&left.mask);
        left
    }

    fn made_without(self, partitions: &CpuSet) -> Self {
        let some = |cpus: CpuSet| (!cpus.is_empty()).then_some(cpus);
        // The kernel's work must run somewhere.
        let all = self.without_hooks();
        let mask = some(all.difference(&self.hooks)).unwrap_or_else(|| all.clone());
        let mask = some(mask.difference(partitions)).unwrap_or(mask);
        Self { mask, ..self }
    }

    /// What it is.
    pub fn mask(&self) -> &CpuSet {
        &self.mask
    }

    /// Whether it is as if there were no kcm.
    pub fn are_others_alone(&self) -> bool {
        self.shield.is_none() && self.hooks.is_empty() && self.mask == self.others
    }
}

#[cfg(test)]
mod tests;
