import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { Cluster, sampleSpec } from './cluster.mjs';
import { Visitor, launch } from './browser.mjs';

let cluster, browser, job;
before(async () => {
  cluster = await Cluster.start({ workers: ['worker-1'] });
  browser = await launch();
  job = await cluster.submit(sampleSpec(1_000_000_000_000, { name: 'somebody else’s' }));
});
after(async () => {
  await browser?.close();
  await cluster?.stop();
});

async function asRole(role, namespace) {
  return (await Visitor.open(browser, cluster.origin)).logIn(await cluster.newToken(`${role}-${namespace ?? 'all'}`, role, namespace));
}

/** Asks the API from within the page, as a button would. */
const ask = (page, method, path, body) => page.evaluate(async ([method, path, body]) => {
  const options = body ? { method, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) } : { method };
  return (await fetch(path, options)).status;
}, [method, path, body]);

test('who may read sees no button that changes anything, and a write gives 403', async () => {
  const visitor = await asRole('read');
  const { page } = visitor;
  for (const path of ['/', `/jobs/${job}`, '/jobs', '/nodes/worker-1', '/try']) {
    await page.goto(path);
    await page.getByRole('heading', { level: 1 }).waitFor();
    assert.equal(await page.locator('[data-action]').count(), 0, path);
  }
  await page.getByText('This token may look and check, but not run').waitFor();
  assert.equal(await page.locator('#run').count(), 0);
  // Checking changes nothing.
  await page.getByLabel('Formula', { exact: true }).fill('1 + 2.5');
  await page.locator('#verdict', { hasText: 'float' }).waitFor();
  for (const [method, path, body] of [
    ['POST', `/v1/jobs/${job}:cancel`], ['POST', `/v1/jobs/${job}:retry`], ['DELETE', `/v1/jobs/${job}`],
    ['POST', '/v1/nodes/worker-1:drain'], ['POST', '/v1/jobs', { kind: { eval: { formulas: ['1'] } } }], ['POST', '/v1/eval', { formula: '1' }],
  ]) {
    assert.equal(await ask(page, method, path, body), 403, `${method} ${path}`);
    visitor.expected(/403/);
  }
  assert.equal((await cluster.job(job)).state, 'running');
  await visitor.close();
});

test('who may submit runs and cancels, and does not drain', async () => {
  const visitor = await asRole('submit');
  const { page } = visitor;
  await page.goto(`/jobs/${job}`);
  await page.getByRole('button', { name: 'Cancel' }).waitFor();
  await page.goto('/nodes/worker-1');
  await page.getByRole('heading', { name: 'worker-1' }).waitFor();
  assert.equal(await page.getByRole('button', { name: 'Drain' }).count(), 0);
  await page.goto('/try');
  await page.getByLabel('Formula', { exact: true }).fill('6 * 7');
  await page.getByRole('button', { name: 'Evaluate' }).click();
  await page.locator('#value', { hasText: '42' }).waitFor();
  await visitor.close();
});

test('who is kept to a namespace sees nothing of the others', async () => {
  const visitor = await asRole('submit', 'team-a');
  const { page } = visitor;
  await page.goto('/');
  await page.locator('#link[data-state="live"]').waitFor();
  await page.getByText('Nothing runs at this moment.').waitFor();
  assert.ok(!(await page.content()).includes('somebody else'));
  await page.goto('/jobs');
  await page.getByText('No job has been submitted yet.').waitFor();
  assert.equal((await page.goto(`/jobs/${job}`)).status(), 404);
  visitor.expected(/404/);
  for (const path of [`/v1/jobs/${job}/shards`, `/v1/jobs/${job}/attempts`, `/v1/jobs/${job}/detail`, `/live/jobs/${job}`, `/ui/jobs/${job}/results`]) {
    assert.equal(await ask(page, 'GET', path), 404, path);
    visitor.expected(/404/);
  }
  await page.goto('/nodes/worker-1');
  await page.getByText('Nothing was leased to this node').waitFor();
  const token = await cluster.newToken('team-a-2', 'submit', 'team-a');
  const own = await cluster.submit(sampleSpec(1_000_000_000_000, { name: 'our own' }), token);
  await page.goto('/');
  await page.getByRole('link', { name: 'our own' }).waitFor();
  await page.goto(`/jobs/${own}`);
  await page.getByRole('button', { name: 'Cancel' }).waitFor();
  await visitor.close();
});
