//! A Docker Engine in memory: a stateful server of the Engine API, for tests and for machines without Docker.
#![doc = include_str!("../README.md")]

mod addresses;
mod binds;
mod clock;
mod config;
mod containers;
mod disk_usage;
mod engine;
mod events;
mod fault;
mod files;
mod http;
mod images;
#[cfg(unix)]
mod listen;
mod log;
mod networks;
mod operation;
mod pipes;
mod ports;
mod process;
mod reference;
mod registry;
mod rng;
mod script;
mod server;
mod session;
mod shell;
mod signals;
mod state;
mod system;
mod tarfiles;
mod terminal;
mod time;
mod version;
mod volumes;
mod wire;

pub use clock::Clock;
pub use engine::{Builder, Calls, EngineError, FakeEngine, Loss};
pub use events::Event;
pub use fault::{Delay, Fault, FaultKind, When};
#[cfg(unix)]
pub use listen::Server;
pub use operation::Operation;
pub use registry::{RegistryAnswer, RegistryBehaviour, RegistryRule};
pub use script::{Health, Match, OnSignal, Predicate, Script, ScriptError, Step};
pub use version::{ApiVersion, VersionError};
