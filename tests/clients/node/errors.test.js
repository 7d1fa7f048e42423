// Errors through the gateway, as the SDK's own classes: class, status, message, type and code. The cases are those of
// test_openai_errors.py.

import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { test } from 'node:test';

import OpenAI from 'openai';

import { MODEL, client, clientOf, createKey, direct, provider, question, revokeKey, waitUntil, world } from './world.js';

const CHAT = { model: MODEL, messages: question('hello') };
const SLOW_DOWN = { error: { message: 'Slow down', type: 'requests', param: null, code: 'rate_limit_exceeded' } };

const chat = (of, more) => of.chat.completions.create({ ...CHAT, ...more });

/** The error of a call, which has to be of exactly this class. */
async function caught(kind, call) {
  const error = await call.then(() => assert.fail('it was answered'), (error) => error);
  assert.equal(error.constructor, kind, `${error}`);
  return error;
}

function assertError(error, status, type, code, message) {
  assert.deepEqual([error.status, error.type, error.code], [status, type, code]);
  assert.deepEqual(Object.keys(error.error).sort(), ['code', 'message', 'param', 'type']);
  assert.ok(error.requestID && error.headers.get('content-type').startsWith('application/json'));
  if (message) assert.equal(error.error.message, message);
}

const assertNothingReceived = async () => assert.deepEqual(await provider.received(), []);

for (const key of ['fake', `sk-aigw-${'A'.repeat(49)}`]) {
  test(`a wrong key: ${key}`, async () => {
    const error = await caught(OpenAI.AuthenticationError, chat(clientOf(key)));
    assertError(error, 401, 'invalid_request_error', 'invalid_api_key');
    assert.ok(error.error.message.startsWith('Invalid AI Gateway API key') && !`${error}`.includes(key));
    await assertNothingReceived();
  });
}

test("the provider's key is no key of the gateway", async () => {
  const error = await caught(OpenAI.AuthenticationError, chat(clientOf(world.providerKey)));
  assertError(error, 401, 'invalid_request_error', 'invalid_api_key', 'Invalid AI Gateway API key');
});

test('a key that is made and revoked while the gateway runs', async () => {
  const made = await createKey('node leaver', world.scopes.openai);
  const leaver = clientOf(made.key);
  assert.ok((await chat(leaver)).choices);
  await revokeKey(made.id);
  let error;
  await waitUntil(async () => (error = await leaver.models.list().then(() => null, (error) => error)), 'it is refused');
  assert.equal(error.constructor, OpenAI.AuthenticationError);
  assertError(error, 401, 'invalid_request_error', 'revoked_api_key');
});

test('a missing scope', async () => {
  const made = await createKey('node reader', ['get:/openai/v1/models']);
  const error = await caught(OpenAI.PermissionDeniedError, chat(clientOf(made.key)));
  assertError(error, 403, 'invalid_request_error', 'insufficient_permissions', 'Invalid AI Gateway API scope');
  await assertNothingReceived();
});

test("a model outside of the key's list", async () => {
  const made = await createKey('node modest', world.scopes.openai, ['gpt-4o-mini', 'text-*']);
  const modest = clientOf(made.key);
  assert.ok((await chat(modest, { model: 'gpt-4o-mini' })).choices);
  await provider.forget();
  assertError(await caught(OpenAI.PermissionDeniedError, chat(modest)), 403, 'invalid_request_error', 'model_not_allowed');
  const speech = modest.audio.speech.create({ model: 'gpt-4o-mini', voice: 'alloy', input: 'hello' });
  assertError(await caught(OpenAI.PermissionDeniedError, speech), 403, 'invalid_request_error', 'route_not_metered');
  await assertNothingReceived();
});

test('an unknown route', async () => {
  const error = await caught(OpenAI.NotFoundError, client.moderations.create({ input: 'x' }));
  assertError(error, 404, 'invalid_request_error', 'unknown_url', 'Route not found');
  await assertNothingReceived();
});

test("the provider's unknown model", async () => {
  const error = await caught(OpenAI.NotFoundError, chat(client, { model: 'gpt-none' }));
  const plain = await caught(OpenAI.NotFoundError, chat(direct, { model: 'gpt-none' }));
  assert.deepEqual(error.error, plain.error);
  assertError(error, 404, 'invalid_request_error', 'model_not_found');
  assert.equal(error.headers.get('provider-name'), 'openai');
  const missing = await caught(OpenAI.NotFoundError, client.models.retrieve('gpt-none'));
  assertError(missing, 404, 'invalid_request_error', 'model_not_found', "The model 'gpt-none' does not exist");
});

test("the provider's bad request", async () => {
  const error = await caught(OpenAI.BadRequestError, chat(client, { n: 0 }));
  const plain = await caught(OpenAI.BadRequestError, chat(direct, { n: 0 }));
  assert.deepEqual([error.error, error.param], [plain.error, 'n']);
});

for (const [status, kind] of [
  [409, OpenAI.ConflictError],
  [422, OpenAI.UnprocessableEntityError],
  [503, OpenAI.InternalServerError],
]) {
  test(`other errors of the provider: ${status}`, async () => {
    await provider.scriptJson(status, { error: { message: 'No', type: 'theirs', param: 'x', code: 'their_code' } });
    assertError(await caught(kind, chat(client)), status, 'theirs', 'their_code', 'No');
  });
}

test("the provider's rate limit", async () => {
  const headers = { 'retry-after': '17', 'x-ratelimit-reset-requests': '17s', 'x-should-retry': 'true' };
  await provider.scriptJson(429, SLOW_DOWN, headers, { times: 0 });
  const error = await caught(OpenAI.RateLimitError, chat(client));
  assertError(error, 429, 'requests', 'rate_limit_exceeded', 'Slow down');
  for (const [name, value] of Object.entries(headers)) assert.equal(error.headers.get(name), value);
});

test('the SDK retries what it may', async () => {
  await provider.scriptJson(429, SLOW_DOWN, { 'retry-after-ms': '10' });
  assert.ok((await chat(clientOf(world.key, { maxRetries: 2 }))).choices[0].message.content);
  assert.equal((await provider.received()).length, 2);
});

test('the SDK does not retry what it is told not to', async () => {
  await provider.scriptJson(429, SLOW_DOWN, { 'x-should-retry': 'false' });
  await caught(OpenAI.RateLimitError, chat(clientOf(world.key, { maxRetries: 2 })));
  assert.equal((await provider.received()).length, 1);
});

test("the provider's own failure", async () => {
  const fixed = { status: 502, headers: [['content-type', 'text/html']], body: '<html>Bad gateway</html>' };
  await provider.script({ reply: { fixed }, times: 0 });
  const error = await caught(OpenAI.InternalServerError, chat(client));
  assert.ok(error.status === 502 && error.message.includes('<html>Bad gateway</html>'), error.message);
  await provider.forget();
  assert.ok((await chat(client)).choices);
});

for (const how of ['reset', 'close']) {
  test(`a provider that hangs up: ${how}`, async () => {
    await provider.script({ cut: { at: 'head', how }, times: 0 });
    const error = await caught(OpenAI.InternalServerError, chat(client));
    assertError(error, 502, 'server_error', 'upstream_error');
    assert.ok(!`${error}`.includes(new URL(world.provider).port));
  });
}

for (const fault of ['bad_status_line', 'bad_header_line']) {
  test(`a provider that answers no HTTP: ${fault}`, async () => {
    await provider.script({ fault, times: 0, after: 'silent_close' });
    assertError(await caught(OpenAI.InternalServerError, chat(client)), 502, 'server_error', 'upstream_error');
  });
}

test('a provider that is silent', async () => {
  await provider.script({ cut: { at: 'head', how: 'stall' }, times: 0 });
  assertError(await caught(OpenAI.InternalServerError, chat(client)), 504, 'server_error', 'upstream_timeout');
});

test('a client that does not wait', async () => {
  await provider.script({ cut: { at: 'head', how: 'stall' }, times: 0 });
  await caught(OpenAI.APIConnectionTimeoutError, chat(clientOf(world.key, { timeout: 500 })));
  await provider.seesTheClientLeave();
});

test('a gateway that is not there', async () => {
  const taken = createServer();
  await new Promise((resolve) => taken.listen(0, '127.0.0.1', resolve));
  const { port } = taken.address();
  await new Promise((resolve) => taken.close(resolve));
  await caught(OpenAI.APIConnectionError, chat(clientOf(world.key, { baseURL: `http://127.0.0.1:${port}/openai/v1` })));
});

test('a provider that is down', async () => {
  const error = await caught(OpenAI.InternalServerError, chat(clientOf(world.key, { provider: 'down' })));
  assertError(error, 502, 'server_error', 'upstream_error');
  assert.ok(!`${error}`.includes('127.0.0.1'));
});

test('a provider that refuses the managed key', async () => {
  const error = await caught(OpenAI.InternalServerError, chat(clientOf(world.key, { provider: 'wrongkey' })));
  assertError(error, 502, 'server_error', 'upstream_auth_error');
  assert.doesNotMatch(JSON.stringify(error.error), /sk-manag|Incorrect API key/);
});

for (const how of ['reset', 'close', 'stall']) {
  test(`a stream that breaks is an error: ${how}`, async () => {
    await provider.script({ cut: { at: { pieces: 4 }, how }, gap_ms: 20 });
    const chunks = [];
    const read = async () => {
      for await (const chunk of await chat(client, { stream: true })) chunks.push(chunk);
    };
    const error = await caught(OpenAI.APIError, read());
    // A reset may overtake the event that was sent just before it.
    assert.ok(chunks.length === 4 || (how === 'reset' && chunks.length === 3), `${chunks.length}`);
    const expected = how === 'stall' ? 'upstream_timeout' : 'upstream_error';
    assert.deepEqual([error.type, error.code], ['server_error', expected]);
  });
}

test('a whole answer that breaks is no answer', async () => {
  await provider.script({ cut: { at: { body: 20 }, how: 'close' }, times: 0 });
  await assert.rejects(chat(client));
});
