//! Prints the Engine's events until it is interrupted, across restarts of the Engine.

use berth_docker::Docker;
use berth_docker::events::{EventItem, EventsOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let docker = Docker::from_env()?;
    let mut events = docker.events(EventsOptions::default());
    while let Some(item) = events.next().await {
        match item? {
            EventItem::Event(event) => {
                let time = event.time.map(|time| time.to_string()).unwrap_or_default();
                let name = event.actor.attributes.get("name").unwrap_or_default();
                println!(
                    "{time} {} {} {:.12} {name}",
                    event.kind, event.action, event.actor.id
                );
            }
            EventItem::Gap(why) => println!("some events may be missing here ({why:?})"),
            EventItem::Disconnected(error) => println!("the Engine is away: {error}"),
            _ => {}
        }
    }
    Ok(())
}
