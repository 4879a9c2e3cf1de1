// dockerode: plugins and volumes through its classes, on node's own test runner.
//
// It reads DOCKER_HOST; CLIENTS_REGISTRY and CLIENTS_CONTEXT_TAR name a registry with plugins and a context of one.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const http = require('node:http');
const readline = require('node:readline');
const { afterEach, test } = require('node:test');
const Docker = require('dockerode');

const docker = new Docker();
const registry = process.env.CLIENTS_REGISTRY;
const one = `${registry}/plugins/tiny:1`;
const two = `${registry}/plugins/tiny:2`;

afterEach(async () => {
  for (const plugin of await docker.listPlugins()) await docker.getPlugin(plugin.Name).remove({ force: true });
  for (const volume of (await docker.listVolumes()).Volumes) await docker.getVolume(volume.Name).remove({ force: true });
});

// The lines of a stream of progress.
async function lines(stream) {
  const all = [];
  for await (const line of readline.createInterface({ input: stream })) all.push(JSON.parse(line));
  return all;
}

// Creates a plugin of the context; dockerode itself has no way to send one along with `createPlugin`.
function create(name) {
  const socketPath = process.env.DOCKER_HOST.replace('unix://', '');
  const path = `/plugins/create?name=${encodeURIComponent(name)}`;
  return new Promise((resolve, reject) => {
    const headers = { 'Content-Type': 'application/x-tar' };
    const request = http.request({ socketPath, path, method: 'POST', headers }, (answer) => {
      answer.resume().on('end', () => resolve(answer.statusCode));
    });
    fs.createReadStream(process.env.CLIENTS_CONTEXT_TAR).pipe(request.on('error', reject));
  });
}

async function install(name, remote = one) {
  const plugin = docker.getPlugin(name, remote);
  const privileges = await plugin.privileges();
  const said = await lines(await plugin.pull({ _query: {}, _body: privileges }));
  assert.deepStrictEqual(said.filter((line) => line.error), []);
  return plugin;
}

// Whether an error has this status, and these words.
const refused = (status, words) => (error) => error.statusCode === status && words.test(error.json.message);

test('a plugin is created, enabled, disabled and removed', async () => {
  assert.strictEqual(await create('made'), 204);
  const plugin = docker.getPlugin('made');
  assert.strictEqual((await plugin.inspect()).Enabled, false);
  await plugin.enable({ timeout: 30 });
  const [listed] = await docker.listPlugins({ filters: { enabled: ['true'] } });
  assert.strictEqual(listed.Name, 'made:latest');
  await plugin.disable();
  await plugin.remove();
  assert.deepStrictEqual(await docker.listPlugins(), []);
});

test('its createPlugin sends no context, which is an error', async () => {
  await assert.rejects(docker.createPlugin({ name: 'empty' }), (error) => error.statusCode >= 400);
  assert.deepStrictEqual(await docker.listPlugins(), []);
});

test('a plugin is installed with what it asks for, set and upgraded', async () => {
  const plugin = await install('installed');
  assert.deepStrictEqual(await plugin.privileges().then((all) => all.map((p) => p.Name)), ['network', 'capabilities']);
  await plugin.configure({ _body: ['DEBUG=1'] });
  assert.ok((await plugin.inspect()).Settings.Env.includes('DEBUG=1'));
  const asked = await docker.getPlugin(two).privileges();
  await plugin.upgrade(undefined, { _query: { remote: two }, _body: asked });
  const after = await plugin.inspect();
  assert.strictEqual(after.PluginReference, two);
  assert.ok(after.Settings.Env.includes('DEBUG=1'));
});

test('nothing is installed without consent', async () => {
  const stream = await docker.getPlugin('refused', one).pull({ _query: {}, _body: [] });
  assert.match((await lines(stream)).at(-1).error, /incorrect privileges/);
  assert.deepStrictEqual(await docker.listPlugins(), []);
});

test('a plugin is pushed', async () => {
  const full = `${registry}/pushed/by-dockerode:latest`;
  const plugin = await install(full);
  await plugin.push();
  await plugin.remove();
  await install(full, full);
});

test('a volume lives', async () => {
  await docker.createVolume({ Name: 'life', Labels: { a: 'b' } });
  const volume = docker.getVolume('life');
  assert.deepStrictEqual((await volume.inspect()).Labels, { a: 'b' });
  const names = async (filters) => (await docker.listVolumes({ filters })).Volumes.map((each) => each.Name);
  assert.deepStrictEqual(await names({ label: ['a=b'] }), ['life']);
  assert.deepStrictEqual(await names({ label: ['a=c'] }), []);
  assert.deepStrictEqual((await docker.df()).Volumes.map((each) => each.Name), ['life']);
  await volume.remove();
  await assert.rejects(volume.inspect(), refused(404, /no such volume/));
});

test('a volume of a plugin lives', async () => {
  const plugin = await install('driver');
  await plugin.enable({ timeout: 30 });
  await docker.createVolume({ Name: 'data', Driver: 'driver', DriverOpts: { size: '1' } });
  const inspected = await docker.getVolume('data').inspect();
  assert.deepStrictEqual([inspected.Driver, inspected.Status], ['driver:latest', { kept: 'here' }]);
  await docker.getVolume('data').remove();
});

test('volumes are pruned', async () => {
  await docker.createVolume({ Name: 'kept', Labels: { keep: 'yes' } });
  await docker.createVolume({ Name: 'gone' });
  const pruned = await docker.pruneVolumes({ filters: { all: ['true'], 'label!': ['keep=yes'] } });
  assert.deepStrictEqual(pruned.VolumesDeleted, ['gone']);
});

test('events come as things happen', async () => {
  const stream = await docker.getEvents({ filters: { volume: ['seen'] } });
  const input = readline.createInterface({ input: stream })[Symbol.asyncIterator]();
  await docker.createVolume({ Name: 'seen' });
  await docker.getVolume('seen').remove();
  for (const action of ['create', 'destroy']) {
    const event = JSON.parse((await input.next()).value);
    assert.deepStrictEqual([event.Type, event.Action, event.Actor.ID], ['volume', action, 'seen']);
  }
  stream.destroy();
});

test('errors carry status and words', async () => {
  const plugin = await install('taken');
  assert.strictEqual(await create('taken'), 409);
  await assert.rejects(docker.getPlugin('absent').inspect(), refused(404, /absent/));
  await assert.rejects(docker.getVolume('absent').remove(), refused(404, /no such volume/));
  await assert.rejects(docker.createVolume({ Name: 'a b' }), refused(400, /includes invalid characters/));
  await plugin.enable({ timeout: 30 });
  await assert.rejects(plugin.remove(), refused(409, /is enabled/));
  await assert.rejects(plugin.configure({ _body: ['DEBUG=1'] }), refused(409, /disable plugin before setting/));
});
