//! What a check is, and what it is told of the machine.
//! Must not know any single check.

use anyhow::Result;
use futures_util::future::BoxFuture;

use crate::doctor::finding::Finding;
use crate::services::session::{Request, settings};
use crate::services::settings::{Settings, SettingsError};

/// What all checks know.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Where files and programs are.
    pub request: Request,
    /// What the services are to be like.
    pub settings: Settings,
}

impl Machine {
    /// This machine, as a command that brings something up would see it. Writes nothing.
    ///
    /// # Errors
    /// With bad settings.
    pub fn new(request: Request) -> Result<Self, SettingsError> {
        let named = request.settings_file.as_deref();
        let settings = settings(&request.home, named, &request.amendments)?;
        Ok(Self { request, settings })
    }
}

/// Looks, and judges what it saw.
pub type Look = fn(&Machine) -> BoxFuture<'_, Result<Vec<Finding>>>;

/// Mends what is safe to be mended; says what was done, nothing when all was well.
pub type Mend = fn(&Machine) -> BoxFuture<'_, Result<Vec<String>>>;

/// One thing that is looked at.
pub struct Check {
    /// Its name in findings.
    pub name: &'static str,
    /// How to look.
    pub look: Look,
    /// How to mend it, where that is safe.
    pub mend: Option<Mend>,
}
