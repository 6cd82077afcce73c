//! What other programs read: the documents on standard output, and what the cluster is told. Fields
//! are named and sorted as they are printed; the schemas of the custom resources are made of these
//! types.

pub(crate) mod description;
pub(crate) mod node;
pub(crate) mod reconcile;
