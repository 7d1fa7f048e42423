// The official OpenAI SDK for Node through the gateway: what it reads is what it reads from the provider directly.
// The cases are those of test_openai_sdk.py.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';

import OpenAI from 'openai';

import { MODEL, all, baseURL, client, direct, provider, question, sent, waitUntil, world } from './world.js';

const WEATHER = {
  type: 'function',
  function: {
    name: 'get_weather',
    parameters: {
      type: 'object',
      properties: { city: { type: 'string' }, unit: { type: 'string', enum: ['C', 'F'] } },
      required: ['city', 'unit'],
    },
  },
};

/** The answer to a question put both ways, once it is known to be the direct one. */
async function same(ask) {
  const [through, plain] = [await ask(client), await ask(direct)];
  assert.deepEqual(through, plain);
  return through;
}

const sameChat = (asked) => same((of) => of.chat.completions.create(asked));
const sameStream = (asked) => same(async (of) => all(await of.chat.completions.create({ ...asked, stream: true })));

test('models', async () => {
  const models = await same(async (of) => all(of.models.list()));
  assert.ok(models.some((model) => model.id === MODEL));
  await same((of) => of.models.retrieve(MODEL));
});

test('chat', async () => {
  const chat = await sameChat({ model: MODEL, messages: question() });
  assert.ok(chat.choices[0].message.content.startsWith('This is the built-in demo provider.'));
  assert.equal(chat.choices[0].finish_reason, 'stop');
  assert.equal(chat.usage.total_tokens, chat.usage.prompt_tokens + chat.usage.completion_tokens);
});

test('chat with several choices and a ceiling', async () => {
  const chat = await sameChat({ model: MODEL, messages: question(), n: 3, max_completion_tokens: 5 });
  assert.deepEqual(chat.choices.map((choice) => choice.finish_reason), ['length', 'length', 'length']);
});

test('stream', async () => {
  const chunks = await sameStream({ model: MODEL, messages: question() });
  const whole = await client.chat.completions.create({ model: MODEL, messages: question() });
  const text = chunks.map((chunk) => chunk.choices[0].delta.content ?? '').join('');
  assert.equal(text, whole.choices[0].message.content);
  assert.ok(chunks.every((chunk) => !('usage' in chunk)));
});

for (const include_usage of [true, false]) {
  test(`stream with usage: include_usage ${include_usage}`, async () => {
    const chunks = await sameStream({ model: MODEL, messages: question(), stream_options: { include_usage } });
    const last = chunks.at(-1);
    if (include_usage) {
      assert.deepEqual([last.choices, last.usage.completion_tokens], [[], chunks.length - 3]);
      assert.ok(chunks.slice(0, -1).every((chunk) => chunk.usage === null));
    } else {
      assert.ok(chunks.every((chunk) => !('usage' in chunk)));
    }
  });
}

test("the SDK's own helper for streams", async () => {
  const stream = client.chat.completions.stream({ model: MODEL, messages: question() });
  const plain = await direct.chat.completions.create({ model: MODEL, messages: question() });
  assert.equal(await stream.finalContent(), plain.choices[0].message.content);
});

test('the events of a stream arrive one by one', async () => {
  await provider.script({ words: 4, gap_ms: 200 });
  const stream = await client.chat.completions.create({ model: MODEL, messages: question(), stream: true });
  const arrived = [];
  for await (const _ of stream) arrived.push(performance.now());
  assert.equal(arrived.length, 6);
  const gaps = arrived.slice(1).map((later, index) => later - arrived[index]);
  assert.ok(Math.min(...gaps) > 50, `${gaps}`);
});

test('tools', async () => {
  const asked = { model: MODEL, messages: question(), tools: [WEATHER] };
  const chat = await sameChat({ ...asked, tool_choice: 'required' });
  const [call] = chat.choices[0].message.tool_calls;
  assert.deepEqual([chat.choices[0].finish_reason, call.function.name], ['tool_calls', 'get_weather']);
  assert.equal(JSON.parse(call.function.arguments).unit, 'C');
  const messages = [
    ...question('get_weather, please'),
    { role: 'assistant', tool_calls: [call] },
    { role: 'tool', tool_call_id: call.id, content: 'rain' },
  ];
  assert.ok((await sameChat({ ...asked, messages })).choices[0].message.content);
});

test('tools streamed', async () => {
  const chunks = await sameStream({ model: MODEL, messages: question('Call get_weather'), tools: [WEATHER] });
  const calls = chunks.flatMap((chunk) => chunk.choices[0].delta.tool_calls ?? []);
  assert.ok(calls[0].id && calls[0].function.name === 'get_weather' && calls.length > 3);
  const spoken = JSON.parse(calls.map((call) => call.function.arguments).join(''));
  assert.deepEqual(Object.keys(spoken).sort(), ['city', 'unit']);
});

test('completions', async () => {
  const asked = { model: 'gpt-3.5-turbo-instruct', prompt: 'Once upon', max_tokens: 8 };
  const through = await same((of) => of.completions.create(asked));
  const streamed = await all(await client.completions.create({ ...asked, stream: true }));
  assert.equal(streamed.map((chunk) => chunk.choices[0].text).join(''), through.choices[0].text);
});

test('embeddings', async () => {
  const asked = { model: 'text-embedding-3-small', input: ['one', 'two'], dimensions: 64 };
  const encoded = await same((of) => of.embeddings.create(asked));
  const plain = await same((of) => of.embeddings.create({ ...asked, encoding_format: 'float' }));
  for (const [index, { embedding }] of encoded.data.entries()) {
    assert.equal(embedding.length, 64);
    assert.ok(embedding.every((x, at) => Math.abs(x - plain.data[index].embedding[at]) < 1e-6));
  }
});

test('images', async () => {
  const images = await same((of) => of.images.generate({ model: 'gpt-image-1', prompt: 'a bridge', n: 2 }));
  assert.equal(images.data.length, 2);
  assert.ok(images.data[0].b64_json.startsWith('iVBORw0KGgo'));
});

test('responses', async () => {
  const asked = { model: MODEL, input: 'Where does the river go?' };
  const response = await same((of) => of.responses.create(asked));
  assert.ok(response.status === 'completed' && response.output_text);
  const events = await same(async (of) => all(await of.responses.create({ ...asked, stream: true })));
  const deltas = events.filter((event) => event.type === 'response.output_text.delta').map((event) => event.delta);
  assert.equal(events.at(-1).type, 'response.completed');
  assert.equal(deltas.join(''), response.output_text);
});

test('headers of an answer', async () => {
  const asked = { model: MODEL, messages: question() };
  const { headers } = await client.chat.completions.create(asked).asResponse();
  const { headers: upstream } = await direct.chat.completions.create(asked).asResponse();
  assert.ok(headers.get('x-request-id') && headers.get('x-request-id') !== upstream.get('x-request-id'));
  assert.equal(headers.get('x-upstream-request-id'), upstream.get('x-request-id'));
  assert.equal(headers.get('provider-name'), 'openai');
  assert.match(headers.get('provider-response-time'), /^\d+$/);
  assert.ok(upstream.has('set-cookie') && !headers.has('set-cookie'));
  const passing = [...upstream.keys()].filter((name) => /^(openai-|x-ratelimit-|content-type$)/.test(name));
  assert.ok(passing.length > 6);
  for (const name of passing) assert.equal(headers.get(name), upstream.get(name), name);
});

test("headers of a stream and the SDK's request id", async () => {
  const asked = { model: MODEL, messages: question() };
  const { data, response } = await client.chat.completions.create({ ...asked, stream: true }).withResponse();
  assert.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8');
  assert.equal(response.headers.get('provider-name'), 'openai');
  await all(data);
  const [chat, again] = [await client.chat.completions.create(asked), await client.chat.completions.create(asked)];
  assert.ok(chat._request_id && chat._request_id !== again._request_id);
});

test('what goes upstream', async () => {
  const headers = { 'OpenAI-Organization': 'org-1', Cookie: 'a=b', 'On-Behalf-Of': 'somebody' };
  const asked = { model: MODEL, messages: question('ümlaut 🦊') };
  await client.chat.completions.create(asked, { headers, query: { q: '1' } });
  const [call] = await provider.received();
  assert.equal(call.target, '/v1/chat/completions?q=1');
  assert.equal(sent(call, 'authorization'), `Bearer ${world.providerKey}`);
  assert.equal(sent(call, 'host'), new URL(world.provider).host);
  assert.equal(sent(call, 'openai-organization'), 'org-1');
  assert.ok(sent(call, 'user-agent').startsWith('OpenAI/JS'));
  assert.equal(sent(call, 'cookie'), undefined);
  assert.ok(!JSON.stringify(call.headers).includes(world.key));
});

test('a body passes byte for byte', async () => {
  const body = '{ "x": 1.0,\n "big":12345678901234567890, "messages":[{"role":"user","content":"\\u00e9 é"}], "model":"gpt-4o" }';
  const post = async (url, key) => {
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
    const answer = await fetch(`${url}/chat/completions`, { method: 'POST', body, headers });
    return [answer.status, await answer.text()];
  };
  assert.deepEqual(await post(baseURL(), world.key), await post(`${world.provider}/v1`, world.providerKey));
  const digest = createHash('sha256').update(body).digest('hex');
  assert.deepEqual((await provider.received()).map((call) => call.body_sha256), [digest, digest]);
});

for (const [name, script] of [['busy', { words: 2000 }], ['silent', { cut: { at: { pieces: 3 }, how: 'stall' } }]]) {
  test(`cancelling a stream cancels it upstream: ${name}`, async () => {
    await provider.script({ gap_ms: 20, ...script });
    const stream = await client.chat.completions.create({ model: MODEL, messages: question(), stream: true });
    let seen = 0;
    for await (const _ of stream) if (++seen === 3) break;
    await provider.seesTheClientLeave();
  });
}

test('cancelling before the first byte cancels it upstream', async () => {
  await provider.script({ delay_ms: 2500 });
  const abort = new AbortController();
  const asked = { model: MODEL, messages: question() };
  const call = client.chat.completions.create(asked, { signal: abort.signal });
  const refused = assert.rejects(call, OpenAI.APIUserAbortError);
  await waitUntil(async () => (await provider.received()).length === 1, 'the request arrives');
  abort.abort();
  await refused;
  await provider.seesTheClientLeave();
});

test('a prompt of 5 MB', async () => {
  const chat = await sameChat({ model: MODEL, messages: question('wörd '.repeat(1_000_000)) });
  assert.ok(chat.usage.prompt_tokens > 1_000_000);
  const [through, plain] = await provider.received();
  assert.ok(through.body_length > 5_000_000);
  assert.equal(through.body_sha256, plain.body_sha256);
});

test('fifty streams at once', async () => {
  await provider.script({ times: 0, gap_ms: 5 });
  const ask = async (of, index) => {
    const asked = { model: MODEL, messages: question(`stream ${index}`), stream: true };
    return all(await of.chat.completions.create(asked));
  };
  const streams = await same((of) => Promise.all(Array.from({ length: 50 }, (_, index) => ask(of, index))));
  assert.equal(new Set(streams.map((stream) => JSON.stringify(stream))).size, 50);
});
