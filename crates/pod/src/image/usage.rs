//! What the images of the engine take of its disk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use berth_docker::api::{DiskUsageType, ListImages, SystemDfOptions};
use berth_docker::{ApiVersion, Docker, Error};
use futures_util::future::try_join_all;
use sha2::{Digest as _, Sha256};

use super::flights::Flights;
use super::{AT_ONCE, Images};

/// How long a measurement counts: the Engine looks at every image for it, and the kubelet asks every ten seconds.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// Since when the Engine measures images alone, and not every file of every container and volume as well.
const SINCE_IMAGES_ALONE: ApiVersion = ApiVersion::new(1, 42);

/// What images take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImagesUsage {
    /// Bytes of all their layers, each counted once.
    pub bytes: u64,
    /// When it was measured, by this host's clock.
    pub measured_at: SystemTime,
}

/// Measures, and keeps the last measurement.
#[derive(Debug, Default)]
pub(super) struct Meter {
    kept: Arc<Mutex<Kept>>,
    flights: Flights<(), Result<ImagesUsage, Error>>,
}

#[derive(Debug, Default)]
struct Kept {
    last: Option<(Instant, ImagesUsage)>,
    /// The layers of each image, for engines that have to be asked image by image: those of the images that were there last.
    layers: HashMap<String, Arc<[Layer]>>,
}

/// A layer as it takes space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Layer {
    /// The digest of it and of all that is below it, as the Engine shares layers.
    chain: [u8; 32],
    bytes: u64,
}

impl Images {
    /// What images take of the disk, at most half a minute old. In which file system is told by
    /// [`EngineInfo::data_root`](crate::engine::EngineInfo::data_root).
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn usage(&self) -> Result<ImagesUsage, Error> {
        if let Some((at, usage)) = lock(&self.meter.kept).last
            && at.elapsed() < KEPT_FOR
        {
            return Ok(usage);
        }
        let (_, flight) = self.meter.flights.join(
            |()| true,
            || {
                (
                    (),
                    measure(self.docker.clone(), Arc::clone(&self.meter.kept)),
                )
            },
        );
        flight.await
    }
}

async fn measure(docker: Docker, kept: Arc<Mutex<Kept>>) -> Result<ImagesUsage, Error> {
    let bytes = if docker.api_version().await? >= SINCE_IMAGES_ALONE {
        let options = SystemDfOptions {
            types: vec![DiskUsageType::Image],
            ..SystemDfOptions::default()
        };
        let df = docker.system_df(&options).await?;
        let bytes = df
            .image_usage
            .map_or(df.layers_size, |images| images.total_size);
        u64::try_from(bytes).unwrap_or(0)
    } else {
        sum_of_layers(&docker, &kept).await?
    };
    let usage = ImagesUsage {
        bytes,
        measured_at: SystemTime::now(),
    };
    lock(&kept).last = Some((Instant::now(), usage));
    Ok(usage)
}

/// The sum of the layers of all images. An image never changes, so that only those that are new have to be asked for.
async fn sum_of_layers(docker: &Docker, kept: &Mutex<Kept>) -> Result<u64, Error> {
    let there = docker.list_images(&ListImages::default()).await?;
    let mut layers = HashMap::with_capacity(there.len());
    let mut unknown = Vec::new();
    {
        let mut kept = lock(kept);
        for image in there {
            match kept.layers.remove(&image.id) {
                Some(known) => drop(layers.insert(image.id, known)),
                None => unknown.push(image.id),
            }
        }
    }
    for some in unknown.chunks(AT_ONCE) {
        let asked = some.iter().map(|id| layers_of(docker, id));
        for (id, found) in some.iter().zip(try_join_all(asked).await?) {
            layers.extend(found.map(|found| (id.clone(), found)));
        }
    }
    let bytes = unique_bytes(layers.values().flat_map(|layers| layers.iter()));
    lock(kept).layers = layers;
    Ok(bytes)
}

/// The layers of an image; `None` when it has gone.
async fn layers_of(docker: &Docker, id: &str) -> Result<Option<Arc<[Layer]>>, Error> {
    let asked = async {
        let inspect = docker.inspect_image(id).await?;
        let history = docker.image_history(id).await?;
        // The newest step is the first.
        let sizes = history.iter().rev().map(|step| step.size);
        Ok(layers(&inspect.root_fs.layers, sizes).into())
    };
    match asked.await {
        Ok(layers) => Ok(Some(layers)),
        Err(error) if Error::is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The layers with these digests, the lowest first, whose bytes are told by the steps that made them.
///
/// Steps without bytes may have made an empty layer or none, which is not told. So sizes are dealt out from the lowest layer on; where empty
/// layers shift them, they do so in the same way in every image that shares them.
fn layers(digests: &[String], step_sizes: impl Iterator<Item = i64>) -> Vec<Layer> {
    let mut chain = [0; 32];
    let chains: Vec<[u8; 32]> = digests
        .iter()
        .map(|digest| {
            chain = Sha256::new()
                .chain_update(chain)
                .chain_update(digest)
                .finalize()
                .into();
            chain
        })
        .collect();
    let sizes = step_sizes.filter_map(|size| u64::try_from(size).ok().filter(|size| *size > 0));
    chains
        .into_iter()
        .zip(sizes)
        .map(|(chain, bytes)| Layer { chain, bytes })
        .collect()
}

/// The sum of layers, each counted once. By its size, too: a layer that took the size of another (see [`layers`]) is not that one.
fn unique_bytes<'a>(layers: impl Iterator<Item = &'a Layer>) -> u64 {
    let unique: std::collections::HashSet<&Layer> = layers.collect();
    unique
        .iter()
        .fold(0, |sum, layer| sum.saturating_add(layer.bytes))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is kept is whole between any two steps.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(digests: &[&str], sizes: &[i64]) -> Vec<Layer> {
        let digests: Vec<String> = digests.iter().map(|&digest| digest.to_owned()).collect();
        layers(&digests, sizes.iter().copied())
    }

    fn sum(images: &[Vec<Layer>]) -> u64 {
        unique_bytes(images.iter().flatten())
    }

    #[test]
    fn shared_layers_count_once_and_equal_sizes_twice() {
        let base = image(&["a"], &[100, 0, 0]);
        let app = image(&["a", "b"], &[100, 0, 0, 20]);
        let other = image(&["a", "c"], &[100, 0, 20, 0]);
        assert_eq!(sum(&[base, app, other]), 140);
        // The same files on another base are another layer.
        assert_eq!(
            sum(&[image(&["a", "x"], &[1, 5]), image(&["b", "x"], &[2, 5])]),
            13
        );
    }

    #[test]
    fn empty_layers_and_odd_answers_do_not_lose_bytes_of_others() {
        // The base has an empty layer, which the sizes of both images shift into.
        let base = image(&["a", "empty"], &[100, 0]);
        let app = image(&["a", "empty", "b"], &[100, 0, 20]);
        let other = image(&["a", "empty", "c"], &[100, 0, 30]);
        assert_eq!(sum(&[base, app, other]), 150);
        assert_eq!(sum(&[image(&[], &[5]), image(&["a"], &[-1])]), 0);
        assert_eq!(
            sum(&[image(&["a", "b"], &[i64::MAX, i64::MAX])]),
            u64::MAX - 1
        );
    }
}
