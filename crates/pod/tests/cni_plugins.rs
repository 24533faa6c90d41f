//! The plugins that distributions ship, in a network of the test's own, so that the host's stays as it is. Takes root.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use berth_pod::cni::{Attachment, Cni, CniError, CniOptions, Failure};
use berth_pod::netns;
use berth_pod::spec::{Dns, PodIdentity, PortMapping, Protocol, SandboxId};

const PATIENCE: Duration = Duration::from_secs(60);

/// Set for this program where it runs again in a network of its own.
const INSIDE: &str = "BERTH_TEST_INSIDE";
/// Set for this program where it runs again as a pod, to its name.
const POD: &str = "BERTH_TEST_POD";

const PLUGINS: [&str; 5] = ["bridge", "host-local", "firewall", "portmap", "loopback"];

/// Why the plugins cannot be run here.
fn hindrance() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root may make network namespaces".to_owned());
    }
    let dirs = CniOptions::default().bin_dirs;
    let missing = |plugin: &&&str| !dirs.iter().any(|dir| dir.join(plugin).exists());
    let missing: Vec<&&str> = PLUGINS.iter().filter(missing).collect();
    if !missing.is_empty() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{missing:?} must be there in CI (package containernetworking-plugins)"
        );
        return Some(format!(
            "there is no CNI plugin {missing:?}: install the package containernetworking-plugins"
        ));
    }
    None
}

/// Not a test: a pod's process, which answers each line with who it is, or with what it is told when it asks another address.
#[test]
fn a_pod() {
    let Ok(name) = std::env::var(POD) else {
        return;
    };
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 80)).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut line = String::new();
        if BufReader::new(&stream).read_line(&mut line).is_err() {
            continue;
        }
        let answer = match line.trim().strip_prefix("ask ") {
            None => format!("this is {name}"),
            Some(address) => ask(address.parse().unwrap(), "who"),
        };
        let _ = stream.write_all(answer.as_bytes());
    }
}

fn ask(address: SocketAddr, question: &str) -> String {
    let answer = || {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
        stream.write_all(format!("{question}\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    answer().unwrap_or_else(|error| format!("{address}: {error}"))
}

/// Asks until the answer comes: an IPv6 address counts only after the kernel has found that nobody else has it.
fn ask_until(address: SocketAddr, question: &str, answer: &str) {
    let began = Instant::now();
    loop {
        let heard = ask(address, question);
        if heard == answer {
            return;
        }
        assert!(
            began.elapsed() < PATIENCE / 2,
            "{question} {address}: {heard}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A namespace with a process in it. The process ends with it.
struct Pod(Child);

impl Pod {
    async fn start(name: &str) -> Self {
        let script = r#"ip link set lo up && exec "$0" --exact a_pod --nocapture"#;
        let child = Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .arg(std::env::current_exe().unwrap())
            .env(POD, name)
            .spawn()
            .unwrap();
        let pod = Self(child);
        let ours = netns::inode(std::process::id()).unwrap();
        let began = Instant::now();
        // Until it has a network of its own and listens.
        while netns::inode(pod.pid()).unwrap() == ours
            || netns::connect(Some(pod.pid()), 80).await.is_err()
        {
            assert!(began.elapsed() < PATIENCE, "the pod {name} does not listen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        pod
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn netns(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.pid()).into()
    }

    fn has_interface(&self, name: &str) -> bool {
        let devices = fs::read_to_string(format!("/proc/{}/net/dev", self.pid())).unwrap();
        devices
            .lines()
            .any(|line| line.trim().starts_with(&format!("{name}:")))
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn identity() -> PodIdentity {
    PodIdentity {
        namespace: "default".into(),
        name: "web".into(),
        uid: "u-1".into(),
    }
}

fn attachment(pod: &Pod, host_port: Option<u16>) -> Attachment {
    Attachment {
        sandbox: SandboxId::new(format!("{:064x}", pod.pid())),
        pod: identity(),
        netns: pod.netns(),
        ports: vec![PortMapping {
            container_port: 80,
            host_port,
            host_ip: None,
            protocol: Protocol::Tcp,
        }],
        dns: Dns::default(),
        cgroup_parent: String::new(),
        annotations: Default::default(),
    }
}

#[tokio::test]
async fn pods_get_addresses_reach_each_other_and_leave_nothing_behind() {
    if let Some(why) = hindrance() {
        eprintln!("skipped: {why}");
        return;
    }
    if std::env::var_os(INSIDE).is_none() {
        let name = "pods_get_addresses_reach_each_other_and_leave_nothing_behind";
        let output = tokio::process::Command::new("unshare")
            .arg("--net")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(INSIDE, "1")
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, output)
            .await
            .unwrap()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(output.status.success(), "{text}");
        return;
    }
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(up.unwrap().success());
    let dir = tempfile::tempdir().unwrap();
    inside(dir.path()).await;
}

async fn inside(dir: &Path) {
    let (conf, leases) = (dir.join("net.d"), dir.join("leases"));
    fs::create_dir(&conf).unwrap();
    // Room for two pods.
    let network = serde_json::json!({
        "cniVersion": "1.0.0", "cniVersions": ["1.1.0", "0.4.0"], "name": "berth", "plugins": [
            {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": {
                "type": "host-local", "dataDir": leases,
                "ranges": [
                    [{"subnet": "10.88.0.0/24", "rangeStart": "10.88.0.10", "rangeEnd": "10.88.0.11"}],
                    [{"subnet": "fd00:88::/64"}],
                ],
                "routes": [{"dst": "0.0.0.0/0"}],
            }},
            {"type": "firewall", "backend": "iptables"},
            {"type": "portmap", "capabilities": {"portMappings": true}},
            {"type": "loopback"},
        ],
    });
    fs::write(conf.join("10-berth.conflist"), network.to_string()).unwrap();
    let options = CniOptions {
        conf_dirs: vec![conf],
        cache_dir: dir.join("cache"),
        adopted_cache_dirs: Vec::new(),
        ..CniOptions::default()
    };
    let cni = Cni::new(options.clone());
    cni.status().await.unwrap();

    let (mut one, two, three) =
        tokio::join!(Pod::start("one"), Pod::start("two"), Pod::start("three"));
    let (first, second) = (attachment(&one, Some(8080)), attachment(&two, None));
    let began = Instant::now();
    // One after the other: `firewall` fails where two of it make the host's first chains at the same time.
    let given = cni.add(&first).await.unwrap();
    let other = cni.add(&second).await.unwrap();
    eprintln!("two pods were added in {:?}", began.elapsed());
    let leased = || -> Vec<String> {
        let files = fs::read_dir(leases.join("berth")).unwrap();
        let mut names: Vec<String> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "lock" && !name.starts_with("last_reserved"))
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        leased(),
        ["10.88.0.10", "10.88.0.11", "fd00:88::2", "fd00:88::3"]
    );
    for (pod, result) in [(&one, &given), (&two, &other)] {
        assert!(pod.has_interface("eth0"));
        assert!(result.ip().unwrap().is_ipv4());
        assert!(matches!(result.additional_ips(), [ip] if ip.is_ipv6()));
        let eth0 = result
            .interfaces()
            .iter()
            .find(|interface| interface.name == "eth0")
            .unwrap();
        assert_eq!(Path::new(&eth0.sandbox), pod.netns());
    }

    // From the host, from pod to pod, and over the host's port.
    let ips = [given.ip().unwrap(), given.additional_ips()[0]];
    for ip in ips {
        ask_until((ip, 80).into(), "who", "this is one");
    }
    let asker = SocketAddr::from((other.ip().unwrap(), 80));
    for ip in ips {
        let question = format!("ask {}", SocketAddr::from((ip, 80)));
        ask_until(asker, &question, "this is one");
    }
    for host in [Ipv4Addr::new(10, 88, 0, 1), Ipv4Addr::LOCALHOST] {
        let address = SocketAddr::from((host, 8080));
        ask_until(address, "who", "this is one");
    }

    // There is no room for a third pod, and its attempt takes nothing with it.
    let third = attachment(&three, None);
    let error = cni.add(&third).await.unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(&error, CniError::Plugins(failures) if matches!(failures[0].failure, Failure::Refused { .. })),
        "{error:?}"
    );
    assert!(
        text.contains("no IP addresses available in range set"),
        "{text}"
    );
    assert!(!three.has_interface("eth0"));
    assert_eq!(leased().len(), 4);
    assert_eq!(cni.attachments().unwrap().len(), 2);

    // A pod that is gone already, by a berth that starts only then.
    one.kill();
    let cni = Cni::new(options);
    assert_eq!(cni.result(&first.sandbox), Some(given));
    cni.del(&first.sandbox, &identity(), None).await.unwrap();
    assert_eq!(leased().len(), 2);
    let rules = Command::new("iptables")
        .args(["-t", "nat", "-S"])
        .output()
        .unwrap();
    let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
    assert!(!rules.contains("8080"), "{rules}");
    // Its address can be had again.
    cni.add(&third).await.unwrap();
    assert!(three.has_interface("eth0"));
    assert_eq!(leased().len(), 4);
    cni.del(&third.sandbox, &identity(), Some(&third.netns))
        .await
        .unwrap();

    // A pod that is still there loses its interface.
    for _ in 0..2 {
        cni.del(&second.sandbox, &identity(), Some(&second.netns))
            .await
            .unwrap();
    }
    assert!(!two.has_interface("eth0"));
    assert!(two.has_interface("lo"));
    let none: [String; 0] = [];
    assert_eq!(leased(), none);
    assert!(cni.attachments().unwrap().is_empty());
    assert!(
        ask(
            (IpAddr::from(Ipv4Addr::new(10, 88, 0, 11)), 80).into(),
            "who"
        )
        .contains("10.88.0.11")
    );
}
