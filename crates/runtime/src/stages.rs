//! The hidden calls of the program: what the daemon re-executes it as.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Name under which a keeper is executed.
pub const KEEPER: &str = "k0s-keeper";
/// Name under which the init stage is executed.
pub const INIT: &str = "k0s-init";

/// Environment of the stages: nothing of the daemon's, and an allocator that starts no threads (a stage
/// with threads could not fork or change namespaces) and keeps little.
pub const ENVIRONMENT: &[(&str, &str)] = &[(
    "_RJEM_MALLOC_CONF",
    "background_thread:false,narenas:1,tcache:false,dirty_decay_ms:0,muzzy_decay_ms:0",
)];

/// Runs the stage that these arguments name, by the name of the program or the first argument; `None`
/// where they name none. To be called first thing in `main`.
pub fn stage(args: &[OsString]) -> Option<ExitCode> {
    let name = |arg: &OsString| {
        let name = Path::new(arg).file_name()?.to_str()?;
        [KEEPER, INIT].into_iter().find(|stage| *stage == name)
    };
    let stage = args
        .first()
        .and_then(name)
        .or_else(|| args.get(1).and_then(name))?;
    let code = match stage {
        KEEPER => crate::keeper::run(),
        _ => crate::init::run(),
    };
    Some(ExitCode::from(code))
}
