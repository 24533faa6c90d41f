//! Connect or exit: the engine that the flags and the environment name, or a clear reason why not.

use std::time::Duration;

use berth_docker::{ConnectOptions, Docker, Endpoint, EndpointSource, Environment};
use berth_fake_engine::FakeEngine;

use crate::cli::EngineArgs;
use crate::exit::{Code, Failure};

/// The client of the engine that is meant. A `fake://` endpoint starts a fake engine in this process, which lives as long as the client.
///
/// Nothing is connected yet.
pub(crate) fn client(args: &EngineArgs) -> Result<(Docker, EndpointSource), Failure> {
    let given = args
        .docker_endpoint
        .as_deref()
        .map(|text| ("--docker-endpoint", text));
    let options = ConnectOptions::resolve(&Environment::of_process(), given)
        .map_err(|error| Failure::new(Code::Usage, error))?;
    let source = options.source().clone();
    let fake = matches!(options.endpoint(), Endpoint::Fake { .. });
    let mut builder = Docker::builder(options)
        .deadline(args.runtime_request_timeout.max(Duration::from_millis(1)));
    if fake {
        let engine = FakeEngine::builder()
            .build()
            .map_err(|error| Failure::new(Code::Usage, error))?;
        builder = builder.dialer(move || Ok(engine.connect()));
    }
    let docker = builder
        .build()
        .map_err(|error| Failure::new(Code::Usage, error))?;
    Ok((docker, source))
}

/// The client of an engine that answers: the API version has been agreed on.
pub(crate) async fn connect(args: &EngineArgs) -> Result<Docker, Failure> {
    let (docker, source) = client(args)?;
    match docker.api_version().await {
        Ok(_) => Ok(docker),
        Err(error) => Err(Failure {
            code: Code::Unreachable as u8,
            message: format!(
                "{error}\n  (the endpoint comes from {source}; `berth doctor` looks closer)"
            ),
        }),
    }
}
