//! What the process asks of the system at its start.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use super::*;

fn shell(limits: &str) -> String {
    format!("{limits}; exec {} serve --config gateway.yaml", env!("CARGO_BIN_EXE_ai-gateway"))
}

#[tokio::test]
async fn a_process_leaves_no_core_file_and_opens_as_many_files_as_it_may() {
    let (_provider, folder) = prepare(&Setup::default()).await;
    let run = shell("ulimit -S -c unlimited; ulimit -S -n 300; ulimit -H -n 1000");
    let process = Process::start_program("/bin/sh", folder.path(), &["-c", &run], &[]);
    process.serves().await;
    assert_eq!(process.limits("Max core file size"), ["0", "0"]);
    assert_eq!(process.limits("Max open files"), ["1000", "1000"]);
    process.says("INFO up to 1000 open files, raised from 300").await;
    process.says("WARN 1000 open files are fewer than max_connections (20000) can take, which is 40000").await;
}

#[tokio::test]
async fn without_a_free_file_it_goes_on_by_itself_when_there_is_one() {
    let (_provider, folder) = prepare(&Setup::default()).await;
    let process = Process::start_program("/bin/sh", folder.path(), &["-c", &shell("ulimit -n 64")], &[]);
    let (address, _) = process.serves().await;
    let mut open = Vec::new();
    for _ in 0..100 {
        open.push(Connection::open(address).await);
    }
    let told = process.says("ERROR no connection can be accepted: Too many open files").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let times = process.messages().iter().filter(|message| **message == told).count();
    assert_eq!(times, 1, "it has tried again, and told once");
    drop(open);
    let models = Connection::open(address).await.request("GET", "/openai/v1/models", &[bearer(KEY)], b"").await;
    assert_eq!(models.status, 200);
}

#[tokio::test]
async fn other_processes_of_its_user_cannot_read_its_memory_or_environment() {
    let (_provider, folder) = prepare(&Setup::default()).await;
    if std::fs::metadata(folder.path()).expect("a folder").uid() != 0 {
        // Only root can become somebody else, and what root owns tells nothing.
        return;
    }
    let binary = folder.path().join("ai-gateway");
    let built = env!("CARGO_BIN_EXE_ai-gateway");
    std::fs::hard_link(built, &binary).or_else(|_| std::fs::copy(built, &binary).map(drop)).expect("copied");
    let mut owned = vec![folder.path().to_owned()];
    owned.extend(["keys.json", "gateway.yaml"].map(|name| folder.path().join(name)));
    owned.iter().for_each(|path| std::os::unix::fs::chown(path, Some(65534), Some(65534)).expect("changed"));
    let mut command = std::process::Command::new(&binary);
    command.current_dir(folder.path()).args(SERVE).env_clear().uid(65534).gid(65534);
    let process = Process::of(&mut command);
    process.serves().await;
    // The kernel shows by the owner of these files who may read them.
    for name in ["environ", "mem", "maps"] {
        let owner = std::fs::metadata(format!("/proc/{}/{name}", process.id())).expect("Linux").uid();
        assert_eq!(owner, 0, "{name}");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).expect("Linux");
    assert!(status.contains("Uid:\t65534\t65534\t65534"), "it is not root, to whom the files would belong anyhow");
}
