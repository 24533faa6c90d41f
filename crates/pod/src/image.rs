//! Images: whether the engine has one, and pulling it.

use berth_docker::ConfigError;
use berth_docker::auth::{Credentials, Keychain};
use berth_docker::pull::{PullImage, PullProgress};

use crate::runtime::{Error, Runtime};

impl Runtime {
    /// The ID of the image with this name or ID; `None` when the engine does not have it.
    ///
    /// # Errors
    /// When the engine does not answer or finds the name malformed.
    pub async fn image_id(&self, reference: &str) -> Result<Option<String>, Error> {
        match self.docker().inspect_image(reference).await {
            Ok(image) => Ok(Some(image.id)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The credentials that the docker command would use for this image: from its `config.json` and credential helpers.
    ///
    /// # Errors
    /// When the configuration is broken or a helper fails.
    pub async fn credentials(&self, reference: &str) -> Result<Option<Credentials>, ConfigError> {
        Keychain::from_env()?.for_image(reference).await
    }

    /// Pulls an image and shows how it goes. The engine stops pulling when the call is dropped.
    ///
    /// # Errors
    /// When the registry or the engine refuses, and when no progress comes for too long.
    pub async fn pull_image(
        &self,
        reference: &str,
        credentials: Option<&Credentials>,
        mut progress: impl FnMut(&PullProgress),
    ) -> Result<(), Error> {
        let mut pull = self
            .docker()
            .pull_image(
                reference,
                PullImage {
                    credentials,
                    ..Default::default()
                },
            )
            .await?;
        while let Some(step) = pull.next().await {
            progress(step?);
        }
        Ok(())
    }
}
