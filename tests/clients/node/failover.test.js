// A provider that fails while another one can serve: the SDK sees a whole answer, later, and nothing else. The cases are those
// of test_failover.py.

import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import { all, clientOf, provider, question, waitUntil, world } from './world.js';

const ASK = { messages: question() };
const SLOW_DOWN = { error: { message: 'Slow down', type: 'requests', param: null, code: 'rate_limit_exceeded' } };
const TROUBLE = { error: { message: 'Trouble', type: 'server_error', param: null, code: null } };

const FAULTS = {
  500: { status: 500, body: TROUBLE },
  429: { status: 429, body: SLOW_DOWN, headers: { 'retry-after': '3' } },
  reset: { cut: { at: 'head', how: 'reset' } },
  close: { cut: { at: 'head', how: 'close' } },
  silence: { cut: { at: 'head', how: 'stall' } },
};
// The first event of a stream has a role and no content.
const STREAM_FAULTS = {
  'cut before content': { cut: { at: { pieces: 1 }, how: 'close' } },
  'reset before content': { cut: { at: { pieces: 1 }, how: 'reset' } },
  'error before content': { reply: { events: ['data: {"error":{"message":"Trouble","type":"server_error"}}\n\n'] } },
};

const { failover } = world;
const client = clientOf(failover.key, { baseURL: failover.baseURL });
const backup = clientOf(failover.backupKey, { baseURL: `${failover.backup}/v1` });

/** Whether all targets may be asked, so that a test meets the first of them. */
async function isRested() {
  const lines = (await (await fetch(failover.metrics)).text()).split('\n');
  const states = lines.filter((line) => line.startsWith('gateway_target_state{'));
  return states.length > 0 && states.every((line) => line.endsWith(' 0'));
}

beforeEach(() => waitUntil(isRested, 'all targets may be asked'));

const script = ({ status, body, headers, ...fields }) =>
  status ? provider.scriptJson(status, body, headers, { times: 0 }) : provider.script({ ...fields, times: 0 });

async function whole(of, model) {
  const answer = await of.chat.completions.create({ model, ...ASK });
  assert.deepEqual([answer.choices[0].finish_reason, answer.model], ['stop', 'gpt-4o-mini']);
  return answer.choices[0].message.content;
}

async function streamed(of, model) {
  const chunks = await all(await of.chat.completions.create({ model, stream: true, ...ASK }));
  assert.equal(chunks.at(-1).choices[0].finish_reason, 'stop');
  assert.ok(chunks.every((chunk) => chunk.model === 'gpt-4o-mini'));
  return chunks.map((chunk) => chunk.choices[0].delta.content ?? '').join('');
}

async function assertAsked() {
  const { length } = await provider.received();
  assert.ok(length >= 1 && length <= 3, `${length}`);
}

for (const [name, fault] of Object.entries(FAULTS)) {
  test(`a whole answer comes from the one that can serve: ${name}`, async () => {
    await script(fault);
    assert.equal(await whole(client, 'gpt-4o'), await whole(backup, 'gpt-4o-mini'));
    await assertAsked();
  });
}

for (const [name, fault] of Object.entries({ ...FAULTS, ...STREAM_FAULTS })) {
  test(`a stream comes from the one that can serve: ${name}`, async () => {
    await script(fault);
    assert.equal(await streamed(client, 'gpt-4o'), await streamed(backup, 'gpt-4o-mini'));
    await assertAsked();
  });
}

test('one that is down is passed over', async () => {
  assert.equal(await whole(client, 'down-first'), await whole(backup, 'gpt-4o-mini'));
  assert.equal(await streamed(client, 'down-first'), await streamed(backup, 'gpt-4o-mini'));
});

test('one that is well again is asked', async () => {
  await provider.scriptJson(500, TROUBLE);
  const answer = await client.chat.completions.create({ model: 'gpt-4o', ...ASK });
  assert.equal(answer.model, 'gpt-4o');
  assert.equal((await provider.received()).length, 2);
});

test('names are listed with who serves them', async () => {
  const models = Object.fromEntries((await all(client.models.list())).map((model) => [model.id, model.owned_by]));
  assert.deepEqual([models['gpt-4o'], models['down-first']], ['openai, backup', 'down, backup']);
  assert.equal(models['gpt-4o-mini'], 'system');
  assert.equal((await client.models.retrieve('down-first')).owned_by, 'down, backup');
  assert.equal((await client.models.retrieve('gpt-4o-mini')).owned_by, 'system');
});
