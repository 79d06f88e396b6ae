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
/// The stack that a level of an expression's tree may take while it is compiled (the parser alone takes 160 KiB for a pair
/// of brackets without optimisation) and while it is evaluated, and what there must be besides. Only what is used is memory.
pub const COMPILE_LEVEL_BYTES: usize = 192 << 10;
pub const EVALUATE_LEVEL_BYTES: usize = 32 << 10;
pub const STACK_BASE_BYTES: usize = 256 << 10;
/// Longest chain of operators: each is a level of the tree, which that stack must hold. Upstream has no such bound, for
/// its stacks grow.
pub const EXPRESSION_CHAIN_MAX: usize = 800;
/// Longest list that `lists.range` makes.
pub const RANGE_ITEMS_MAX: i64 = 1_000_000;
/// Most errors of an expression that are told, and the longest line that is shown with one. Upstream: cel-go
/// common/errors.go and common/error.go.
pub const ISSUES_MAX: usize = 100;
pub const SNIPPET_BYTES_MAX: usize = 16_384;
/// Threads that may wait at a time for authorizers that ask others (tokio gives out 512 such threads).
pub const WAITING_CHECKS: usize = 64;
