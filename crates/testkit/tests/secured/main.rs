//! Our programs against engines of `make up SECURITY=on`: with TLS, users and least rights.
//!
//! Run by `deploy/local/test-secured.sh`, a part of `make test-engines`, one after the other: they share the engines and the topics of
//! the design. Each test starts the programs themselves, with nothing but the environment variables that `make up` or a profile
//! of `deploy/profiles` gives them.

mod clouds;
mod pipeline;
mod programs;
mod refusals;
