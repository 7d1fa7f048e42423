//! Content of a request that its bytes do not bound: images, audio, files, stored answers, tools that read or make something
//! on the provider's side.
//!
//! Invariant: conservative: what may be such content counts as such. A name is looked for in the bytes as JSON spells it; a
//! body that spells any member name or value with an escape for a plain letter counts too, as it may spell one of these so.
//! Never does: parse; tell how much there is.

use memchr::memmem;

/// Names whose content is by reference or no text, so that the model reads more tokens than there are bytes. No text in
/// quotes of its own, such as a parameter of a function, is likely to be one of them. Source: OpenAI's API reference,
/// chat/completions and responses (content parts and hosted tools), and Anthropic's, messages, read 2026-11.
const NAMES: [&[u8]; 14] = [
    b"\"image_url\"",
    b"\"input_image\"",
    b"\"image_file\"",
    b"\"input_audio\"",
    b"\"input_file\"",
    b"\"input_video\"",
    b"\"video_url\"",
    b"\"file_id\"",
    b"\"file_ids\"",
    b"\"file_url\"",
    b"\"file_data\"",
    b"\"item_reference\"",
    b"\"vector_store_ids\"",
    b"\"server_url\"",
];

/// The same where they are the value of a member `type`, or begin it: parts of content, and tools that the provider runs.
const TYPES: [&[u8]; 15] = [
    b"image\"",
    b"audio\"",
    b"file\"",
    b"document\"",
    b"container_upload\"",
    b"mcp",
    b"web_search",
    b"web_fetch",
    b"file_search",
    b"code_interpreter",
    b"code_execution",
    b"computer",
    b"image_generation",
    b"local_shell",
    b"shell",
];

/// Members of the request itself that bring in what the body does not hold.
pub(super) const MEMBERS: [&str; 5] =
    ["previous_response_id", "conversation", "web_search_options", "container", "mcp_servers"];

/// Tells whether the input may be more tokens than the body has bytes, its own [`MEMBERS`] aside.
pub(super) fn is_open_ended(body: &[u8]) -> bool {
    NAMES.iter().any(|name| memmem::find(body, name).is_some())
        || values(body, b"\"type\"").any(|value| {
            value.strip_prefix(b"\"").is_some_and(|value| TYPES.iter().any(|name| value.starts_with(name)))
        })
        // That of an earlier answer; where it stands for the answer's own it counts too.
        || values(body, b"\"audio\"").any(|value| value.starts_with(b"{"))
        || is_disguised(body)
}

/// Tokens of instructions that a provider puts before a request for what it holds, such as tools. Anthropic tells up to 530
/// for tools as such, and a few hundred for each of its own kinds (docs.anthropic.com/en/docs/tool-use-pricing-and-tokens,
/// read 2026-11); for answers in a given form it tells that there are some. OpenAI's spelling of tools is all in the body.
pub(super) fn instructions(body: &[u8]) -> u64 {
    let has = |name: &&[u8]| memmem::find(body, name).is_some();
    let own = |value: &[u8]| OWN_TOOLS.iter().any(|name| value.starts_with(name));
    let any = INSTRUCTED.iter().any(has) || values(body, b"\"type\"").any(own) || is_disguised(body);
    if any { INSTRUCTIONS } else { 0 }
}

/// Members of Anthropic's for which there are instructions.
const INSTRUCTED: [&[u8]; 3] = [b"\"input_schema\"", b"\"output_config\"", b"\"output_format\""];
/// Tools that Anthropic describes and the client runs.
const OWN_TOOLS: [&[u8]; 4] = [b"\"bash_", b"\"text_editor_", b"\"memory_", b"\"tool_search"];
const INSTRUCTIONS: u64 = 2048;

/// What stands behind each member of this name.
fn values<'b>(body: &'b [u8], name: &'static [u8]) -> impl Iterator<Item = &'b [u8]> {
    memmem::find_iter(body, name).filter_map(|at| {
        let behind = body[at + name.len()..].trim_ascii_start();
        Some(behind.strip_prefix(b":")?.trim_ascii_start())
    })
}

/// Whether a letter, digit or underscore is spelt as `\u00XX`: nothing needs that, and it would hide a name.
fn is_disguised(body: &[u8]) -> bool {
    memmem::find_iter(body, b"\\u00").any(|at| {
        let digits = body.get(at + 4..at + 6).and_then(|digits| std::str::from_utf8(digits).ok());
        let letter = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        letter.is_some_and(|letter| letter.is_ascii_alphanumeric() || letter == b'_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_alone_is_bounded_by_its_bytes() {
        for body in [
            r#"{"model":"m","messages":[{"role":"user","content":"an image_url and a file_id, said \"image\" or \n"}]}"#,
            r#"{"model":"m","input":"caf\u00e9 \u0001 \u003c","tools":[{"type":"function","function":{"name":"f"}}]}"#,
            r#"{"model":"m","prompt":"{ once upon a time"}"#,
            r#"{"model":"m","prompt": ["a"]}"#,
            r#"{"tools":[{"type":"function","parameters":{"properties":{"file":{"type":"string"},"image":{}}}}]}"#,
            r#"{"modalities":["text","audio"],"response_format":{"type":"json_schema"}}"#,
        ] {
            assert!(!is_open_ended(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn instructions_come_with_anthropics_tools() {
        for body in [
            r#"{"tools":[{"name":"f","input_schema":{"type":"object"}}]}"#,
            r#"{"tools":[{"type":"bash_20250124","name":"bash"}]}"#,
            r#"{"output_config":{"format":{"type":"json_schema"}}}"#,
            r#"{"tools":[{"name":"f","\u0069nput_schema":{}}]}"#,
        ] {
            assert_eq!(instructions(body.as_bytes()), INSTRUCTIONS, "{body}");
        }
        for body in [
            r#"{"messages":[{"role":"user","content":"an input_schema, bash_1 and \"type\""}]}"#,
            r#"{"tools":[{"type":"function","function":{"name":"bash_it","parameters":{"type":"object"}}}]}"#,
        ] {
            assert_eq!(instructions(body.as_bytes()), 0, "{body}");
        }
    }

    #[test]
    fn content_by_reference_and_media_are_not() {
        for body in [
            r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"https://a/b.png"}}]}]}"#,
            r#"{"messages":[{"content":[{"type":"input_audio","input_audio":{}}]}]}"#,
            r#"{"messages":[{"content":[{"type":"image","source":{"type":"url"}}]}]}"#,
            r#"{"messages":[{"role":"assistant","audio":{"id":"audio_1"}}]}"#,
            r#"{"messages":[{"content":[{"type":"file","file":{}}]}]}"#,
            r#"{"input":[{"type":"input_file","file_id":"f"}]}"#,
            r#"{"input":"x","tools":[{"type":"web_search_preview_2025_03_11"}]}"#,
            r#"{"input":"x","tools":[{"type":"file_search","vector_store_ids":["v"]}]}"#,
            r#"{"messages":[{"content":[{"type":"\u0069mage_url"}]}]}"#,
            r#"{"messages":[{"content":[{"type":"image\u005furl"}]}]}"#,
        ] {
            assert!(is_open_ended(body.as_bytes()), "{body}");
        }
    }
}
