//! Lists the containers of the Engine that the environment names, as `docker ps -a` does.

use berth_docker::Docker;
use berth_docker::api::ListContainers;
use berth_docker::model::{PortSummary, Timestamp};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let docker = Docker::from_env()?;
    let options = ListContainers {
        all: true,
        ..Default::default()
    };
    println!(
        "{:14}{:30}{:32}{:22}{:28}NAMES",
        "ID", "IMAGE", "CREATED", "STATUS", "PORTS"
    );
    for row in docker.list_containers(&options).await? {
        let created = row
            .created
            .map(|created: Timestamp| created.to_string())
            .unwrap_or_default();
        let ports: Vec<String> = row.ports.iter().map(port).collect();
        let names: Vec<&str> = row
            .names
            .iter()
            .map(|name| name.trim_start_matches('/'))
            .collect();
        println!(
            "{:<14.12}{:<30.28}{created:<32}{:<22}{:<28}{}",
            row.id,
            row.image,
            row.status,
            ports.join(", "),
            names.join(",")
        );
    }
    Ok(())
}

fn port(port: &PortSummary) -> String {
    match port.public_port {
        0 => format!("{}/{}", port.private_port, port.protocol),
        public => format!(
            "{}:{public}->{}/{}",
            port.ip, port.private_port, port.protocol
        ),
    }
}
