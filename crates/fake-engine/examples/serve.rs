//! Serves a fake engine on a unix socket until Ctrl-C: `cargo run -p berth-fake-engine --example serve -- /tmp/fake.sock`,
//! then `docker -H unix:///tmp/fake.sock ps`.

use berth_fake_engine::{FakeEngine, Script};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments
        .next()
        .unwrap_or_else(|| "fake-engine.sock".to_owned());
    let mut builder = FakeEngine::builder();
    if let Some(scripts) = arguments.next() {
        for script in Script::parse_list(&std::fs::read_to_string(scripts)?)? {
            builder = builder.script(script);
        }
    }
    if let Some(version) = arguments.next() {
        builder = builder.api_version(version);
    }
    let engine = builder.build()?;
    let server = engine.serve_unix(&path)?;
    println!(
        "try: docker -H unix://{} version",
        std::path::absolute(server.path())?.display()
    );
    tokio::signal::ctrl_c().await?;
    Ok(())
}
