//! Files of containers, as tar archives.

use std::io::Read as _;

use berth_docker::Body;
use berth_docker::api::{Archive, PutArchive};
use bytes::Bytes;

use crate::Violation;
use crate::case::{Case, Output, tarball, text, within};
use crate::violation::{ensure, equal, refused};

crate::group! {
    "archive";
    what_is_put_is_what_is_got,
    a_streamed_archive_is_unpacked,
    a_directory_comes_with_what_is_in_it,
    a_path_is_described,
    a_link_tells_its_target,
    a_running_container_sees_what_is_put,
    owners_are_kept_or_the_users,
    a_directory_is_not_replaced_when_forbidden,
    a_missing_path_is_not_found,
    a_file_is_no_place_to_unpack,
    a_broken_archive_is_refused,
    a_read_only_root_takes_no_archive,
    a_large_file_comes_whole,
}

/// Engine 20.10 (API 1.41) calls some mistakes of the client errors of its own.
const OLD: &[u16] = &[500];

/// One entry of an archive.
#[derive(Debug, PartialEq)]
struct Entry {
    path: String,
    content: String,
    mode: u32,
    uid: u64,
}

async fn entries(archive: Archive) -> Result<Vec<Entry>, Violation> {
    let Archive { mut tar, .. } = archive;
    let mut bytes = Vec::new();
    while let Some(piece) = within("the archive", tar.next()).await? {
        bytes.extend_from_slice(&piece?);
    }
    let mut entries = Vec::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries()? {
        let mut entry = entry?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        entries.push(Entry {
            path: entry.path()?.to_string_lossy().into_owned(),
            content: text(content)?,
            mode: entry.header().mode()? & 0o777,
            uid: entry.header().uid()?,
        });
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

fn body(files: &[(&str, &[u8])]) -> Result<Body, Violation> {
    Ok(Body::Bytes(tarball(files)?.into()))
}

async fn put(case: &Case, id: &str, path: &str, files: &[(&str, &[u8])]) -> Result<(), Violation> {
    Ok(case
        .docker()
        .put_archive(id, path, body(files)?, PutArchive::default())
        .await?)
}

async fn what_is_put_is_what_is_got(case: Case) -> Result<(), Violation> {
    // It has never run.
    let id = case.create(&case.idle()).await?;
    put(&case, &id, "/tmp", &[("file", b"content\n")]).await?;
    let archive = case.docker().get_archive(&id, "/tmp/file").await?;
    equal!(
        (archive.stat.name.as_str(), archive.stat.size),
        ("file", 8),
        "the description"
    );
    let expected = Entry {
        path: "file".to_owned(),
        content: "content\n".to_owned(),
        mode: 0o644,
        uid: 0,
    };
    equal!(entries(archive).await?, [expected], "the archive");
    Ok(())
}

async fn a_streamed_archive_is_unpacked(case: Case) -> Result<(), Violation> {
    let id = case.create(&case.idle()).await?;
    let bytes = Bytes::from(tarball(&[("first", b"one"), ("second", b"two")])?);
    let pieces: Vec<_> = bytes
        .chunks(300)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    let body = Body::Stream(Box::pin(futures_util::stream::iter(pieces)));
    case.docker()
        .put_archive(&id, "/tmp", body, PutArchive::default())
        .await?;
    for (path, content) in [("/tmp/first", "one"), ("/tmp/second", "two")] {
        let entries = entries(case.docker().get_archive(&id, path).await?).await?;
        equal!(
            entries
                .iter()
                .map(|entry| entry.content.as_str())
                .collect::<Vec<_>>(),
            [content],
            "{path}"
        );
    }
    Ok(())
}

async fn a_directory_comes_with_what_is_in_it(case: Case) -> Result<(), Violation> {
    let id = case.create(&case.idle()).await?;
    put(
        &case,
        &id,
        "/tmp",
        &[("dir/a", b"1"), ("dir/below/b", b"22")],
    )
    .await?;
    let archive = case.docker().get_archive(&id, "/tmp/dir").await?;
    ensure!(
        archive.stat.is_dir(),
        "it is not called a directory: {:?}",
        archive.stat
    );
    let entries = entries(archive).await?;
    let names: Vec<_> = entries
        .iter()
        .map(|entry| entry.path.trim_end_matches('/'))
        .collect();
    equal!(
        names,
        ["dir", "dir/a", "dir/below", "dir/below/b"],
        "the names"
    );
    equal!(entries[3].content, "22", "the file below");
    Ok(())
}

async fn a_path_is_described(case: Case) -> Result<(), Violation> {
    let id = case.create(&case.idle()).await?;
    put(&case, &id, "/tmp", &[("file", b"content\n")]).await?;
    let stat = case.docker().stat_archive(&id, "/tmp/file").await?;
    equal!(
        (stat.name.as_str(), stat.size, stat.permissions()),
        ("file", 8, 0o644),
        "the file"
    );
    ensure!(
        !stat.is_dir() && !stat.is_symlink(),
        "the file's mode is {:o}",
        stat.mode
    );
    equal!(
        stat.mtime.map(|time| time.unix_seconds()),
        Some(1_600_000_000),
        "when it last changed"
    );
    let stat = case.docker().stat_archive(&id, "/tmp").await?;
    ensure!(stat.is_dir(), "/tmp is not called a directory: {stat:?}");
    Ok(())
}

async fn a_link_tells_its_target(case: Case) -> Result<(), Violation> {
    let id = case
        .start(&case.shell("echo content >/tmp/file; ln -s file /tmp/link"))
        .await?;
    equal!(case.ended(&id).await?, 0, "the exit code");
    let stat = case.docker().stat_archive(&id, "/tmp/link").await?;
    ensure!(stat.is_symlink(), "it is not called a link: {stat:?}");
    ensure!(
        stat.link_target.ends_with("file"),
        "its target is {:?}",
        stat.link_target
    );
    Ok(())
}

async fn a_running_container_sees_what_is_put(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    put(&case, &id, "/tmp", &[("file", b"content\n")]).await?;
    equal!(
        case.exec(&id, &case.command("cat /tmp/file")).await?.1,
        Output::of_stdout("content\n"),
        "the file"
    );
    case.exec(&id, &case.command("echo more >>/tmp/file"))
        .await?;
    let entries = entries(case.docker().get_archive(&id, "/tmp/file").await?).await?;
    equal!(
        entries
            .iter()
            .map(|entry| entry.content.as_str())
            .collect::<Vec<_>>(),
        ["content\nmore\n"],
        "the file"
    );
    Ok(())
}

async fn owners_are_kept_or_the_users(case: Case) -> Result<(), Violation> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o600);
    header.set_uid(1234);
    header.set_gid(1234);
    archive.append_data(&mut header, "file", std::io::empty())?;
    let bytes = Bytes::from(archive.into_inner()?);
    let mut container = case.idle();
    container.config.user = "nobody".to_owned();
    let id = case.create(&container).await?;
    for (copy_uid_gid, uid) in [(false, 1234), (true, 65534)] {
        let options = PutArchive {
            copy_uid_gid,
            ..PutArchive::default()
        };
        case.docker()
            .put_archive(&id, "/tmp", Body::Bytes(bytes.clone()), options)
            .await?;
        let entries = entries(case.docker().get_archive(&id, "/tmp/file").await?).await?;
        equal!(
            entries.iter().map(|entry| entry.uid).collect::<Vec<_>>(),
            [uid],
            "the owner with copyUIDGID {copy_uid_gid}"
        );
    }
    Ok(())
}

async fn a_directory_is_not_replaced_when_forbidden(case: Case) -> Result<(), Violation> {
    let id = case.create(&case.idle()).await?;
    put(&case, &id, "/tmp", &[("dir/file", b"1")]).await?;
    let options = PutArchive {
        no_overwrite_dir_non_dir: true,
        ..PutArchive::default()
    };
    let put = case
        .docker()
        .put_archive(&id, "/tmp", body(&[("dir", b"a file now")])?, options)
        .await;
    refused(put, &[400, 500])?;
    ensure!(
        case.docker().stat_archive(&id, "/tmp/dir").await?.is_dir(),
        "the directory was replaced"
    );
    Ok(())
}

async fn a_missing_path_is_not_found(case: Case) -> Result<(), Violation> {
    let id = case.create(&case.idle()).await?;
    let docker = case.docker();
    refused(docker.get_archive(&id, "/no/such/path").await, &[404])?;
    // The reply to HEAD has no words.
    let stat = docker.stat_archive(&id, "/no/such/path").await;
    ensure!(
        stat.as_ref().is_err_and(|error| error.is_not_found()),
        "it is described: {stat:?}"
    );
    refused(
        docker
            .put_archive(
                &id,
                "/no/such/path",
                body(&[("file", b"")])?,
                PutArchive::default(),
            )
            .await,
        &[404],
    )?;
    Ok(())
}

async fn a_file_is_no_place_to_unpack(case: Case) -> Result<(), Violation> {
    let id = case.create(&case.idle()).await?;
    put(&case, &id, "/tmp", &[("file", b"content")]).await?;
    let put = case
        .docker()
        .put_archive(
            &id,
            "/tmp/file",
            body(&[("other", b"")])?,
            PutArchive::default(),
        )
        .await;
    refused(
        put,
        if case.engine_is(42).await? {
            &[400]
        } else {
            OLD
        },
    )?;
    Ok(())
}

async fn a_broken_archive_is_refused(case: Case) -> Result<(), Violation> {
    let id = case.create(&case.idle()).await?;
    let nonsense = Body::Bytes(Bytes::from(vec![b'x'; 2048]));
    refused(
        case.docker()
            .put_archive(&id, "/tmp", nonsense, PutArchive::default())
            .await,
        &[400, 500],
    )?;
    Ok(())
}

async fn a_read_only_root_takes_no_archive(case: Case) -> Result<(), Violation> {
    let mut container = case.idle();
    container.host_config.readonly_rootfs = true;
    let id = case.create(&container).await?;
    let put = case
        .docker()
        .put_archive(&id, "/tmp", body(&[("file", b"")])?, PutArchive::default())
        .await;
    refused(
        put,
        if case.engine_is(42).await? {
            &[400, 403]
        } else {
            OLD
        },
    )?;
    Ok(())
}

async fn a_large_file_comes_whole(case: Case) -> Result<(), Violation> {
    let content: String = (0..200_000)
        .map(|number| format!("{number:07}\n"))
        .collect();
    let id = case.create(&case.idle()).await?;
    put(&case, &id, "/tmp", &[("big", content.as_bytes())]).await?;
    let entries = entries(case.docker().get_archive(&id, "/tmp/big").await?).await?;
    ensure!(
        entries.len() == 1 && entries[0].content == content,
        "the file is another one"
    );
    Ok(())
}
