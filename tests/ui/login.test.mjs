import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { Cluster } from './cluster.mjs';
import { Visitor, launch } from './browser.mjs';

let cluster, browser;
before(async () => {
  cluster = await Cluster.start({ workers: ['worker-1'] });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await cluster?.stop();
});

test('without a token every path but health and the login page answers 401', async () => {
  const paths = ['/', '/jobs', '/jobs/1', '/nodes/worker-1', '/try', '/ui/x/style.css', '/ui/x/page.js', '/live/overview', '/live/jobs/1', '/ui/jobs/1/results', '/v1/jobs', '/v1/events', '/v1/cluster', '/v1/jobs/1/shards', '/v1/jobs/1/attempts', '/v1/jobs/1/detail', '/v1/nodes/worker-1/attempts', '/nowhere'];
  for (const path of paths) {
    const answer = await cluster.fetch(path, { token: null });
    assert.equal(answer.status, 401, path);
    const page = await cluster.fetch(path, { token: null, headers: { accept: 'text/html' } });
    assert.equal(page.status, 401, path);
    assert.match(await page.text(), /name="token"/, path);
  }
  for (const path of ['/healthz', '/login']) assert.equal((await cluster.fetch(path, { token: null })).status, 200, path);
});

test('a wrong token is told so, a right one opens the overview, and logging out closes it', async () => {
  const visitor = await Visitor.open(browser, cluster.origin);
  const { page } = visitor;
  await page.goto('/');
  visitor.expected(/401/);
  await page.getByLabel('Token').fill('not-a-token');
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('alert').filter({ hasText: 'not one of this cluster' }).waitFor();
  visitor.expected(/401/);
  await page.getByLabel('Token').fill(cluster.token);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('heading', { name: 'Cluster', exact: true }).waitFor();
  assert.equal(new URL(page.url()).pathname, '/');
  // The cookie is out of the reach of scripts, and the token is nowhere.
  assert.ok(!(await page.evaluate(() => document.cookie)).includes('quipu_session'));
  assert.ok(!(await page.content()).includes(cluster.token));
  await page.getByRole('button', { name: 'Log out' }).click();
  await page.getByLabel('Token').waitFor();
  const answer = await page.goto('/jobs');
  assert.equal(answer.status(), 401);
  visitor.expected(/401/);
  await visitor.close();
});

test('every page has a strict policy and stays out of caches', async () => {
  for (const path of ['/', '/jobs', '/try', '/nodes/worker-1', '/jobs/99']) {
    const answer = await cluster.fetch(path);
    const policy = answer.headers.get('content-security-policy');
    assert.match(policy, /default-src 'none'/, path);
    assert.match(policy, /script-src 'self';/, path);
    assert.doesNotMatch(policy, /unsafe/, path);
    assert.equal(answer.headers.get('cache-control'), 'no-store', path);
  }
});
