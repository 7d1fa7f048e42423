// The SDK on routes whose bodies pass unread: uploads, and files and audio that come back. The cases are those of
// test_openai_audio.py.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';

import { toFile } from 'openai';

import { all, client, provider, sent, world } from './world.js';

const RECORDING = Buffer.concat([Buffer.from('RIFF'), Buffer.alloc(20_000 * 256, Buffer.from([...Array(256).keys()]))]);
const SPEECH = { model: 'tts-1', voice: 'alloy', input: 'hello' };

/** Asserts that a form arrived whole, whose last part is this content: the provider keeps what comes first. */
function assertForm(call, content, ...told) {
  const [, boundary] = sent(call, 'content-type').match(/^multipart\/form-data; boundary=(.+)$/);
  const kept = Buffer.from(call.body_base64, 'base64');
  const start = kept.indexOf(content.subarray(0, 64));
  assert.ok(start > 0, 'the content begins in what was kept');
  const head = kept.subarray(0, start);
  for (const text of told) assert.ok(head.includes(text), `${text} in ${head}`);
  const end = Buffer.from(`\r\n--${boundary}--`);
  const whole = Buffer.concat([head, content, end]);
  const digests = ['', '\r\n'].map((last) => createHash('sha256').update(whole).update(last).digest('hex'));
  assert.ok(call.body_complete && digests.includes(call.body_sha256), 'byte for byte');
  assert.equal(sent(call, 'authorization'), `Bearer ${world.providerKey}`);
}

test('a transcription', async () => {
  await provider.scriptJson(200, { text: 'hello' });
  const file = await toFile(RECORDING, 'ä.wav');
  const answer = await client.audio.transcriptions.create({ model: 'whisper-1', language: 'de', file });
  assert.equal(answer.text, 'hello');
  assertForm((await provider.received())[0], RECORDING, 'whisper-1', 'filename="ä.wav"');
});

test('a transcription that streams', async () => {
  const deltas = ['Hallo', ' Welt', ' 🦊'].map((delta) => ({ type: 'transcript.text.delta', delta }));
  const events = [...deltas, { type: 'transcript.text.done', text: 'Hallo Welt 🦊' }];
  await provider.script({ reply: { events: events.map((event) => `data: ${JSON.stringify(event)}\n\n`) }, gap_ms: 200 });
  const file = await toFile(RECORDING, 'a.wav');
  const stream = await client.audio.transcriptions.create({ model: 'gpt-4o-transcribe', stream: true, file });
  const [told, arrived] = [[], []];
  for await (const event of stream) {
    told.push(event);
    arrived.push(performance.now());
  }
  assert.deepEqual(told, events);
  const gaps = arrived.slice(1).map((later, index) => later - arrived[index]);
  assert.ok(Math.min(...gaps) > 50, `${gaps}`);
});

test('speech', async () => {
  await provider.scriptBytes(RECORDING, 'audio/mpeg', { pieces: [1, 1000, 70_000] });
  const answer = await client.audio.speech.create(SPEECH);
  assert.equal(answer.headers.get('content-type'), 'audio/mpeg');
  assert.ok(RECORDING.equals(Buffer.from(await answer.arrayBuffer())));
});

test('speech is heard while it is made', async () => {
  await provider.scriptBytes(RECORDING.subarray(0, 3000), 'audio/pcm', {
    pieces: [1000],
    cut: { at: { pieces: 2 }, how: 'stall' },
  });
  const answer = await client.audio.speech.create({ ...SPEECH, response_format: 'pcm' });
  let heard = Buffer.alloc(0);
  for await (const piece of answer.body) {
    heard = Buffer.concat([heard, piece]);
    if (heard.length === 2000) break;
  }
  assert.ok(RECORDING.subarray(0, 2000).equals(heard));
});

test('a file of 20 MB', async () => {
  const blocks = Array.from({ length: 20_000_000 / 64 }, (_, at) => createHash('sha512').update(`${at}`).digest());
  const content = Buffer.concat(blocks);
  const made = { id: 'file-1', object: 'file', bytes: content.length, purpose: 'fine-tune', filename: 'ü.jsonl' };
  await provider.scriptJson(200, made);
  const file = await client.files.create({ purpose: 'fine-tune', file: await toFile(content, 'ü.jsonl') });
  assert.deepEqual([file.id, file.bytes], ['file-1', 20_000_000]);
  assertForm((await provider.received())[0], content, 'fine-tune', 'filename="ü.jsonl"');
});

test('the content of a file', async () => {
  await provider.scriptBytes(RECORDING, 'application/octet-stream', { pieces: [100_000] });
  const answer = await client.files.content('file-1');
  assert.ok(RECORDING.equals(Buffer.concat(await all(answer.body))));
  assert.equal((await provider.received())[0].target, '/v1/files/file-1/content');
});
