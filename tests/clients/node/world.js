// What the tests meet: the gateway and the providers that pytest has started (test_node.py), clients of both, and how to
// ask and steer the scriptable provider. The Python twins are conftest.py and processes.py.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { beforeEach } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';

import OpenAI from 'openai';

export const world = JSON.parse(process.env.AI_GATEWAY_WORLD);
export const MODEL = 'gpt-4o';
const CALL_MS = 20_000;

export const baseURL = (provider = 'openai') => `${world.gateway}/${provider}/v1`;

/** The SDK as a user of the gateway has it. It does not retry, so that a test sees each answer. */
export const clientOf = (apiKey, { provider, ...options } = {}) =>
  new OpenAI({ baseURL: baseURL(provider), apiKey, maxRetries: 0, timeout: CALL_MS, ...options });

export const client = clientOf(world.key);

/** The SDK without a gateway. */
export const direct = clientOf(world.providerKey, { baseURL: `${world.provider}/v1` });

export const question = (text = 'Where does the river go?') => [{ role: 'user', content: text }];

/** The scriptable provider. The fields of a script are those of `src/demo/script.rs`. */
export const provider = {
  async script(fields) {
    const reply = await fetch(`${world.provider}/__script`, { method: 'POST', body: JSON.stringify(fields) });
    assert.equal(reply.status, 200, await reply.text());
  },

  scriptJson(status, body, headers = {}, fields = {}) {
    const all = [['content-type', 'application/json'], ...Object.entries(headers)];
    return this.script({ reply: { fixed: { status, headers: all, body: JSON.stringify(body) } }, ...fields });
  },

  scriptBytes(content, contentType, fields = {}) {
    const body = { base64: content.toString('base64') };
    const fixed = { status: 200, headers: [['content-type', contentType]], body };
    return this.script({ reply: { fixed }, framing: 'chunked', ...fields });
  },

  async received() {
    return (await (await fetch(`${world.provider}/__received`)).json()).received;
  },

  /** Clears scripts and what was received. */
  async forget() {
    for (const path of ['/__script', '/__received']) {
      await (await fetch(world.provider + path, { method: 'DELETE' })).text();
    }
  },

  /** Waits until it has noted that the client of its first call left. */
  async seesTheClientLeave() {
    await waitUntil(async () => (await this.received())[0]?.cancelled, 'the provider sees the client leave');
  },
};

beforeEach(() => provider.forget());

/** A header of a request that was received. */
export const sent = (call, name) => call.headers.find(([other]) => other.toLowerCase() === name)?.[1];

/** Asks until the answer is yes. */
export async function waitUntil(holds, what, milliseconds = 5000) {
  const end = performance.now() + milliseconds;
  while (!(await holds())) {
    assert.ok(performance.now() < end, `not within ${milliseconds} ms: ${what}`);
    await pause(20);
  }
}

/** Everything that an iterable has. */
export const all = (iterable) => Array.fromAsync(iterable);

async function keys(...words) {
  const { stdout } = await promisify(execFile)(world.binary, ['keys', ...words, '--file', world.keyFile, '--json']);
  return JSON.parse(stdout);
}

/** Makes a key that the gateway knows when this returns; it has to have the scope of `get /v1/models`. */
export async function createKey(user, scopes, models = []) {
  const made = await keys('create', user, scopes.join(','), ...models.flatMap((model) => ['--model', model]));
  const headers = { authorization: `Bearer ${made.key}` };
  const isKnown = async () => (await fetch(`${baseURL()}/models`, { headers })).status !== 401;
  await waitUntil(isKnown, 'the gateway knows the key');
  await provider.forget();
  return made;
}

export const revokeKey = (id) => keys('revoke', id);
