//! Compiles `pause/pause.rs` for the target, as the static executable that `src/pause.rs` packs into an image.
//!
//! It calls `rustc` itself because Cargo cannot build one package's source for a second, freestanding program.
//! For an architecture that `pause.rs` has no system calls for, the file is left empty and berth says so when
//! it would need the image.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "pause/pause.rs";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-changed=build.rs");

    let output = PathBuf::from(variable("OUT_DIR")?).join("pause");
    let target = env::var("TARGET")?;
    if env::var("CARGO_CFG_TARGET_OS")? != "linux"
        || !matches!(
            env::var("CARGO_CFG_TARGET_ARCH")?.as_str(),
            "x86_64" | "aarch64"
        )
    {
        println!(
            "cargo::warning=no built-in pause image for {target}: pods will need --pod-infra-container-image"
        );
        fs::write(output, [])?;
        return Ok(());
    }

    let mut rustc = Command::new(variable("RUSTC")?);
    rustc.args([
        "--crate-name",
        "pause",
        "--crate-type",
        "bin",
        "--edition",
        "2024",
        "--target",
        &target,
    ]);
    rustc.args([
        "-C",
        "opt-level=z",
        "-C",
        "lto=fat",
        "-C",
        "codegen-units=1",
        "-C",
        "panic=abort",
    ]);
    rustc.args([
        "-C",
        "strip=symbols",
        "-C",
        "debuginfo=0",
        "-C",
        "overflow-checks=off",
        "-C",
        "debug-assertions=off",
    ]);
    // A fixed address needs no run-time relocation, which without libc nobody would do.
    rustc.args([
        "-C",
        "relocation-model=static",
        "-C",
        "target-feature=+crt-static",
    ]);
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie"] {
        rustc.arg("-C").arg(format!("link-arg={argument}"));
    }
    for argument in ["--build-id=none", "-z,noexecstack", "-z,noseparate-code"] {
        rustc.arg("-C").arg(format!("link-arg=-Wl,{argument}"));
    }
    // Rust brings musl's start files itself and would link them in spite of -nostartfiles.
    if env::var("CARGO_CFG_TARGET_ENV")? == "musl" {
        rustc.args(["-C", "link-self-contained=no"]);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut argument = OsString::from("linker=");
        argument.push(linker);
        rustc.arg("-C").arg(argument);
    }
    rustc.arg("-o").arg(&output).arg(SOURCE);

    let status = rustc
        .status()
        .map_err(|error| format!("cannot run {}: {error}", rustc.get_program().display()))?;
    if !status.success() {
        return Err(format!(
            "rustc could not build {SOURCE} for {target}: {status}; its messages are above"
        )
        .into());
    }
    Ok(())
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set: this script is run by Cargo"))
}
