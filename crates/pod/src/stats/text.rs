//! What the kernel writes into the files of cgroups and processes, as values.
//!
//! Owns the formats: pure functions over bytes, which never fail and never panic. A field that is not there, or is not what it should be,
//! is absent. Refuses to know files.

use std::time::Duration;

use super::usage::{DeviceIo, Interface, Limit, Pressure, Psi};

/// From here on a version 1 memory limit means "none": the kernel writes the largest multiple of the page size that fits a signed 64-bit
/// number, which depends on the page size.
const UNLIMITED: u64 = 1 << 62;

/// `USER_HZ`: the unit of `cpuacct.stat`. 100 on every architecture that has cgroups and an engine (linux/include/asm-generic/param.h).
const TICKS_PER_SECOND: u64 = 100;

/// One number, with white space around it.
pub fn number(text: &[u8]) -> Option<u64> {
    digits(text.trim_ascii())
}

/// A number or the word `max`; or a number that stands for it.
pub fn limit(text: &[u8]) -> Option<Limit> {
    match text.trim_ascii() {
        b"max" => Some(Limit::Unlimited),
        text => digits(text).map(|value| {
            if value >= UNLIMITED {
                Limit::Unlimited
            } else {
                Limit::At(value)
            }
        }),
    }
}

/// `cpu.max` of version 2: the quota and the period, in microseconds.
pub fn cpu_max(text: &[u8]) -> (Option<Limit>, Option<u64>) {
    let mut words = words(text);
    let quota = words.next().and_then(limit);
    (quota, words.next().and_then(digits))
}

/// `cpu.cfs_quota_us` of version 1: microseconds, −1 for none.
pub fn cfs_quota(text: &[u8]) -> Option<Limit> {
    let text = text.trim_ascii();
    if text.starts_with(b"-") {
        return Some(Limit::Unlimited);
    }
    digits(text).map(Limit::At)
}

/// The value of one key in a file of `key value` lines.
pub fn value(text: &[u8], key: &[u8]) -> Option<u64> {
    pairs(text).find_map(|(found, value)| (found == key).then_some(value))
}

/// `cpu.stat`. Version 2 writes times in microseconds and has all the fields; version 1 has the periods, and nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuStat {
    pub usage: Option<Duration>,
    pub user: Option<Duration>,
    pub system: Option<Duration>,
    pub periods: Option<u64>,
    pub throttled_periods: Option<u64>,
    pub throttled: Option<Duration>,
}

/// Reads `cpu.stat` of either version.
pub fn cpu_stat(text: &[u8]) -> CpuStat {
    let mut stat = CpuStat::default();
    for (key, value) in pairs(text) {
        match key {
            b"usage_usec" => stat.usage = Some(Duration::from_micros(value)),
            b"user_usec" => stat.user = Some(Duration::from_micros(value)),
            b"system_usec" => stat.system = Some(Duration::from_micros(value)),
            b"nr_periods" => stat.periods = Some(value),
            b"nr_throttled" => stat.throttled_periods = Some(value),
            b"throttled_usec" => stat.throttled = Some(Duration::from_micros(value)),
            b"throttled_time" => stat.throttled = Some(Duration::from_nanos(value)),
            _ => {}
        }
    }
    stat
}

/// `cpuacct.stat` of version 1: user and system time.
pub fn cpuacct_stat(text: &[u8]) -> (Option<Duration>, Option<Duration>) {
    let ticks = |key| {
        value(text, key)
            .map(|ticks| Duration::from_millis(ticks.saturating_mul(1000 / TICKS_PER_SECOND)))
    };
    (ticks(b"user"), ticks(b"system"))
}

/// What is used of `memory.stat`, under version 2's names. In bytes, but for the faults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryStat {
    pub anon: Option<u64>,
    pub file: Option<u64>,
    pub file_mapped: Option<u64>,
    pub inactive_file: Option<u64>,
    pub page_faults: Option<u64>,
    pub major_page_faults: Option<u64>,
    /// Version 2 only.
    pub kernel: Option<u64>,
    /// Version 1 only, and only with swap accounting.
    pub swap: Option<u64>,
    /// Version 1 only: of this cgroup or the tightest above it.
    pub hierarchical_limit: Option<Limit>,
    /// Version 1 only: of memory and swap together.
    pub hierarchical_memory_and_swap_limit: Option<Limit>,
}

/// Reads `memory.stat` of version 2.
pub fn memory_stat_v2(text: &[u8]) -> MemoryStat {
    let mut stat = MemoryStat::default();
    // `kernel` came with Linux 5.18; these are what it sums, but for small change.
    let mut parts: Option<u64> = None;
    for (key, value) in pairs(text) {
        match key {
            b"anon" => stat.anon = Some(value),
            b"file" => stat.file = Some(value),
            b"kernel" => stat.kernel = Some(value),
            b"file_mapped" => stat.file_mapped = Some(value),
            b"inactive_file" => stat.inactive_file = Some(value),
            b"pgfault" => stat.page_faults = Some(value),
            b"pgmajfault" => stat.major_page_faults = Some(value),
            b"kernel_stack" | b"pagetables" | b"percpu" | b"vmalloc" | b"slab" => {
                parts = Some(parts.unwrap_or(0).saturating_add(value));
            }
            _ => {}
        }
    }
    stat.kernel = stat.kernel.or(parts);
    stat
}

/// Reads `memory.stat` of version 1: the `total_` fields, which include the cgroups below.
pub fn memory_stat_v1(text: &[u8]) -> MemoryStat {
    let mut stat = MemoryStat::default();
    let limit = |value| {
        if value >= UNLIMITED {
            Limit::Unlimited
        } else {
            Limit::At(value)
        }
    };
    for (key, value) in pairs(text) {
        match key {
            b"hierarchical_memory_limit" => stat.hierarchical_limit = Some(limit(value)),
            b"hierarchical_memsw_limit" => {
                stat.hierarchical_memory_and_swap_limit = Some(limit(value));
            }
            b"total_cache" => stat.file = Some(value),
            b"total_rss" => stat.anon = Some(value),
            b"total_mapped_file" => stat.file_mapped = Some(value),
            b"total_swap" => stat.swap = Some(value),
            b"total_pgfault" => stat.page_faults = Some(value),
            b"total_pgmajfault" => stat.major_page_faults = Some(value),
            b"total_inactive_file" => stat.inactive_file = Some(value),
            _ => {}
        }
    }
    stat
}

/// A `*.pressure` file. Kernels before 5.13 have no `full` line for the CPU.
pub fn psi(text: &[u8]) -> Option<Psi> {
    let mut some = None;
    let mut full = None;
    for line in lines(text) {
        let mut words = words(line);
        match words.next() {
            Some(b"some") => some = pressure(words),
            Some(b"full") => full = pressure(words),
            _ => {}
        }
    }
    some.map(|some| Psi { some, full })
}

fn pressure<'a>(words: impl Iterator<Item = &'a [u8]>) -> Option<Pressure> {
    let (mut avg10, mut avg60, mut avg300, mut total) = (None, None, None, None);
    for word in words {
        let Some(equals) = word.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        let (key, text) = (&word[..equals], &word[equals + 1..]);
        match key {
            b"avg10" => avg10 = percent(text),
            b"avg60" => avg60 = percent(text),
            b"avg300" => avg300 = percent(text),
            b"total" => total = digits(text).map(Duration::from_micros),
            _ => {}
        }
    }
    Some(Pressure {
        avg10: avg10?,
        avg60: avg60?,
        avg300: avg300?,
        total: total?,
    })
}

/// A percentage with decimals, such as `12.50`.
fn percent(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse()
        .ok()
        .filter(|value| (0.0..=100.0).contains(value))
}

/// `io.stat` of version 2.
pub fn io_stat(text: &[u8]) -> Vec<DeviceIo> {
    let mut devices = Vec::new();
    for line in lines(text) {
        let mut words = words(line);
        let Some((major, minor)) = words.next().and_then(device) else {
            continue;
        };
        let mut io = DeviceIo::new(major, minor);
        // A device that has been idle since the cgroup was made may have no fields at all.
        let mut seen = false;
        for word in words {
            let Some(equals) = word.iter().position(|byte| *byte == b'=') else {
                continue;
            };
            let Some(value) = digits(&word[equals + 1..]) else {
                continue;
            };
            let field = match &word[..equals] {
                b"rbytes" => &mut io.read_bytes,
                b"wbytes" => &mut io.write_bytes,
                b"rios" => &mut io.reads,
                b"wios" => &mut io.writes,
                _ => continue,
            };
            *field = value;
            seen = true;
        }
        if seen {
            devices.push(io);
        }
    }
    devices
}

/// `blkio.throttle.io_service_bytes` and `blkio.throttle.io_serviced` of version 1, with or without `_recursive`.
pub fn blkio(bytes: &[u8], operations: &[u8]) -> Vec<DeviceIo> {
    let mut devices: Vec<DeviceIo> = Vec::new();
    for (text, count_bytes) in [(bytes, true), (operations, false)] {
        // Lines of one device stand together, so the last one found is nearly always the one that is looked for.
        let mut last = 0;
        for line in lines(text) {
            let mut words = words(line);
            let (Some((major, minor)), Some(operation), Some(value)) = (
                words.next().and_then(device),
                words.next(),
                words.next().and_then(digits),
            ) else {
                continue;
            };
            let is_it = |io: &DeviceIo| (io.major, io.minor) == (major, minor);
            if !devices.get(last).is_some_and(is_it) {
                last = devices.iter().position(is_it).unwrap_or_else(|| {
                    devices.push(DeviceIo::new(major, minor));
                    devices.len() - 1
                });
            }
            let Some(io) = devices.get_mut(last) else {
                continue;
            };
            match (operation, count_bytes) {
                (b"Read", true) => io.read_bytes = value,
                (b"Write", true) => io.write_bytes = value,
                (b"Read", false) => io.reads = value,
                (b"Write", false) => io.writes = value,
                _ => {}
            }
        }
    }
    devices
}

/// `/proc/<pid>/net/dev`, without `lo`.
pub fn net_dev(text: &[u8]) -> Vec<Interface> {
    let mut interfaces = Vec::new();
    for line in lines(text) {
        // The two lines of headings have no colon; a name cannot have one.
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = line[..colon].trim_ascii();
        if name.is_empty() || name == b"lo" {
            continue;
        }
        let mut fields = [0_u64; 16];
        let mut found = 0;
        for (field, word) in fields.iter_mut().zip(words(&line[colon + 1..])) {
            let Some(value) = digits(word) else {
                break;
            };
            *field = value;
            found += 1;
        }
        if found < 12 {
            continue;
        }
        interfaces.push(Interface {
            name: String::from_utf8_lossy(name).into_owned(),
            rx_bytes: fields[0],
            rx_packets: fields[1],
            rx_errors: fields[2],
            rx_dropped: fields[3],
            tx_bytes: fields[8],
            tx_packets: fields[9],
            tx_errors: fields[10],
            tx_dropped: fields[11],
        });
    }
    interfaces
}

/// The soft limit of open files in `/proc/<pid>/limits`.
pub fn max_open_files(text: &[u8]) -> Option<Limit> {
    let line = lines(text).find_map(|line| line.strip_prefix(b"Max open files"))?;
    match words(line).next()? {
        b"unlimited" => Some(Limit::Unlimited),
        soft => digits(soft).map(Limit::At),
    }
}

/// `DEVNAME` in the `uevent` file of a block device.
pub fn device_name(text: &[u8]) -> Option<String> {
    let name = lines(text).find_map(|line| line.strip_prefix(b"DEVNAME="))?;
    (!name.is_empty()).then(|| format!("/dev/{}", String::from_utf8_lossy(name)))
}

/// `major:minor`.
fn device(text: &[u8]) -> Option<(u32, u32)> {
    let colon = text.iter().position(|byte| *byte == b':')?;
    let part = |text| digits(text).and_then(|value| u32::try_from(value).ok());
    Some((part(&text[..colon])?, part(&text[colon + 1..])?))
}

/// The lines of a text, without their ends.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

/// What stands between blanks.
fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

/// The lines that are a key, a blank and a number.
fn pairs(text: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    lines(text).filter_map(|line| {
        let blank = line.iter().position(|byte| *byte == b' ')?;
        Some((&line[..blank], digits(line[blank + 1..].trim_ascii())?))
    })
}

/// A number without a sign and with nothing around it.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut value = 0_u64;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // Written down from a container of an engine on Linux 6.18 with version 1 controllers.
    const MEMORY_STAT_V1: &[u8] = include_bytes!("testdata/v1.memory.stat");
    // Put together by hand from Documentation/admin-guide/cgroup-v2.rst.
    const MEMORY_STAT_V2: &[u8] = include_bytes!("testdata/v2.memory.stat");

    #[test]
    fn numbers_and_limits_are_read_whole_or_not_at_all() {
        assert_eq!(number(b" 1966080\n"), Some(1_966_080));
        assert_eq!(number(b"18446744073709551615\n"), Some(u64::MAX));
        assert_eq!(number(b"18446744073709551616\n"), None);
        assert_eq!(number(b"-1\n"), None);
        assert_eq!(number(b""), None);
        assert_eq!(limit(b"max\n"), Some(Limit::Unlimited));
        assert_eq!(limit(b"9223372036854771712\n"), Some(Limit::Unlimited));
        assert_eq!(limit(b"67108864\n"), Some(Limit::At(67_108_864)));
        assert_eq!(limit(b"maximum\n"), None);
        assert_eq!(cfs_quota(b"-1\n"), Some(Limit::Unlimited));
        assert_eq!(cfs_quota(b"50000\n"), Some(Limit::At(50_000)));
        assert_eq!(
            cpu_max(b"max 100000\n"),
            (Some(Limit::Unlimited), Some(100_000))
        );
        assert_eq!(
            cpu_max(b"20000 100000\n"),
            (Some(Limit::At(20_000)), Some(100_000))
        );
    }

    #[test]
    fn memory_of_version_1_is_that_of_the_whole_hierarchy() {
        assert_eq!(
            memory_stat_v1(MEMORY_STAT_V1),
            MemoryStat {
                anon: Some(53_248),
                file: Some(1_273_856),
                file_mapped: Some(831_488),
                inactive_file: Some(1_146_880),
                page_faults: Some(1025),
                major_page_faults: Some(2),
                kernel: None,
                swap: Some(0),
                hierarchical_limit: Some(Limit::At(67_108_864)),
                hierarchical_memory_and_swap_limit: Some(Limit::At(134_217_728)),
            }
        );
    }

    #[test]
    fn memory_of_version_2_has_the_kernels_share() {
        assert_eq!(
            memory_stat_v2(MEMORY_STAT_V2),
            MemoryStat {
                anon: Some(2_547_712),
                file: Some(18_300_928),
                file_mapped: Some(6_406_144),
                inactive_file: Some(11_624_448),
                page_faults: Some(48_921),
                major_page_faults: Some(104),
                kernel: Some(1_286_144),
                ..MemoryStat::default()
            }
        );
        let older = b"anon 1\nkernel_stack 16384\npagetables 4096\npercpu 720\nslab 100000\n";
        assert_eq!(memory_stat_v2(older).kernel, Some(121_200));
    }

    #[test]
    fn cpu_times_of_both_versions_come_out_in_one_unit() {
        let v2 = b"usage_usec 31234\nuser_usec 20000\nsystem_usec 11234\nnice_usec 0\nnr_periods 7\nnr_throttled 2\nthrottled_usec 1500\nnr_bursts 0\nburst_usec 0\n";
        assert_eq!(
            cpu_stat(v2),
            CpuStat {
                usage: Some(Duration::from_micros(31_234)),
                user: Some(Duration::from_micros(20_000)),
                system: Some(Duration::from_micros(11_234)),
                periods: Some(7),
                throttled_periods: Some(2),
                throttled: Some(Duration::from_micros(1500)),
            }
        );
        let v1 =
            b"nr_periods 3\nnr_throttled 1\nthrottled_time 1500000\nnr_bursts 0\nburst_time 0\n";
        assert_eq!(
            cpu_stat(v1),
            CpuStat {
                periods: Some(3),
                throttled_periods: Some(1),
                throttled: Some(Duration::from_micros(1500)),
                ..CpuStat::default()
            }
        );
        assert_eq!(
            cpuacct_stat(b"user 12\nsystem 7\n"),
            (
                Some(Duration::from_millis(120)),
                Some(Duration::from_millis(70))
            )
        );
    }

    #[test]
    fn pressure_may_lack_the_line_for_full() {
        let both = psi(b"some avg10=1.25 avg60=0.50 avg300=0.00 total=123456\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=42\n").unwrap();
        assert_eq!(both.some.avg10, 1.25);
        assert_eq!(both.some.total, Duration::from_micros(123_456));
        assert_eq!(both.full.unwrap().total, Duration::from_micros(42));
        let some = psi(b"some avg10=0.00 avg60=0.00 avg300=0.00 total=9\n").unwrap();
        assert_eq!(some.full, None);
        assert_eq!(
            psi(b"some avg10=NaN avg60=0.00 avg300=0.00 total=9\n"),
            None
        );
        assert_eq!(
            psi(b"full avg10=0.00 avg60=0.00 avg300=0.00 total=9\n"),
            None
        );
    }

    #[test]
    fn io_is_by_device() {
        let expected = DeviceIo {
            major: 8,
            minor: 16,
            device: String::new(),
            read_bytes: 1_459_200,
            write_bytes: 314_773_504,
            reads: 192,
            writes: 353,
        };
        let v2 = b"8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n7:0 \n";
        assert_eq!(io_stat(v2), std::slice::from_ref(&expected));
        let bytes = b"8:16 Read 1459200\n8:16 Write 314773504\n8:16 Sync 1\n8:16 Async 1\n8:16 Discard 0\n8:16 Total 316232704\nTotal 316232704\n";
        let operations = b"8:16 Read 192\n8:16 Write 353\n8:16 Total 545\nTotal 545\n";
        assert_eq!(blkio(bytes, operations), [expected]);
        assert_eq!(blkio(b"Total 0\n", b"Total 0\n"), []);
    }

    #[test]
    fn interfaces_are_read_without_the_loopback() {
        let text = b"Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    lo:       9       9    0    0    0     0          0         0        9       9    0    0    0     0       0          0\n  eth0:     200       2    3    4    0     0          0         0      500       6    7    8    0     0       0          0\n";
        assert_eq!(
            net_dev(text),
            [Interface {
                name: "eth0".into(),
                rx_bytes: 200,
                rx_packets: 2,
                rx_errors: 3,
                rx_dropped: 4,
                tx_bytes: 500,
                tx_packets: 6,
                tx_errors: 7,
                tx_dropped: 8,
            }]
        );
    }

    #[test]
    fn limits_and_device_names_are_found() {
        let limits = b"Limit                     Soft Limit           Hard Limit           Units     \nMax cpu time              unlimited            unlimited            seconds   \nMax open files            1024                 524288               files     \n";
        assert_eq!(max_open_files(limits), Some(Limit::At(1024)));
        assert_eq!(
            device_name(b"MAJOR=254\nMINOR=0\nDEVNAME=vda\nDEVTYPE=disk\n").as_deref(),
            Some("/dev/vda")
        );
    }

    fn read_everything(text: &[u8]) {
        number(text);
        limit(text);
        cpu_max(text);
        cfs_quota(text);
        value(text, b"oom_kill");
        cpu_stat(text);
        cpuacct_stat(text);
        memory_stat_v1(text);
        memory_stat_v2(text);
        psi(text);
        io_stat(text);
        blkio(text, text);
        net_dev(text);
        max_open_files(text);
        device_name(text);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(text: Vec<u8>) {
            read_everything(&text);
        }

        #[test]
        fn nearly_right_text_never_panics(
            text in "(some|full|usage_usec|total_rss|8:16|eth0:|Max open files|DEVNAME=|-|:|=)?[ \n:=0-9a-z.]{0,60}\n?(Read|avg10=|total=|rbytes=)?[0-9]{0,25}"
        ) {
            read_everything(text.as_bytes());
        }

        #[test]
        fn every_number_is_read_as_written(value: u64) {
            prop_assert_eq!(number(format!("{value}\n").as_bytes()), Some(value));
        }
    }
}
