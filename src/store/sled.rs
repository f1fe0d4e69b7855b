//! The store on sled: one tree, one file per stored key, group commit.
