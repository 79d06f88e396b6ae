//! Every bound of this crate. Upstream: k8s.io/apiserver/pkg/apis/cel/config.go.

/// Most cost of one call of a program.
pub const PER_CALL_COST: u64 = 1_000_000;
/// Cost that all validations of a policy, or all rules of a custom resource, share.
pub const RUNTIME_COST_BUDGET: u64 = 10_000_000;
/// Cost that all match conditions of a webhook or policy share.
pub const MATCH_CONDITIONS_COST_BUDGET: u64 = 2_500_000;
/// Longest result of a messageExpression, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 5 * 1024;
/// Longest expression that is looked at, in code points: upstream's parser takes as many.
pub const EXPRESSION_CODE_POINTS_MAX: usize = 100_000;
/// Compiled regular expressions kept.
pub const PATTERNS_MAX: usize = 1024;
/// Bytes that one compiled regular expression may take.
pub const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting of an expression's tree.
pub const EXPRESSION_DEPTH_MAX: usize = 250;
/// How deep an expression may be that is parsed on the stack of the thread that asks.
pub const EXPRESSION_DEPTH_SHALLOW: usize = 32;
/// The stack that the parser gets for a deeper one.
pub const PARSER_STACK_BYTES: usize = 16 << 20;
/// Longest chain of operators: each is a level of the tree, which the stack of a worker thread must hold. Upstream has no
/// such bound, for its stacks grow.
pub const EXPRESSION_CHAIN_MAX: usize = 400;
/// Longest list that `lists.range` makes.
pub const RANGE_ITEMS_MAX: i64 = 1_000_000;
