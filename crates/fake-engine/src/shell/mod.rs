//! Owns the built-in shell: what runs a container's command when no script stands for it. It interprets the commands that
//! tests usually run, so that they behave as with busybox; it never starts a program.

mod applets;
mod arithmetic;
mod builtins;
mod expand;
mod file;
mod io;
mod parse;
mod run;
mod text;
mod variables;

pub(crate) use applets::{APPLETS, known as known_applet};
pub(crate) use io::{Output, Sink, Source};
pub(crate) use run::{Io, Shell};
