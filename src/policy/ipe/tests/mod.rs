//! What the language promises.

mod additions;
mod kernel;
mod limits;
mod model;
mod records;

use super::*;

/// A policy of these statements, which must be good.
fn policy(statements: &str) -> Policy {
    let text = format!("policy_name=p policy_version=1.2.3\n{statements}");
    Policy::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{statements:?}: {error}"))
}

/// Why a policy of these statements is refused.
fn refused(statements: &str) -> PolicyError {
    let text = format!("policy_name=p policy_version=1.2.3\n{statements}");
    Policy::parse(text.as_bytes()).expect_err(statements)
}

/// Its statements, as they are written.
fn statements(policy: &Policy) -> Vec<String> {
    policy.statements().iter().map(ToString::to_string).collect()
}
