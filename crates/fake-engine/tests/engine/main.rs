//! What the engine promises, checked on the wire.

mod client;
mod clock;
mod events;
mod faults;
mod files;
mod images;
mod lifecycle;
mod lists;
mod resources;
mod scripts;
mod shell;
mod streams;
mod versions;
