//! Content of a request that its bytes do not bound: images, audio, files, stored answers, tools that read or make something
//! on the provider's side.
//!
//! Invariant: conservative: what may be such content counts as such. A name is looked for in the bytes as JSON spells it; a
//! body that spells any member name or value with an escape for a plain letter counts too, as it may spell one of these so.
//! Never does: parse; tell how much there is.

use crate::dialect::stop;

/// What a request holds besides text whose bytes are all in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Whether the input may be more tokens than the body has bytes, as part of it is no text or is not in the body: media,
    /// files, stored answers, tools that read something. It rather says so once too often.
    pub is_open_ended: bool,
    /// Tokens of instructions that a provider may put before a request for what it holds, such as tools. Anthropic tells up to
    /// 530 for tools as such, and a few hundred for each of its own kinds
    /// (docs.anthropic.com/en/docs/tool-use-pricing-and-tokens, read 2026-11); for answers in a given form it tells that there
    /// are some. OpenAI's spelling of tools is all in the body.
    pub instructions: u64,
}

/// Members of the request itself that bring in what the body does not hold.
pub(super) const MEMBERS: [&str; 5] =
    ["previous_response_id", "conversation", "web_search_options", "container", "mcp_servers"];

impl Extras {
    /// Looks through a body once. Its own [`MEMBERS`] aside, which are for the scan to see.
    pub(super) fn of(body: &[u8]) -> Self {
        let mut extras = Self::default();
        let mut at = 0;
        while let Some(more) = stop(&body[at..]) {
            at += more + 1;
            if body[at - 1] == b'"' {
                extras.sees(&body[at..]);
            } else if is_disguise(&body[at..]) {
                return Self { is_open_ended: true, instructions: INSTRUCTIONS };
            }
        }
        extras
    }

    /// What stands behind a quote.
    fn sees(&mut self, text: &[u8]) {
        let Some((_, means)) = names(text).iter().find(|(name, _)| text.starts_with(name)) else { return };
        match means {
            Means::OpenEnd => self.is_open_ended = true,
            Means::Instructions => self.instructions = INSTRUCTIONS,
            // That of an earlier answer; where it stands for the answer's own it counts too.
            Means::Audio => self.is_open_ended |= value(text, AUDIO).starts_with(b"{"),
            Means::Type => {
                let Some(kind) = value(text, TYPE).strip_prefix(b"\"") else { return };
                self.is_open_ended |= TYPES.iter().any(|name| kind.starts_with(name));
                if OWN_TOOLS.iter().any(|name| kind.starts_with(name)) {
                    self.instructions = INSTRUCTIONS;
                }
            }
        }
    }
}

/// What it means that a name stands in a body.
#[derive(Clone, Copy)]
enum Means {
    /// Its content is by reference or no text, so that the model reads more tokens than there are bytes.
    OpenEnd,
    /// Anthropic has instructions for it.
    Instructions,
    /// What it means is up to its value.
    Type,
    Audio,
}

/// Names, by their first letter. No text in quotes of its own, such as a parameter of a function, is likely to be one of them.
/// Source: OpenAI's API reference, chat/completions and responses (content parts and hosted tools), and Anthropic's, messages,
/// read 2026-11.
fn names(text: &[u8]) -> &'static [(&'static [u8], Means)] {
    use Means::{Audio, Instructions, OpenEnd, Type};
    match text.first() {
        Some(b't') => &[(TYPE, Type)],
        Some(b'a') => &[(AUDIO, Audio)],
        Some(b'i') => &[
            (b"image_url\"", OpenEnd),
            (b"image_file\"", OpenEnd),
            (b"input_image\"", OpenEnd),
            (b"input_audio\"", OpenEnd),
            (b"input_file\"", OpenEnd),
            (b"input_video\"", OpenEnd),
            (b"input_schema\"", Instructions),
            (b"item_reference\"", OpenEnd),
        ],
        Some(b'f') => {
            &[(b"file_id\"", OpenEnd), (b"file_ids\"", OpenEnd), (b"file_url\"", OpenEnd), (b"file_data\"", OpenEnd)]
        }
        Some(b'v') => &[(b"video_url\"", OpenEnd), (b"vector_store_ids\"", OpenEnd)],
        Some(b's') => &[(b"server_url\"", OpenEnd)],
        Some(b'o') => &[(b"output_config\"", Instructions), (b"output_format\"", Instructions)],
        _ => &[],
    }
}

const TYPE: &[u8] = b"type\"";
const AUDIO: &[u8] = b"audio\"";

/// Values of a member `type`, or how they begin, whose content is no text: parts of content, and tools that the provider runs.
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
/// Tools that Anthropic describes and the client runs.
const OWN_TOOLS: [&[u8]; 4] = [b"bash_", b"text_editor_", b"memory_", b"tool_search"];
const INSTRUCTIONS: u64 = 2048;

/// The value of the member whose name begins the text; nothing where the name is no member's.
fn value<'b>(text: &'b [u8], name: &[u8]) -> &'b [u8] {
    text[name.len()..].trim_ascii_start().strip_prefix(b":").unwrap_or_default().trim_ascii_start()
}

/// Whether what stands behind a backslash spells a letter, digit or underscore as `\u00XX`: nothing needs that, and it would
/// hide a name.
fn is_disguise(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"u00").and_then(|digits| std::str::from_utf8(digits.get(..2)?).ok());
    let letter = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
    letter.is_some_and(|letter| letter.is_ascii_alphanumeric() || letter == b'_')
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
            assert!(!Extras::of(body.as_bytes()).is_open_ended, "{body}");
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
            assert_eq!(Extras::of(body.as_bytes()).instructions, INSTRUCTIONS, "{body}");
        }
        for body in [
            r#"{"messages":[{"role":"user","content":"an input_schema, bash_1 and \"type\""}]}"#,
            r#"{"tools":[{"type":"function","function":{"name":"bash_it","parameters":{"type":"object"}}}]}"#,
        ] {
            assert_eq!(Extras::of(body.as_bytes()).instructions, 0, "{body}");
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
            assert!(Extras::of(body.as_bytes()).is_open_ended, "{body}");
        }
    }

    #[test]
    fn each_name_is_found_wherever_it_stands() {
        let open = ["image_url", "input_image", "image_file", "input_audio", "input_file", "input_video", "video_url"];
        let more = ["file_id", "file_ids", "file_url", "file_data", "item_reference", "vector_store_ids", "server_url"];
        for name in open.into_iter().chain(more) {
            let body = format!(r#"{{"messages":[{{"content":[{{"x":"\"y\"","{name}":1}}]}}]}}"#);
            assert!(Extras::of(body.as_bytes()).is_open_ended, "{name}");
            assert!(!Extras::of(body.replace(name, &format!("{name}x")).as_bytes()).is_open_ended, "{name}");
        }
        for kind in TYPES.map(|kind| String::from_utf8_lossy(kind).into_owned()) {
            let body = format!("{{\"tools\":[{{ \"type\" :\n\"{kind}");
            assert!(Extras::of(body.as_bytes()).is_open_ended, "{kind}");
            assert!(!Extras::of(body.replace("type", "kind").as_bytes()).is_open_ended, "{kind}");
        }
    }
}
