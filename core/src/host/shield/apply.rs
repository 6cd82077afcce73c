//! Does what a plan says: one item after the other, each read back.

use crate::plan::shield::{Item, Kept, Step};

/// What can be set.
pub trait World {
    /// The value of an item; none where it is gone.
    fn read(&mut self, item: &Item) -> Result<Option<String>, String>;

    /// Sets an item. Why it could not be, if so.
    fn write(&mut self, item: &Item, value: &str) -> Result<(), String>;

    /// Whether an item that has `now` has what it was given by writing `value`.
    fn is(&self, _item: &Item, now: &str, value: &str) -> bool {
        now == value
    }
}

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// To put the shield on.
    On,
    /// To take it off.
    Off,
}

/// A step that was done, or tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The step.
    pub step: Step,
    /// What the item has now; none where it is gone.
    pub now: Option<String>,
    /// Why it has not what it was to have.
    pub failure: Option<String>,
}

impl Done {
    /// What is to be remembered of it: nothing, if it is as it was before; under a shield also that it
    /// always was so.
    fn kept(&self, aim: Aim) -> Option<Kept> {
        let is_marked = aim == Aim::On && self.step.is_mark();
        let changed = |now: &&String| **now != self.step.before || is_marked;
        let now = self.now.as_ref().filter(changed)?;
        let (item, before) = (self.step.item.clone(), self.step.before.clone());
        Some(Kept { item, before, set: now.clone(), earlier: None })
    }
}

/// Does all steps, whatever becomes of one. `keep` writes down what is remembered: it is called before
/// the first step, with all that may be changed, and after the last.
pub fn carry_out<E>(
    world: &mut impl World,
    aim: Aim,
    steps: Vec<Step>,
    mut keep: impl FnMut(Vec<Kept>) -> Result<(), E>,
) -> Result<Vec<Done>, E> {
    keep(steps.iter().map(Step::kept).collect())?;
    let done: Vec<Done> = steps.into_iter().map(|step| take(world, step)).collect();
    keep(done.iter().filter_map(|done| done.kept(aim)).collect())?;
    Ok(done)
}

fn take(world: &mut impl World, step: Step) -> Done {
    // What was done before may have changed it: a cpuset takes affinities away.
    let now = match world.read(&step.item) {
        Ok(Some(now)) => now,
        Ok(None) => return Done { step, now: None, failure: None },
        Err(why) => return Done { now: Some(step.now.clone()), step, failure: Some(why) },
    };
    if now == step.wanted {
        return Done { step, now: Some(now), failure: None };
    }
    let written = world.write(&step.item, &step.wanted);
    let now = world.read(&step.item).ok().flatten();
    let now = now.map(|now| match world.is(&step.item, &now, &step.wanted) {
        true => step.wanted.clone(),
        false => now,
    });
    let failure = match (&now, written) {
        (Some(now), Ok(())) if *now != step.wanted => {
            Some(format!("it was set to {}, and has {now}", step.wanted))
        }
        (Some(now), Err(why)) if *now != step.wanted => Some(why),
        _ => None,
    };
    Done { step, now, failure }
}

#[cfg(test)]
mod tests;
