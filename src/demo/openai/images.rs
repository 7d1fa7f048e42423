//! `POST /v1/images/generations`. Source: platform.openai.com/docs/api-reference/images.
//!
//! Invariant: each image is a valid PNG (W3C PNG, third edition) of one colour, which follows from the request.
//! Never does: draw what was asked for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::seed::{Seed, tokens};
use super::{Answer, Call, Fault, pretty};

/// Makes images.
pub(super) fn answer(call: &Call<'_>) -> Result<Answer, Fault> {
    let prompt = call.required("prompt")?.as_str().unwrap_or_default();
    let as_url = call.request.get("response_format").and_then(Value::as_str) == Some("url");
    let images: Vec<Value> = (0..call.choices()?)
        .map(|index| {
            let mut seed = call.seed.part(index);
            match as_url {
                true => json!({ "url": format!("https://images.invalid/{}.png", seed.id("img-", 24)) }),
                false => json!({ "b64_json": STANDARD.encode(png(&mut seed)) }),
            }
        })
        .collect();
    let (input, output) = (tokens(prompt), 64 * images.len() as u64);
    Ok(pretty(&json!({
        "created": call.seed.clone().time(),
        "data": images,
        "usage": {
            "total_tokens": input + output,
            "input_tokens": input,
            "output_tokens": output,
            "input_tokens_details": { "text_tokens": input, "image_tokens": 0 },
        },
    }))
    .using(input, output))
}

fn png(seed: &mut Seed) -> Vec<u8> {
    let [red, green, blue, ..] = seed.next().to_le_bytes();
    let row: Vec<u8> = std::iter::once(0).chain([red, green, blue].repeat(usize::from(SIDE))).collect();
    let pixels = row.repeat(usize::from(SIDE));
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    // Eight bits a channel, RGB, not interlaced.
    chunk(&mut png, *b"IHDR", &[0, 0, 0, SIDE, 0, 0, 0, SIDE, 8, 2, 0, 0, 0]);
    chunk(&mut png, *b"IDAT", &stored(&pixels));
    chunk(&mut png, *b"IEND", &[]);
    png
}

fn chunk(png: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    let typed = [&kind, data].concat();
    png.extend((data.len() as u32).to_be_bytes());
    png.extend(&typed);
    png.extend(crc32fast::hash(&typed).to_be_bytes());
}

/// A zlib stream of one block that is not compressed (RFC 1950, RFC 1951 section 3.2.4).
fn stored(data: &[u8]) -> Vec<u8> {
    let length = data.len() as u16;
    let (a, b) = data.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65521;
        (a, (b + a) % 65521)
    });
    let mut stream = vec![0x78, 0x01, 0x01];
    stream.extend(length.to_le_bytes());
    stream.extend((!length).to_le_bytes());
    stream.extend(data);
    stream.extend(((b << 16) | a).to_be_bytes());
    stream
}

/// Pixels: the data must fit into one stored block.
const SIDE: u8 = 16;
