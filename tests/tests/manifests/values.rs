//! The policy takes the names of pools that kcm takes.

use kcm_core::pool::PoolName;
use kcm_tests::admission::{Review, defaulted};
use proptest::prelude::*;

use super::cases::pod;
use super::overlay::overlay;

fn refused_as_name(value: &str) -> bool {
    let overlay = overlay("containerd");
    let pod = pod(&[("pool", value)], &["c 1"]);
    let mut review = Review::create("pods", defaulted(&pod));
    review.params = Some(overlay.params());
    let outcome = overlay.validating("kcm-pools").review(&review);
    outcome.is_err_and(|message| message.contains("no name of a pool"))
}

#[test]
fn what_is_no_pool_for_kcm_is_none_for_the_policy() {
    proptest!(ProptestConfig::with_cases(300), |(name in "[A-Za-z0-9_.\\-]{0,59}[ \n/é]?[a.]?")| {
        prop_assert_eq!(refused_as_name(&name), name.parse::<PoolName>().is_err());
    });
    assert!("none".parse::<PoolName>().is_err(), "it is the one that is no pool, and allowed");
    assert!(!refused_as_name("none"));
}
