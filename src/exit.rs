//! How the program ends: the codes that scripts rely on.

use std::process::ExitCode;

use comind_bootstrap::services::settings::SettingsError;
use comind_collector::config::ConfigError;
use comind_collector::run::ServeError;

/// All done.
pub(crate) const DONE: u8 = 0;
/// Something failed.
pub(crate) const FAILED: u8 = 1;
/// A plan would change something.
pub(crate) const WOULD_CHANGE: u8 = 2;
/// The command line cannot be understood (`EX_USAGE` of sysexits).
pub(crate) const USAGE: u8 = 64;
/// A configuration cannot be understood (`EX_CONFIG` of sysexits).
pub(crate) const CONFIG: u8 = 78;

/// The code for an error.
pub(crate) fn code(error: &anyhow::Error) -> ExitCode {
    let config = error.chain().any(|cause| {
        cause.is::<SettingsError>()
            || cause.is::<ConfigError>()
            || matches!(cause.downcast_ref(), Some(ServeError::Config(_)))
    });
    ExitCode::from(if config { CONFIG } else { FAILED })
}
