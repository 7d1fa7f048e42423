//! What metering costs: the tap on an event, the splitter, a JSON answer, and the head scan.
//!
//! `cargo bench --bench meter`. Only ratios within one run mean anything; `memchr` is one pass over the same bytes.

#![expect(missing_docs, clippy::expect_used, reason = "a bench is no library and may panic")]

use std::hint::black_box;

use ai_gateway::dialect;
use ai_gateway::meter::sse::Splitter;
use ai_gateway::meter::{Shape, Tap, scan};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

/// Events that one iteration sees.
const EVENTS: usize = 1000;

fn chat_event(word: usize, more: &str) -> Bytes {
    let event = format!(
        "data: {{\"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\",\"object\":\"chat.completion.chunk\",\"created\":1741569952,\
         \"model\":\"gpt-4o-2024-08-06\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_44709d6fcb\",\"choices\":\
         [{{\"index\":0,\"delta\":{{\"content\":\" word{word}\"}},\"logprobs\":null,\"finish_reason\":null}}]{more}}}\n\n"
    );
    event.into()
}

fn responses_event(word: usize) -> Bytes {
    let event = format!(
        "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"sequence_number\":{word},\
         \"item_id\":\"msg_67c9fdcf37fc8190ba82116e33fb28c507b8b0ad4e5eb654\",\"output_index\":0,\"content_index\":0,\
         \"delta\":\" word\",\"logprobs\":[],\"obfuscation\":\"JW8zDqs5Y4\"}}\n\n"
    );
    event.into()
}

fn streams(c: &mut Criterion) {
    let mut group = c.benchmark_group("event");
    group.throughput(Throughput::Elements(EVENTS as u64));
    let null = ",\"usage\":null";
    let padded = ",\"usage\":null,\"obfuscation\":\"aGVsbG8\"";
    let cases: [(&str, Vec<Bytes>, bool); 5] = [
        ("chat", (0..EVENTS).map(|word| chat_event(word, "")).collect(), false),
        ("chat, obfuscated", (0..EVENTS).map(|word| chat_event(word, padded)).collect(), false),
        ("responses", (0..EVENTS).map(responses_event).collect(), false),
        ("chat, usage hidden", (0..EVENTS).map(|word| chat_event(word, null)).collect(), true),
        ("chat, usage to hide, none there", (0..EVENTS).map(|word| chat_event(word, "")).collect(), true),
    ];
    for (name, events, hide) in &cases {
        group.bench_function(format!("tap/{name}"), |b| {
            let new = || Tap::new(dialect::ALL[0], Shape::Events, *hide);
            b.iter_batched_ref(
                new,
                |tap| {
                    for event in events {
                        black_box(tap.push(event.clone()));
                        black_box(tap.seen());
                    }
                },
                BatchSize::LargeInput,
            );
        });
    }
    let events = &cases[0].1;
    group.bench_function("splitter/chat", |b| {
        b.iter_batched_ref(
            || Splitter::new(1 << 20),
            |splitter| {
                for event in events {
                    let mut left = &event[..];
                    while let Some(part) = splitter.next(&mut left) {
                        black_box(part);
                    }
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("memchr/chat", |b| {
        b.iter(|| events.iter().for_each(|event| assert!(memchr::memchr2(0, 1, black_box(event)).is_none())));
    });
    group.bench_function("clone/chat", |b| {
        b.iter(|| events.iter().for_each(|event| drop(black_box(event.clone()))));
    });
    group.finish();
}

fn documents(c: &mut Criterion) {
    let chat = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":"TEXT"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}"#;
    let embeddings = |count: usize| {
        let vector = vec!["-0.0023064255"; 1536].join(",");
        let one = format!(r#"{{"object":"embedding","index":0,"embedding":[{vector}]}}"#);
        let data = vec![one; count].join(",");
        let usage = r#"{"prompt_tokens":8,"total_tokens":8}"#;
        format!(r#"{{"object":"list","data":[{data}],"model":"text-embedding-3-small","usage":{usage}}}"#)
    };
    let mut group = c.benchmark_group("document");
    for (name, body) in [
        ("chat 1 kB", chat.replace("TEXT", &"word ".repeat(150))),
        ("embeddings 21 kB", embeddings(1)),
        ("embeddings 21 MB", embeddings(1000)),
    ] {
        let body = Bytes::from(body);
        let pieces: Vec<_> =
            (0..body.len()).step_by(16_384).map(|at| body.slice(at..body.len().min(at + 16_384))).collect();
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("tap/{name}"), |b| {
            b.iter(|| {
                let mut tap = Tap::new(dialect::ALL[0], Shape::Json, false);
                for piece in &pieces {
                    black_box(tap.push(piece.clone()));
                }
                assert!(tap.finish().usage.is_some());
            });
        });
        group.bench_function(format!("memchr/{name}"), |b| {
            b.iter(|| pieces.iter().for_each(|piece| assert!(memchr::memchr2(0, 1, black_box(piece)).is_none())));
        });
    }
    group.finish();
}

/// Messages of about so many bytes, by what they are made of.
fn requests_of(bytes: usize) -> [(&'static str, String); 5] {
    let user = |content: &str| format!(r#"{{"role":"user","content":{content}}}"#);
    let filled = |text: &str| user(&format!("\"{}\"", text.repeat(bytes / text.len() + 1)));
    let turn = user(r#""And then?""#)
        + r#",{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"look_up","arguments":"{\"city\": \"Oslo\"}"}}]}"#;
    let turns = vec![turn.as_str(); bytes / turn.len() + 1].join(",");
    let image =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA".repeat(bytes / 84 + 1);
    let image = format!(r#"[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{image}"}}}}]"#);
    [
        ("text", filled(r#"Some \"quoted\" words and a line.\n"#)),
        ("source code", filled(r#"    if (x[\"a\"] == \"b\") {\n\t\treturn \"c\\n\";\n    }\n"#)),
        ("many messages", turns),
        ("image", user(&image)),
        ("numbers", user(&format!("[{}]", "15339,1917,-0.0023064255,11,".repeat(bytes / 28) + "0"))),
    ]
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("head scan");
    for (size, bytes) in [("1 kB", 1_000), ("64 kB", 64_000), ("1 MB", 1_000_000), ("20 MB", 20_000_000)] {
        for (kind, messages) in requests_of(bytes) {
            let body = Bytes::from(format!(r#"{{"messages":[{messages}],"stream":true,"model":"gpt-4o"}}"#));
            group.throughput(Throughput::Bytes(body.len() as u64));
            group.bench_function(format!("scan/{kind}, {size}"), |b| {
                b.iter(|| black_box(scan(black_box(&body)).expect("a request")).ask_for_usage());
            });
            // What is looked for besides where calls are limited.
            let scanned = scan(&body).expect("a request");
            group.bench_function(format!("bounds/{kind}, {size}"), |b| {
                b.iter(|| scanned.extras(black_box(&body)));
            });
        }
        let zeros = vec![b'0'; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("memchr/{size}"), |b| {
            b.iter(|| assert!(memchr::memchr2(0, 1, black_box(&zeros)).is_none()));
        });
    }
    group.finish();
}

criterion_group!(benches, streams, documents, requests);
criterion_main!(benches);
