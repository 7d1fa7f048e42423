//! Tests of the key file's picture: what loads, and what is told of what does not.
//!
//! Invariant: no problem repeats a value of the file.
//! Never does: touch the file system.

mod fuzz;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;

const FAKE: &str = "ebc5f4226c4010adbfc3349a692f27396b6b02dd89d1f9f25efbf4a15552af69";
const OTHER: &str = "bceb75909fca623fcbcf1a2130035e3171dd200c7b4e6aaf5af15a622046011e";

/// As the original's generator writes it: no newline at the end, names in ASCII.
const ORIGINAL: &str = r#"{
  "ebc5f4226c4010adbfc3349a692f27396b6b02dd89d1f9f25efbf4a15552af69": {
    "username": "\u00c5sa",
    "salt": "ZmFrZQ==",
    "scopes": [
      {
        "method": "get",
        "path": "/openai/v1/models"
      },
      {
        "method": "post",
        "path": "/openai/v1/chat/completions"
      }
    ]
  },
  "bceb75909fca623fcbcf1a2130035e3171dd200c7b4e6aaf5af15a622046011e": {
    "username": "john.doe",
    "salt": "ZmFrZQ==",
    "scopes": []
  }
}"#;

fn problems(json: &str) -> Vec<String> {
    let problems = KeyFile::parse(json.as_bytes(), None).unwrap_err();
    problems.iter().map(Problem::to_string).collect()
}

/// The problems of one entry whose fields are these, on a line of their own.
fn of_entry(fields: &str) -> Vec<String> {
    problems(&format!("{{\"{FAKE}\":\n{{{fields}}}}}"))
}

#[test]
fn a_file_of_the_originals_generator_loads_unchanged() {
    let file = KeyFile::parse(ORIGINAL.as_bytes(), None).unwrap();
    assert_eq!((file.len(), file.is_empty(), file.salts.len()), (2, false, 1));
    let records: Vec<&KeyRecord> = file.records().collect();
    assert_eq!(&*records[0].username, "Åsa");
    assert_eq!(records[0].id.as_str(), "ebc5f4226c40");
    assert_eq!(records[0].scopes[1].to_string(), "post:/openai/v1/chat/completions");
    assert_eq!(records[1].scopes.len(), 0);
    assert_eq!((records[0].created_at, records[0].disabled, &records[0].models), (None, false, &None));
}

#[test]
fn the_environments_base64_is_read_in_every_spelling() {
    let raw = ORIGINAL.replace("\\u00c5", "Å");
    let plain = STANDARD.encode(&raw);
    let folded = format!(" {}\n{} \n", &plain[..76], &plain[76..]);
    for value in [plain.clone(), folded, URL_SAFE_NO_PAD.encode(&raw)] {
        let file = KeyFile::from_env(&value, None).unwrap();
        assert_eq!(&*file.records().next().unwrap().username, "Åsa");
    }
    let told = |value: &str| KeyFile::from_env(value, None).unwrap_err()[0].to_string();
    assert!(told(&raw).contains("is the JSON itself"));
    for value in ["a%", "abc", "Y2FuYXJ5", ""] {
        assert!(told(value).starts_with("is not the base64 of a key file (hint: make the value"), "{value}");
    }
}

#[test]
fn broken_json_is_told_with_its_place() {
    for (json, expected) in [
        ("", "1:1: is not valid JSON: EOF while parsing a value (hint: a key file without keys is {})"),
        ("{\n  \"a\": {},\n}", "3:1: is not valid JSON: trailing comma"),
        ("{} {}", "1:4: is not valid JSON: trailing characters"),
        ("[]", "1:1: expected an object of digests, such as {\"ebc5…\": {\"username\": …}}"),
        ("\"secret\"", "1:1: expected an object of digests, such as {\"ebc5…\": {\"username\": …}}"),
    ] {
        assert_eq!(problems(json), [expected], "{json}");
    }
    let told = KeyFile::parse(b"{\n \"\xff\": {}}", None).unwrap_err();
    assert_eq!(told[0].to_string(), "2:3: is not UTF-8 here");
    assert!(KeyFile::parse(b"{}", None).unwrap().is_empty());
}

#[test]
fn all_problems_of_a_file_are_told_at_once() {
    let json = format!(
        r#"{{
  "{FAKE}": {{
    "user_name": "x",
    "salt": "%%%",
    "scopes": [
      {{"method": "GET", "path": "/openai/v1/models"}},
      {{"method": "get", "path": "openai/v1/models"}},
      {{"method": "get"}},
      "get:/openai/v1/models"
    ],
    "expires_at": "tomorrow",
    "limits": {{"usd": 5}}
  }},
  "{OTHER}": {{"username": "b", "scopes": []}},
  "{OTHER}": {{"username": "b", "salt": "ZmFrZQ==", "scopes": []}},
  "EBC5F4226C4010ADBFC3349A692F27396B6B02DD89D1F9F25EFBF4A15552AF69": 1,
  "R6XiLWeArUl0UH15y0zynOkUWScYvLDYgD_AOk4JMwc": {{"username": 7, "salt": "ZmFrZQ==", "scopes": 1}}
}}"#
    );
    let told = problems(&json);
    let expected = [
        "3:18 ebc5f4226c40.user_name: unknown field (hint: did you mean username?)",
        "2:71 ebc5f4226c40: username is missing",
        "6:18 ebc5f4226c40.scopes[0].method: the method is one of",
        "7:33 ebc5f4226c40.scopes[1].path: the path begins with a slash",
        "8:7 ebc5f4226c40.scopes[2]: expected exactly method and path",
        "9:7 ebc5f4226c40.scopes[3]: expected exactly method and path",
        "4:13 ebc5f4226c40.salt: expected a text in URL-safe base64",
        "11:19 ebc5f4226c40.expires_at: expected a time in UTC",
        "12:23 ebc5f4226c40.limits: unknown field in here (hint: there are requests_per_minute,",
        "14:71 bceb75909fca: salt is missing (hint: add the salt, or set HASH_AUTH_SALT",
        "15:4 bceb75909fca: this digest stands twice",
        "16:4 entry 4: the digest has upper-case hex digits (hint: write the digest in lower case)",
        "16:71 entry 4: expected an object",
        "17:4 entry 5: expected a digest of 64 lower-case hex digits",
        "17:63 entry 5.username: expected a text",
        "17:96 entry 5.scopes: expected a list",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}\n{expected}");
    }
    for secret in [&FAKE[..13], "R6XiLW", "%%%", "tomorrow", "ZmFrZQ"] {
        assert!(told.iter().all(|problem| !problem.contains(secret) || problem.contains("the salt `fake`")));
    }
}

#[test]
fn the_optional_fields_are_checked() {
    let base = r#""username": "a", "salt": "ZmFrZQ==", "scopes": []"#;
    for (field, expected) in [
        (r#""id": """#, "2:59 ebc5f4226c40.id: expected 1 to 64"),
        (r#""id": "a b""#, "2:59 ebc5f4226c40.id: expected 1 to 64"),
        (r#""team": 1"#, "2:61 ebc5f4226c40.team: expected a text"),
        (r#""disabled": "no""#, "2:65 ebc5f4226c40.disabled: expected true or false"),
        (r#""models": ["g*t"]"#, "2:63 ebc5f4226c40.models: expected a list of model names"),
        (r#""models": "gpt-4o""#, "2:63 ebc5f4226c40.models: expected a list of model names"),
        (r#""created_at": 5"#, "2:67 ebc5f4226c40.created_at: expected a time"),
        (r#""username": "b""#, "2:65 ebc5f4226c40.username: this field stands twice"),
        (
            r#""R6XiLWeArUl0UH15y0zynOkUWScYvLDYgD_AOk4JMwc": 1"#,
            "2:100 ebc5f4226c40: unknown field (hint: the fields of an entry are username,",
        ),
    ] {
        let told = of_entry(&format!("{base}, {field}"));
        assert!(told.len() == 1 && told[0].starts_with(expected), "{told:?}\n{expected}");
    }
    let full = format!(
        r#"{{"{FAKE}": {{{base}, "id": "key_0123456789ab", "created_at": "2026-01-02T03:04:05Z",
        "expires_at": "2027-01-02T03:04:05.5Z", "revoked_at": null, "disabled": false, "team": "a", "models": ["x*"]}}}}"#
    );
    let file = KeyFile::parse(full.as_bytes(), None).unwrap();
    let record = file.records().next().unwrap();
    assert_eq!((record.id.as_str(), record.team.as_deref()), ("key_0123456789ab", Some("a")));
    assert!(record.created_at < record.expires_at && record.revoked_at.is_none());
}

#[test]
fn an_id_names_one_key_only() {
    let entry =
        |digest: &str, id: &str| format!(r#""{digest}": {{"username": "a", "salt": "ZmFrZQ==", "scopes": []{id}}}"#);
    let same = r#", "id": "key_1""#;
    let told = problems(&format!("{{{},\n{}}}", entry(FAKE, same), entry(OTHER, same)));
    assert_eq!(told, ["2:127 bceb75909fca.id: this id belongs to another entry as well"]);
    // A chosen id that looks like an old entry's.
    let steals = r#", "id": "bceb75909fca""#;
    for (first, second) in [(entry(FAKE, steals), entry(OTHER, "")), (entry(OTHER, ""), entry(FAKE, steals))] {
        assert_eq!(problems(&format!("{{{first},\n{second}}}")).len(), 1);
    }
    // Digests that begin alike are no fault.
    let alike = format!("{}{}", &FAKE[..12], &OTHER[12..]);
    let json = format!("{{{},{}}}", entry(FAKE, ""), entry(&alike, ""));
    assert_eq!(KeyFile::parse(json.as_bytes(), None).unwrap().len(), 2);
}

#[test]
fn more_than_eight_salts_are_refused_once() {
    let file = |count: usize| {
        let entries: Vec<String> = (0..count)
            .map(|n| {
                format!(
                    r#""{n:064}": {{"username": "a", "salt": "{}", "scopes": []}}"#,
                    STANDARD.encode(format!("s{n}"))
                )
            })
            .collect();
        format!("{{{}}}", entries.join(",\n"))
    };
    assert_eq!(KeyFile::parse(file(8).as_bytes(), None).unwrap().salts.len(), 8);
    let told = problems(&file(12));
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("9:95 000000000000.salt: the file has more than 8 different salts"), "{told:?}");
    let env_salt = Secret::new("one".to_owned());
    assert_eq!(KeyFile::parse(file(12).as_bytes(), Some(&env_salt)).unwrap().salts.len(), 1);
}

#[test]
fn a_flood_of_problems_is_cut_and_counted() {
    let entries: Vec<String> = (0..250).map(|n| format!("\"{n:064}\": 1")).collect();
    let told = problems(&format!("{{{}}}", entries.join(",\n")));
    assert_eq!(told.len(), MAX_PROBLEMS + 1);
    assert_eq!(told[MAX_PROBLEMS], "1:1: and 150 further problems");
}

#[test]
fn scopes_on_no_route_are_warned_of_once() {
    let json = ORIGINAL
        .replace("\"scopes\": []", "\"scopes\": [{\"method\": \"post\", \"path\": \"/openai/v1/chat/completions\"}]");
    let file = KeyFile::parse(json.as_bytes(), None).unwrap();
    let told = file.warnings(|scope| scope.touches_route("get", "/openai/v1/models"));
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].line, told[0].path.as_str()), (10, "ebc5f4226c40.scopes[1]"));
    assert!(told[0].message.ends_with("the scope post:/openai/v1/chat/completions"));
}

#[test]
fn the_shipped_example_loads_and_opens_nothing() {
    let example = include_bytes!("../../../provision/secrets/hashed-api-keys.example.json");
    let file = KeyFile::parse(example, None).unwrap();
    assert!(file.records().all(|record| record.disabled));
    assert_eq!(file.len(), 2);
}

fn json_like() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("1e9".to_owned()),
        Just("\"get\"".to_owned()),
        Just("\"/a\"".to_owned()),
        Just("\"\\ud800\"".to_owned()),
        Just("\"ZmFrZQ==\"".to_owned()),
        Just("\"é\"".to_owned()),
        ".{0,8}",
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let name = prop_oneof![
            Just(FAKE.to_owned()),
            Just("username".to_owned()),
            Just("salt".to_owned()),
            Just("scopes".to_owned()),
            Just("method".to_owned()),
            Just("path".to_owned()),
            Just("id".to_owned()),
            Just("\\u0061".to_owned()),
            Just("models".to_owned()),
            Just("expires_at".to_owned()),
            Just("é".to_owned()),
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec((name, inner), 0..5).prop_map(|members| {
                let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
                format!("{{{}}}", members.join(",\n"))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn parsing_never_panics(json in json_like(), cut in 0..400_usize, salted in any::<bool>()) {
        let env_salt = salted.then(|| Secret::new("fake".to_owned()));
        let _ = KeyFile::parse(json.as_bytes(), env_salt.as_ref());
        let _ = KeyFile::parse(&json.as_bytes()[..cut.min(json.len())], None);
        let _ = KeyFile::parse(format!("{{\"{FAKE}\": {json}}}").as_bytes(), env_salt.as_ref());
        let _ = KeyFile::from_env(&json, None);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = KeyFile::parse(&bytes, None);
        let _ = KeyFile::from_env(&STANDARD.encode(&bytes), None);
    }
}

#[test]
fn limits_are_read_and_what_cannot_be_enforced_is_told() {
    let with =
        |fields: &str| format!(r#"{{"{FAKE}": {{"username": "a", "salt": "ZmFrZQ==", "scopes": [], {fields}}}}}"#);
    let limits = r#""limits": {"requests_per_minute": 60, "concurrent_requests": null, "shadow": true,
        "budgets": [{"usd": 12.5, "per": "month"}, {"usd": "0.000001", "per": "day"}, {"tokens": 7, "per": "total"}]},
        "default_max_output_tokens": 500"#;
    let file = KeyFile::parse(with(limits).as_bytes(), None).expect("a key file");
    let allowance = file.records().next().expect("a key").allowance.clone();
    let told = "requests_per_minute=60, usd/month=12.5, usd/day=0.000001, tokens/total=7, shadow";
    assert_eq!((allowance.limits.to_string(), allowance.default_max_output_tokens), (told.to_owned(), Some(500)));
    for (fields, expected) in [
        (r#""limits": 5"#, "limits: expected an object"),
        (
            r#""limits": {"requests_per_minuet": 5}"#,
            "limits: unknown field in here (hint: did you mean requests_per_minute?)",
        ),
        (r#""limits": {"tokens_per_minute": 0}"#, "limits.tokens_per_minute: expected a whole number of at least 1"),
        (r#""limits": {"tokens_per_minute": "5"}"#, "limits.tokens_per_minute: expected a whole number"),
        (
            r#""limits": {"tokens_per_minute": 5, "tokens_per_minute": 6}"#,
            "limits.tokens_per_minute: this field stands twice",
        ),
        (r#""limits": {"models": ["m"]}"#, "limits.models: expected an object"),
        (r#""limits": {"models": {"m": 5}}"#, "limits.models[0]: expected an object"),
        (r#""limits": {"models": {"m*": {}}}"#, "limits.models[0]: expected the whole name of a model"),
        (r#""limits": {"models": {"m": {}, "m": {}}}"#, "limits.models[1]: this model stands twice"),
        (r#""limits": {"models": {"m": {"models": {}}}}"#, "limits.models[0]: unknown field in here"),
        (
            r#""limits": {"models": {"m": {"budgets": [{"usd": 1}]}}}"#,
            "limits.models[0].budgets[0]: expected usd or tokens, one of them, and per",
        ),
        (r#""limits": {"shadow": 1}"#, "limits.shadow: expected true or false"),
        (r#""limits": {"budgets": {}}"#, "limits.budgets: expected a list of budgets"),
        (r#""limits": {"budgets": [{"usd": 1}]}"#, "limits.budgets[0]: expected usd or tokens, one of them, and per"),
        (
            r#""limits": {"budgets": [{"usd": 1, "tokens": 1, "per": "day"}]}"#,
            "limits.budgets[0]: expected usd or tokens",
        ),
        (r#""limits": {"budgets": [{"usd": 1, "per": "year"}]}"#, "limits.budgets[0].per: expected \"day\""),
        (r#""limits": {"budgets": [{"usd": 1e2, "per": "day"}]}"#, "limits.budgets[0].usd: expected an amount in USD"),
        (
            r#""limits": {"budgets": [{"usd": 1, "per": "day"}, {"usd": 2, "per": "day"}]}"#,
            "limits.budgets[1]: this limit stands",
        ),
        (r#""default_max_output_tokens": 0"#, "default_max_output_tokens: expected a whole number of at least 1"),
    ] {
        let told = problems(&with(fields));
        assert!(told.len() == 1 && told[0].contains(&format!("ebc5f4226c40.{expected}")), "{fields}: {told:?}");
    }
}
