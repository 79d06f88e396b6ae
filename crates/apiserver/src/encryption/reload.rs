//! An EncryptionConfiguration that follows its file: looked at every minute, taken over once its plug-ins are well;
//! until then the old one stays. Upstream: server/options/encryptionconfig/controller.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Encryption, EncryptionConfig, Rules};
use crate::limits;

/// Between two looks at whether new plug-ins are well.
const HEALTH_EVERY: Duration = Duration::from_millis(100);

/// A file that is followed.
pub struct FileReload {
    path: PathBuf,
    /// Of the text in force.
    hash: String,
    /// Between two looks.
    every: Duration,
}

/// A file's hash as metrics show it.
pub fn hash(text: &[u8]) -> String {
    let hex: String = Sha256::digest(text)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("sha256:{hex}")
}

impl FileReload {
    /// Follows a file from which this configuration was read.
    pub fn new(path: PathBuf, config: &EncryptionConfig) -> Self {
        Self {
            path,
            hash: config.hash.clone(),
            every: limits::ENCRYPTION_POLL,
        }
    }

    /// Looks as often as this.
    pub fn every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    /// The file's configuration, if it is another one.
    fn read(&self) -> Result<Option<EncryptionConfig>, String> {
        let path = self.path.display();
        let failed = |why: &str| {
            format!(
                "error while loading file: error reading encryption provider configuration file \"{path}\": {why}"
            )
        };
        let size = std::fs::metadata(&self.path).map_err(|e| failed(&e.to_string()))?;
        if size.len() > limits::ENCRYPTION_CONFIG_BYTES as u64 {
            return Err(failed("the file is too large"));
        }
        let text = std::fs::read_to_string(&self.path).map_err(|e| failed(&e.to_string()))?;
        if text.is_empty() {
            return Err(format!(
                "encryption provider configuration file \"{path}\" is empty"
            ));
        }
        if hash(text.as_bytes()) == self.hash {
            return Ok(None);
        }
        let config = EncryptionConfig::parse(&text);
        config
            .map(Some)
            .map_err(|why| format!("error while parsing file: {why}"))
    }
}

impl Encryption {
    /// Marks the configuration as one that follows a file, so that health checks name it from the start.
    pub fn reloads(&self) {
        self.0.reloads.store(true, Ordering::Relaxed);
    }

    /// Follows a file until the end.
    pub async fn follow(self, mut file: FileReload, mut shutdown: watch::Receiver<bool>) {
        self.reloads();
        let mut pause = file.every;
        let mut again = limits::ENCRYPTION_AGAIN.0;
        loop {
            tokio::select! {
                _ = shutdown.wait_for(|end| *end) => return,
                () = tokio::time::sleep(pause) => {}
            }
            match self.reload(&mut file).await {
                Ok(taken) => {
                    if taken {
                        self.0.metrics.reloaded(true);
                        self.0.metrics.in_force(&file.hash);
                        tracing::info!(path = %file.path.display(), "took over the encryption configuration");
                    }
                    pause = file.every;
                    again = limits::ENCRYPTION_AGAIN.0;
                }
                Err(error) => {
                    self.0.metrics.reloaded(false);
                    tracing::error!(path = %file.path.display(), %error, "the encryption configuration stays as it was");
                    pause = again;
                    again = (again * 2).min(limits::ENCRYPTION_AGAIN.1);
                }
            }
        }
    }

    async fn reload(&self, file: &mut FileReload) -> Result<bool, String> {
        let Some(config) = file.read()? else {
            return Ok(false);
        };
        let rules = config.rules(&self.0.metrics, &self.0.recovery);
        let rules = rules.map_err(|e| format!("error while building transformers: {e}"))?;
        rules.start().await;
        well(&rules).await?;
        self.enter(rules).await;
        file.hash = config.hash;
        Ok(true)
    }
}

/// Waits until new plug-ins are well.
async fn well(rules: &Rules) -> Result<(), String> {
    let longest: Duration = rules.plugins.iter().map(|k| k.timeout * 2).sum();
    let deadline = Instant::now() + longest.max(limits::ENCRYPTION_HEALTH);
    loop {
        let why = match tokio::time::timeout_at(deadline, rules.check()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => why,
            Err(_) => "context deadline exceeded".into(),
        };
        if Instant::now() >= deadline {
            return Err(format!(
                "health check for new transformers failed, polling error timed out waiting for the condition: {why}"
            ));
        }
        tokio::time::sleep(HEALTH_EVERY).await;
    }
}
