//! What `usage` prints, word for word.
//!
//! Never does: read the configuration or the clock of this process.

use super::*;
use crate::ledger::tests::{at, sample};

fn printed(ledger: &Path, args: UsageArgs) -> String {
    let mut out = Vec::new();
    let args = UsageArgs { limit: args.limit.max(1), ..args };
    run(&args, ledger, at(2 * 86_400), &mut out).map_err(|failure| failure.text).expect("an answer");
    String::from_utf8(out).expect("text").replace(&ledger.display().to_string(), "LEDGER")
}

fn all() -> UsageArgs {
    UsageArgs { limit: 100, ..UsageArgs::default() }
}

#[test]
fn the_table_marks_what_is_not_sure() {
    let (_folder, path) = sample();
    assert_eq!(
        printed(&path, all()),
        r"From 2025-10-28T10:00:00Z to now, by LEDGER

USER   MODEL          REQUESTS  FAILED  INPUT  CACHED  OUTPUT  REASONING    COST (USD)
ann    gpt-4o                3       1    300     120      60         15      ~0.00135
bob    -                     1       1      0       0       0          0             0
bob    =cmd\u{1b}[2J         1       0    100      40      20          5             ?
bob    gpt-4o                1       0      0       0       0          0             0
TOTAL                        6       2    400     160      80         20  ~0.00135 + ?

~ 1 call estimated: the client left, or the answer was cut
? 1 call with an unknown cost, which is not in the sum: no price, or no usage told
  1 call not over so far
"
    );
}

#[test]
fn a_table_of_few_lines_says_that_there_are_more() {
    let (_folder, path) = sample();
    let args = UsageArgs { limit: 1, until: Some("2025-11-26".to_owned()), by: Some("day,user".to_owned()), ..all() };
    assert_eq!(
        printed(&path, args),
        "From 2025-10-28T10:00:00Z to 2025-11-26T00:00:00Z, by LEDGER\n
DAY         USER  REQUESTS  FAILED  INPUT  CACHED  OUTPUT  REASONING   COST (USD)
2025-11-25  ann          2       1    200      80      40         10      ~0.0009
TOTAL                    5       2    300     120      60         15  ~0.0009 + ?

~ 1 call estimated: the client left, or the answer was cut
? 1 call with an unknown cost, which is not in the sum: no price, or no usage told
  1 call not over so far
  1 more line; the total is that of all (--limit shows more)
"
    );
}

#[test]
fn the_total_alone_and_nothing_at_all() {
    let (_folder, path) = sample();
    let args = UsageArgs { by: Some(String::new()), user: vec!["ann".to_owned()], ..all() };
    let total = printed(&path, args);
    assert!(total.ends_with("REQUESTS  FAILED  INPUT  CACHED  OUTPUT  REASONING  COST (USD)\n       3       1    300     120      60         15    ~0.00135\n\n~ 1 call estimated: the client left, or the answer was cut\n"), "{total}");
    let nobody = printed(&path, UsageArgs { user: vec!["carl".to_owned()], ..all() });
    assert_eq!(nobody, "No calls from 2025-10-28T10:00:00Z to now in LEDGER.\n");
}

#[test]
fn csv_holds_no_formula() {
    let (_folder, path) = sample();
    let args =
        UsageArgs { csv: true, by: Some("model,on_behalf_of".to_owned()), user: vec!["bob".to_owned()], ..all() };
    assert_eq!(
        printed(&path, args),
        "model,on_behalf_of,requests,failed,estimated,unknown_cost,open,input,cached_input,cache_write,cache_write_1h,\
         input_audio,cached_audio,input_image,output,reasoning,output_audio,output_image,audio_ms,cost_usd\r\n\
         ,,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0\r\n\
         '=cmd\u{1b}[2J,\"eve, \"\"x\"\"\",1,0,0,1,0,100,40,13,7,31,11,17,20,5,9,3,1234,\r\n\
         gpt-4o,,1,0,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0\r\n"
    );
}

#[test]
fn json_has_money_as_text() {
    let (_folder, path) = sample();
    let args = UsageArgs { json: true, by: Some("user".to_owned()), ..all() };
    let told: serde_json::Value = serde_json::from_str(&printed(&path, args)).expect("JSON");
    assert_eq!((&told["object"], &told["by"][0]), (&"usage".into(), &"user".into()));
    assert_eq!((&told["since"], &told["until"]), (&"2025-10-28T10:00:00Z".into(), &serde_json::Value::Null));
    assert_eq!(told["data"][0]["user"], "ann");
    assert_eq!(told["data"][0]["cost_usd"], "0.00135");
    // Three calls of hers told what they used.
    let tokens = serde_json::json!({ "input": 300, "cached_input": 120, "cache_write": 39, "cache_write_1h": 21,
        "input_audio": 93, "cached_audio": 33, "input_image": 51, "output": 60, "reasoning": 15, "output_audio": 27,
        "output_image": 9, "audio_ms": 3702 });
    assert_eq!(told["data"][0]["tokens"], tokens);
    assert_eq!(
        (&told["data"][1]["cost_usd"], &told["total"]["cost_usd"]),
        (&serde_json::Value::Null, &"0.00135".into()),
        "not 0 where nobody knows it"
    );
    assert_eq!(
        (&told["total"]["requests"], &told["total"]["unknown_cost"], &told["more"]),
        (&6.into(), &1.into(), &0.into())
    );
}

#[test]
fn wrong_usage_is_2_and_a_missing_ledger_1() {
    let folder = tempfile::tempdir().expect("a folder");
    let failed = |args: UsageArgs| {
        let failure = run(&args, &folder.path().join("gateway.db"), at(0), &mut Vec::new()).expect_err("no answer");
        (failure.code, failure.text)
    };
    let (code, text) = failed(UsageArgs { since: Some("soon".to_owned()), ..all() });
    assert_eq!((code, text.starts_with("--since: expected a span such as 7d or 12h, a day")), (2, true), "{text}");
    let wrong = |args: UsageArgs, expected: &str| assert_eq!(failed(args), (2, expected.to_owned()));
    let states = "--state: expected one of intent, settled, estimated, failed, unknown";
    wrong(UsageArgs { state: vec!["setled".to_owned()], ..all() }, states);
    let [earlier, later] = ["2025-11-01", "2025-11-02"].map(|day| Some(day.to_owned()));
    let order = "--since: expected a moment before until (where it is left out, it is 30 days ago)";
    wrong(UsageArgs { since: later, until: earlier, ..all() }, order);
    wrong(UsageArgs { limit: 0, ..all() }, "--limit: expected a number from 1 on");
    let failure = run(&all(), folder.path(), at(0), &mut Vec::new()).expect_err("no file");
    let hint = "cannot be read: it is a folder (hint: name the file in it, such as gateway.db)";
    assert!(failure.code == 1 && failure.text.ends_with(hint), "{}", failure.text);
    let (code, text) = failed(all());
    assert!(code == 1 && text.starts_with("there is no ledger at /") && text.contains("--ledger FILE"), "{text}");
}

/// As `usage | head` leaves it.
struct HasGone;

impl Write for HasGone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_has_had_enough_is_told_nothing() {
    let (_folder, path) = sample();
    let failure = run(&all(), &path, at(2 * 86_400), &mut HasGone).expect_err("nobody reads");
    assert_eq!((failure.code, failure.text), (1, String::new()));
}
