//! `env_logger` as the source of all lines but the access line, in the same shape and through the same writer.
//!
//! Invariant: only our own targets follow the user's level. Pingora's lower layers print whole request heads, keys
//! included, so they are off in code, and no setting or variable can turn them on.
//! Never does: read the environment.

use std::io::Write;
use std::time::SystemTime;

use env_logger::{Builder, Logger, Target};
use log::LevelFilter;

use super::line;
use super::log::LogWriter;

/// Targets that print request heads in their errors or debug output.
const SILENT: [&str; 9] = [
    "pingora_core::apps",
    "pingora_proxy",
    "pingora_http",
    "pingora_core::protocols",
    "pingora_core::connectors",
    "pingora_pool",
    "httparse",
    "h2",
    "rustls",
];

/// Makes the `log` crate's macros write lines of JSON through `writer`. `clock` is `SystemTime::now`. A process has one
/// logger: where there is one already nothing changes, and the answer is false.
pub fn init_logger(level: LevelFilter, writer: &LogWriter, clock: fn() -> SystemTime) -> bool {
    let logger = logger(level, writer, clock);
    let most = logger.filter();
    let first = log::set_boxed_logger(Box::new(logger)).is_ok();
    if first {
        log::set_max_level(most);
    }
    first
}

fn logger(level: LevelFilter, writer: &LogWriter, clock: fn() -> SystemTime) -> Logger {
    let mut builder = Builder::new();
    builder.filter_level(level.min(LevelFilter::Warn));
    builder.filter_module("ai_gateway", level);
    for target in SILENT {
        builder.filter_module(target, LevelFilter::Off);
    }
    let out = writer.clone();
    builder.target(Target::Pipe(Box::new(writer.clone())));
    builder.format(move |buffer, record| {
        let message = record.args().to_string();
        let mut text = Vec::with_capacity(256);
        line::begin(&mut text, record.level().as_str(), clock(), out.origin());
        text.extend_from_slice(br#""target":"#);
        line::string(&mut text, record.target());
        line::finish(&mut text, &message);
        buffer.write_all(&text)
    });
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::log::tests::Sink;
    use log::{Level, Log, Record};

    fn heard(level: LevelFilter, target: &str) -> Vec<String> {
        let sink = Sink::default();
        let writer = sink.writer();
        let logger = logger(level, &writer, || SystemTime::UNIX_EPOCH);
        for level in Level::iter() {
            let record =
                Record::builder().level(level).target(target).args(format_args!("authorization: \"x\"\n")).build();
            logger.log(&record);
        }
        let lines = sink.lines(&writer);
        lines.iter().map(|line| line["level"].as_str().expect("a level").to_owned()).collect()
    }

    #[test]
    fn only_our_own_targets_follow_the_users_level() {
        assert_eq!(heard(LevelFilter::Trace, "ai_gateway::server").len(), 5);
        assert_eq!(heard(LevelFilter::Info, "ai_gateway"), ["ERROR", "WARN", "INFO"]);
        assert_eq!(heard(LevelFilter::Trace, "hyper::proto"), ["ERROR", "WARN"]);
        assert_eq!(heard(LevelFilter::Trace, "pingora_core::server"), ["ERROR", "WARN"]);
        assert_eq!(heard(LevelFilter::Error, "pingora_core::server"), ["ERROR"]);
        assert!(heard(LevelFilter::Off, "ai_gateway").is_empty());
    }

    #[test]
    fn what_prints_heads_is_silent_at_every_level() {
        for target in [
            "pingora_proxy",
            "pingora_proxy::proxy_h1",
            "pingora_http",
            "pingora_core::protocols::http::v1::server",
            "pingora_core::connectors::http::v1",
            "pingora_pool",
            "httparse",
            "h2",
            "pingora_core::apps",
            "rustls",
            "rustls::client::hs",
        ] {
            assert!(heard(LevelFilter::Trace, target).is_empty(), "{target}");
        }
    }

    #[test]
    fn a_line_has_the_originals_shape() {
        let sink = Sink::default();
        let writer = sink.writer();
        let logger = logger(LevelFilter::Info, &writer, || SystemTime::UNIX_EPOCH);
        let record = Record::builder()
            .level(Level::Warn)
            .target("ai_gateway::x")
            .args(format_args!("two\nlines \"quoted\""))
            .build();
        logger.log(&record);
        let expected = serde_json::json!({
            "level": "WARN",
            "timestamp": "1970-01-01T00:00:00.000Z",
            "pid": std::process::id(),
            "hostname": "a\"host",
            "meta": {"target": "ai_gateway::x"},
            "message": "two\nlines \"quoted\"",
        });
        assert_eq!(sink.lines(&writer), [expected]);
    }

    #[test]
    fn a_second_logger_is_refused_quietly() {
        let writer = Sink::default().writer();
        init_logger(LevelFilter::Off, &writer, || SystemTime::UNIX_EPOCH);
        assert!(!init_logger(LevelFilter::Trace, &writer, || SystemTime::UNIX_EPOCH));
    }
}
