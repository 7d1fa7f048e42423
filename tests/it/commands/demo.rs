//! `ai-gateway demo`: what it prints is what works.

use std::process::Command;

use super::*;

#[tokio::test]
async fn the_demo_checks_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let ended = run(folder.path(), &["demo", "--check"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.starts_with("POST http://127.0.0.1:"), "{}", ended.stdout);
    assert!(ended.stdout.contains("chat.completion"), "{}", ended.stdout);
    let used = |kind: &str| {
        let (count, _) = between(&ended.stdout, &format!("\"{kind}\": "), "\n").split_once(',').expect("a count");
        count.parse::<u64>().expect("a number")
    };
    let (input, output) = (used("prompt_tokens"), used("completion_tokens"));
    // 0.15 and 0.6 USD a million.
    let cost = (15 * input + 60 * output).to_string();
    let last = format!("recorded: 1 call, {input} tokens of input, {output} of output, 0.");
    let told = ended.stdout.lines().last().and_then(|line| line.strip_prefix(&last)).expect("a last line");
    assert_eq!(told.trim_start_matches('0'), format!("{} USD", cost.trim_end_matches('0')), "{told}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), 0, "it leaves nothing behind");
}

/// What stands between two marks.
fn between<'t>(text: &'t str, from: &str, to: &str) -> &'t str {
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("no {from:?} in {text}"));
    rest.split_once(to).unwrap_or_else(|| panic!("no {to:?} in {rest}")).0
}

#[tokio::test]
async fn the_printed_curl_line_works() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = Process::start(folder.path(), &["demo"], NO_VARIABLES);
    eventually("it is ready", async || process.stdout().contains("Ctrl-C")).await;
    assert!(
        !process.stderr().contains(r#""level":"WARN""#),
        "it has no fault to find with itself: {}",
        process.stderr()
    );
    let welcome = process.stdout();
    let lines: Vec<String> = welcome.lines().filter(|line| line.starts_with("curl ")).map(str::to_owned).collect();
    let (base_url, key) = (between(&welcome, "base URL   ", "\n"), between(&welcome, "API key    ", "\n"));
    assert!(base_url.ends_with("/openai/v1") && key.starts_with("sk-aigw-"), "{welcome}");
    let python = between(&welcome, "from openai import OpenAI\n", "print()\n");
    assert!(python.contains(&format!("client = OpenAI(base_url=\"{base_url}\", api_key=\"{key}\")\n")), "{python}");

    // Nothing of this process's environment, such as a proxy, but where programs are.
    let path = std::env::var_os("PATH").expect("a path");
    let mut answers = Vec::new();
    for line in lines {
        let path = path.clone();
        let shell = tokio::task::spawn_blocking(move || {
            let line = format!("{line} --silent --show-error --max-time 10");
            Command::new("sh").arg("-c").arg(line).env_clear().env("PATH", path).output()
        });
        let output = shell.await.expect("no panic").expect("sh runs");
        assert!(output.status.success(), "{output:?}");
        answers.push(serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON"));
    }
    let [chat, message] = &answers[..] else { panic!("two: {answers:?}") };
    let is_text = |text: &serde_json::Value| text.as_str().is_some_and(|text| !text.is_empty());
    assert!(chat["object"] == "chat.completion" && is_text(&chat["choices"][0]["message"]["content"]), "{chat}");
    assert!(message["type"] == "message" && is_text(&message["content"][0]["text"]), "{message}");

    let line = between(&welcome, "and see what was used:\n\nai-gateway ", "\n");
    let args: Vec<&str> = line.split(' ').collect();
    eventually("the ledger tells it", async || {
        let table = run(folder.path(), &args).await.stdout;
        table.contains("gpt-4o-mini") && table.contains("claude-haiku-4-5") && table.contains("\nTOTAL ")
    })
    .await;

    process.signal("INT");
    assert_eq!(process.end().await.code, Some(0));
}

#[tokio::test]
async fn two_demos_do_not_mind_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let demos: Vec<Process> = (0..3).map(|_| Process::start(folder.path(), &["demo"], NO_VARIABLES)).collect();
    for demo in &demos {
        eventually("it is ready", async || demo.stdout().contains("Ctrl-C")).await;
    }
}
