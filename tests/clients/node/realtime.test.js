// Both of the SDK's realtime clients through a WebSocket of the gateway: `openai/realtime/ws`, with the key in a header, and
// `openai/realtime/websocket`, which is the browsers', with the key as a sub-protocol. They insist on TLS, so the gateway's
// listener has it. The cases are those of test_openai_realtime.py.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';

import { OpenAIRealtimeWebSocket } from 'openai/realtime/websocket';
import { OpenAIRealtimeWS } from 'openai/realtime/ws';

import { clientOf, createKey, waitUntil, world } from './world.js';

const MODEL = 'gpt-realtime';
const CLIENTS = { ws: OpenAIRealtimeWS, browser: OpenAIRealtimeWebSocket };
const secure = (key, provider = 'realtime') => clientOf(key, { baseURL: `${world.tls}/${provider}/v1` });

/** A dialogue whose events are read one after the other. What is no event (an error of transport, the end) ends it. */
class Dialogue {
  #events = [];
  #waiting = [];

  constructor(Client, { key = world.key, provider, ...asked } = {}) {
    this.client = new Client({ model: MODEL, ...asked }, secure(key, provider));
    this.client.on('event', (event) => this.#tell({ event }));
    this.client.on('error', (error) => error.error ?? this.#tell({ error }));
    const ended = ({ code, reason }) => this.#tell({ end: [code, reason] });
    this.client.socket.addEventListener('close', ended);
  }

  #tell(what) {
    const next = this.#waiting.shift();
    next ? next(what) : this.#events.push(what);
  }

  next() {
    return this.#events.length ? this.#events.shift() : new Promise((resolve) => this.#waiting.push(resolve));
  }

  async event() {
    const told = await this.next();
    assert.ok(told.event, `expected an event, there was ${told.error ?? told.end}`);
    return told.event;
  }

  /** The events up to one of this type. */
  async until(last) {
    const events = [await this.event()];
    while (events.at(-1).type !== last) events.push(await this.event());
    return events;
  }
}

/** The words of a response. */
async function respond(dialogue) {
  dialogue.client.send({ type: 'response.create' });
  const events = await dialogue.until('response.done');
  const words = events.filter((event) => event.type === 'response.output_text.delta').map((event) => event.delta);
  assert.equal(events.find((event) => event.type === 'response.output_text.done').text, words.join(''));
  assert.equal(events.at(-1).response.usage.output_tokens, words.length);
  return words;
}

for (const [name, Client] of Object.entries(CLIENTS)) {
  const open = async (options) => {
    const dialogue = new Dialogue(Client, options);
    const created = await dialogue.event();
    assert.equal(created.type, 'session.created');
    return { dialogue, session: created.session };
  };

  test(`${name}: a dialogue of text`, async () => {
    const { dialogue } = await open();
    dialogue.client.send({ type: 'session.update', session: { type: 'realtime', instructions: 'kurz' } });
    const updated = await dialogue.event();
    assert.deepEqual([updated.type, updated.session.instructions], ['session.updated', 'kurz']);
    const words = await respond(dialogue);
    assert.equal(words.at(-1), '🦊');
    assert.deepEqual(await respond(dialogue), words);
    dialogue.client.close();
    assert.deepEqual(await dialogue.next(), { end: [1000, 'OK'] });
  });

  test(`${name}: twenty at once`, async () => {
    const speak = async () => {
      const { dialogue } = await open();
      const words = await respond(dialogue);
      dialogue.client.close();
      return words.join('');
    };
    assert.equal(new Set(await Promise.all(Array.from({ length: 20 }, speak))).size, 1);
  });

  test(`${name}: what the handshake tells the provider`, async () => {
    const { dialogue, session } = await open();
    dialogue.client.close();
    const headers = session.handshake.headers.map(([name, value]) => [name.toLowerCase(), value]);
    const { authorization, 'sec-websocket-protocol': protocols } = Object.fromEntries(headers);
    assert.equal(session.handshake.target, `/v1/realtime?model=${MODEL}`);
    // It had the key, or there would be no dialogue; what it gives back of it is covered, but in frames that a browser has
    // compressed, which pass unread.
    const covered = name === 'browser' ? world.realtimeKey : '*'.repeat(world.realtimeKey.length);
    assert.equal(authorization, `Bearer ${covered}`);
    assert.equal(protocols, name === 'browser' ? 'realtime' : undefined);
    assert.ok(!JSON.stringify(session).includes(world.key));
  });

  test(`${name}: an error is an event and the dialogue goes on`, async () => {
    const { dialogue } = await open();
    dialogue.client.send({ type: 'no.such.event', event_id: 'mine' });
    const { type, error } = await dialogue.event();
    assert.deepEqual([type, error.code, error.event_id], ['error', 'invalid_value', 'mine']);
    assert.ok(await respond(dialogue));
    dialogue.client.close();
  });

  test(`${name}: megabytes of audio arrive byte for byte`, async () => {
    const { dialogue } = await open();
    const digest = createHash('sha256');
    for (let number = 0; number <= 20; number += 1) {
      const piece = Buffer.alloc(1 << number, number);
      digest.update(piece);
      dialogue.client.send({ type: 'input_audio_buffer.append', audio: piece.toString('base64') });
    }
    dialogue.client.send({ type: 'input_audio_buffer.commit' });
    assert.equal((await dialogue.event()).item_id, digest.digest('hex'));
    dialogue.client.close();
  });

  for (const [code, reason] of [[1000, ''], [1008, 'policy ✋'], [4000, 'session expired']]) {
    test(`${name}: the provider's close is the client's: ${code}`, async () => {
      const { dialogue } = await open();
      dialogue.client.send({ type: 'test.close', code, reason });
      assert.deepEqual(await dialogue.next(), { end: [code, reason] });
    });
  }

  test(`${name}: the client's close is the provider's`, async () => {
    const { dialogue } = await open();
    const reason = `enough, says ${name}`;
    dialogue.client.close({ code: 4001, reason });
    const heard = async () => {
      const closed = await (await fetch(`${world.realtime}/__closed`)).json();
      return closed.some(([code, said]) => code === 4001 && said === reason);
    };
    await waitUntil(heard, 'the provider hears the code');
  });

  for (const [why, options] of [
    ['a wrong key', { key: 'fake' }],
    ['an unknown route', { provider: 'nobody' }],
    ["the provider's no", { model: 'gpt-none' }],
    ['a provider that refuses the managed key', { provider: 'wrongkey' }],
    ['a provider that is down', { provider: 'down' }],
  ]) {
    test(`${name}: a handshake that is refused: ${why}`, async () => {
      const { error } = await new Dialogue(Client, options).next();
      const statuses = {
        'a wrong key': 401,
        'an unknown route': 404,
        "the provider's no": 404,
        'a provider that refuses the managed key': 502,
        'a provider that is down': 502,
      };
      // A browser is not told the status.
      assert.match(error.message, name === 'ws' ? new RegExp(`${statuses[why]}`) : /./);
    });
  }

  test(`${name}: a key with a list of models`, async () => {
    const scopes = ['get:/openai/v1/models', ...world.scopes.realtime];
    const { key } = await createKey(`node speaker ${name}`, scopes, ['gpt-realtime*']);
    const { dialogue, session } = await open({ key, model: 'gpt-realtime-mini' });
    assert.equal(session.model, 'gpt-realtime-mini');
    dialogue.client.close();
    const { error } = await new Dialogue(Client, { key, model: 'o1' }).next();
    assert.match(error.message, name === 'ws' ? /403/ : /./);
  });
}
