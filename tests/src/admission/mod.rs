//! Admission policies of Kubernetes, evaluated as an API server does: what a policy by CEL accepts,
//! refuses and changes, with no API server at hand. What is not understood is refused, never passed over.

mod expression;
mod matching;
mod mutating;
mod pod;
mod policy;
mod review;
mod rewrite;
mod validating;

pub use mutating::MutatingPolicy;
pub use pod::defaulted;
pub use review::{Resource, Review, User};
pub use validating::ValidatingPolicy;
